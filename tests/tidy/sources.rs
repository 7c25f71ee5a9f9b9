//! How a source file looks: documented, not too long, no test that does not count, tasks started in one place.

use crate::{
    Finding, assert_none,
    tree::{self, SourceFile},
};

/// Past this many lines a file has more than one duty. Test code may be longer.
const MOST_LINES: usize = 600;

/// Attributes that let a test pass without having shown anything.
const EMPTY_TESTS: [&str; 2] = ["#[ignore", "#[should_panic"];

/// What starts a task or thread that nobody owns.
const SPAWNS: [&str; 6] = [
    "tokio::spawn",
    "tokio::task::spawn(",
    "tokio::task::spawn_local",
    "Handle::current().spawn",
    "thread::spawn",
    "use tokio::task::spawn;",
];

#[test]
fn each_file_says_what_it_is_for() {
    check(lacks_module_doc);
}

#[test]
fn no_file_is_too_long() {
    check(is_too_long);
}

#[test]
fn each_test_counts() {
    check(has_empty_test);
}

#[test]
fn tasks_are_started_in_one_place() {
    check(spawns);
}

#[test]
fn no_module_is_called_mod() {
    check(is_called_mod);
}

#[test]
fn each_loose_end_has_an_issue() {
    for file in tree::all() {
        assert_none(&has_loose_end(&file));
    }
}

#[track_caller]
fn check(rule: fn(&SourceFile) -> Vec<Finding>) {
    let findings: Vec<Finding> = tree::rust().iter().flat_map(rule).collect();
    assert_none(&findings);
}

// === rules ===

/// A `tests.rs` is named after the file it stands beside, and needs no further word.
fn lacks_module_doc(file: &SourceFile) -> Vec<Finding> {
    if file.path.ends_with("/tests.rs") {
        return vec![];
    }
    let first = file
        .text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!["));
    match first {
        Some(line)
            if line
                .strip_prefix("//!")
                .is_some_and(|doc| !doc.trim().is_empty()) =>
        {
            vec![]
        }
        _ => vec![Finding::new(
            &file.path,
            1,
            "begins without `//!` and a sentence that says what the file is for",
        )],
    }
}

fn is_too_long(file: &SourceFile) -> Vec<Finding> {
    let lines = file.text.lines().count();
    if lines <= MOST_LINES || tree::is_test(&file.path) {
        return vec![];
    }
    vec![Finding::new(
        &file.path,
        MOST_LINES + 1,
        format!("has {lines} lines; a file has at most {MOST_LINES}, so split it by duty"),
    )]
}

fn has_empty_test(file: &SourceFile) -> Vec<Finding> {
    matching_lines(file, |line| {
        EMPTY_TESTS
            .iter()
            .find(|attribute| line.trim_start().starts_with(**attribute))
            .map(|attribute| {
                format!("{attribute}] is a test that shows nothing: assert what happens")
            })
    })
}

fn spawns(file: &SourceFile) -> Vec<Finding> {
    if file.path.ends_with("/task.rs") || tree::is_test(&file.path) {
        return vec![];
    }
    matching_lines(file, |line| {
        let code = tree::code(line);
        SPAWNS
            .iter()
            .find(|call| code.contains(**call))
            .map(|call| {
                format!("{call} starts what nobody owns; only task.rs starts tasks, under a name")
            })
    })
}

fn is_called_mod(file: &SourceFile) -> Vec<Finding> {
    if !file.path.ends_with("/mod.rs") {
        return vec![];
    }
    vec![Finding::new(
        &file.path,
        0,
        "a module `foo` is in foo.rs, and what is below it in foo/",
    )]
}

/// Marks of unfinished work that name no issue. The marks are put together here, or this file would find itself.
fn has_loose_end(file: &SourceFile) -> Vec<Finding> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    matching_lines(file, |line| {
        marks.iter().find_map(|mark| {
            let (before, after) = line.split_once(mark)?;
            let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let inside_word = before.ends_with(part_of_word) || after.starts_with(part_of_word);
            let number = after
                .strip_prefix("(#")
                .and_then(|rest| rest.split_once(')'));
            let has_issue = number
                .is_some_and(|(id, _)| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
            (!inside_word && !has_issue)
                .then(|| format!("{mark} without an issue: write {mark}(#12) or do it now"))
        })
    })
}

// === functions ===

fn matching_lines(file: &SourceFile, judge: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    file.text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some(Finding::new(&file.path, index + 1, judge(line)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        has_empty_test, has_loose_end, is_called_mod, is_too_long, lacks_module_doc, spawns,
    };
    use crate::tree::SourceFile;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_file_without_a_doc_is_found() {
        assert!(lacks_module_doc(&file("a.rs", "#![x]\n\n//! Says it.\n")).is_empty());
        for text in ["", "use std::fs;\n", "// Not a doc.\n", "//!\nuse x;\n"] {
            assert_eq!(lacks_module_doc(&file("a.rs", text)).len(), 1, "{text:?}");
        }
        assert!(lacks_module_doc(&file("a/tests.rs", "use x;\n")).is_empty());
    }

    #[test]
    fn a_long_file_is_found_unless_it_is_a_test() {
        let text = "x\n".repeat(601);
        assert_eq!(is_too_long(&file("worker/src/a.rs", &text)).len(), 1);
        assert!(is_too_long(&file("worker/src/a/tests.rs", &text)).is_empty());
        assert!(is_too_long(&file("worker/src/a.rs", &text[2..])).is_empty());
    }

    #[test]
    fn a_test_that_does_not_count_is_found() {
        let found = has_empty_test(&file(
            "a.rs",
            "#[test]\n    #[ignore = \"slow\"]\n#[should_panic]\n",
        ));
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn a_task_without_an_owner_is_found() {
        let text = "tokio::spawn(f);\nlet t = std::thread::spawn(f);\n// tokio::spawn\ntask::spawn(\"a\", f);\n";
        let found = spawns(&file("worker/src/a.rs", text));
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2]);
        assert!(spawns(&file("worker/src/task.rs", text)).is_empty());
    }

    #[test]
    fn a_module_called_mod_is_found() {
        assert_eq!(is_called_mod(&file("worker/src/a/mod.rs", "")).len(), 1);
        assert!(is_called_mod(&file("worker/src/a.rs", "")).is_empty());
    }

    #[test]
    fn a_loose_end_without_an_issue_is_found() {
        let mark = concat!("TO", "DO");
        assert_eq!(
            has_loose_end(&file("a", &format!("x\n# {mark}: later"))).len(),
            1
        );
        assert_eq!(
            has_loose_end(&file("a", &format!("// {mark}(soon)"))).len(),
            1
        );
        assert!(has_loose_end(&file("a", &format!("// {mark}(#12): later"))).is_empty());
        assert!(has_loose_end(&file("a", &format!("mktemp {mark}X"))).is_empty());
    }
}
