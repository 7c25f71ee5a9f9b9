//! What documents point at exists, and nothing points at the machine it was written on.

use std::path::Path;

use worker_tests::files::root;

use crate::{
    Finding, assert_none,
    tree::{self, SourceFile},
};

/// Endings by which a word in backticks is taken for a file.
const EXTENSIONS: [&str; 9] = [
    "rs", "toml", "md", "yaml", "yml", "json", "sh", "py", "lock",
];

/// Files of those who use the program: named in documents, but not here.
const NOT_OURS: [&str; 2] = ["worker.toml", "profiles.toml"];

/// Documents that must be there.
const NEEDED: [&str; 6] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "config/reference.toml",
];

#[test]
fn the_documents_that_people_look_for_exist() {
    let missing: Vec<Finding> = NEEDED
        .iter()
        .filter(|file| !root().join(file).is_file())
        .map(|file| Finding::new(file, 0, "is missing"))
        .collect();
    assert_none(&missing);
}

#[test]
fn each_file_that_the_architecture_names_exists() {
    let files = tree::all();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let document = files
        .iter()
        .find(|file| file.path == "ARCHITECTURE.md")
        .expect("ARCHITECTURE.md exists");
    assert_none(&names_missing_file(document, &paths));
}

#[test]
fn each_link_in_a_document_leads_somewhere() {
    let exists = |path: &str| root().join(path).exists();
    let findings: Vec<Finding> = tree::all()
        .iter()
        .filter(|file| tree::has_extension(&file.path, "md"))
        .flat_map(|file| has_dead_link(file, exists))
        .collect();
    assert_none(&findings);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let mut paths = vec![root().display().to_string()];
    // The administrator's home is the same everywhere, so it gives no machine away.
    if let Some(home) = std::env::var("HOME").ok().filter(|home| home != "/root") {
        paths.push(format!("{home}/"));
    }
    let findings: Vec<Finding> = tree::all()
        .iter()
        .flat_map(|file| names_machine(file, &paths))
        .collect();
    assert_none(&findings);
}

// === rules ===

/// Files that a document names in backticks and that are nowhere.
fn names_missing_file(document: &SourceFile, paths: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in prose_lines(&document.text) {
        for name in line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| looks_like_path(name))
        {
            let name = name.trim_end_matches('/');
            if NOT_OURS.contains(&name) {
                continue;
            }
            let known = paths.iter().any(|path| {
                let parents = Path::new(path).ancestors();
                parents.into_iter().any(|part| part.ends_with(name))
            });
            if !known {
                findings.push(Finding::new(
                    &document.path,
                    number,
                    format!("`{name}` does not exist"),
                ));
            }
        }
    }
    findings
}

/// Links of a document to files that do not exist; `exists` is asked with a path relative to the root.
fn has_dead_link(document: &SourceFile, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (number, line) in prose_lines(&document.text) {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if target.is_empty() || elsewhere {
                continue;
            }
            if !exists(&folder.join(target).display().to_string()) {
                findings.push(Finding::new(
                    &document.path,
                    number,
                    format!("links to {target}, which does not exist"),
                ));
            }
        }
    }
    findings
}

/// Paths that only the machine has which the line was written on.
fn names_machine(file: &SourceFile, paths: &[String]) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let path = paths.iter().find(|path| line.contains(*path))?;
            Some(Finding::new(
                &file.path,
                index + 1,
                format!("names {path}, which other machines do not have"),
            ))
        })
        .collect()
}

// === functions ===

/// Whether what stands in backticks is a path of this repository, and not a command, a route or a type.
fn looks_like_path(word: &str) -> bool {
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let has_extension = EXTENSIONS
        .iter()
        .any(|extension| tree::has_extension(word, extension));
    plain && !word.starts_with(['/', '-', '.']) && (word.contains('/') || has_extension)
}

/// The lines of a document that are not in a code block, with their numbers.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        (!in_code).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::{has_dead_link, names_machine, names_missing_file};
    use crate::tree::SourceFile;

    fn document(text: &str) -> SourceFile {
        SourceFile {
            path: "docs/a.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_named_file_that_is_not_there_is_found() {
        let paths = ["worker/src/run.rs", "Cargo.toml"];
        let text = "`run.rs` and `worker/src` and `worker/src/`, `src/run.rs`, `GET /x`, `/livez`, `a::b`\n`gone.rs`, `worker/gone`\n```\n`not/read`\n```\n";
        let found = names_missing_file(&document(text), &paths);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "docs/a.md:2: `gone.rs` does not exist",
                "docs/a.md:2: `worker/gone` does not exist"
            ]
        );
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](there.md) [b](https://x.y/z) [c](#here)\n[d](gone.md#part)\n";
        let found = has_dead_link(&document(text), |path| path == "docs/there.md");
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "docs/a.md:2: links to gone.md, which does not exist"
        );
    }

    #[test]
    fn a_path_of_the_machine_is_found() {
        let paths = ["/check/out".to_owned(), "/houses/mine/".to_owned()];
        let found = names_machine(
            &document("fine\nsee /houses/mine/x\nin /check/out/tests\n"),
            &paths,
        );
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3]);
    }
}
