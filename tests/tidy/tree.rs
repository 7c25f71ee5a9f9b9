//! The files that rules are held against.

use std::{
    fs,
    path::{Path, PathBuf},
};

use worker_tests::files::root;

/// A text file of this repository.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Its path, relative to the root, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// Directories that hold what tools made. Hidden ones are not entered either, but for those in [`HIDDEN_BUT_OURS`].
const MADE: [&str; 2] = ["target", "__pycache__"];

/// Hidden directories that we wrote.
const HIDDEN_BUT_OURS: [&str; 2] = [".ci", ".config"];

/// Every text file of the repository, in order of path.
pub(crate) fn all() -> Vec<SourceFile> {
    let root = root();
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut files: Vec<SourceFile> = paths
        .iter()
        .filter_map(|path| {
            let relative = path
                .strip_prefix(&root)
                .expect("it was found below the root");
            Some(SourceFile {
                path: relative.display().to_string(),
                text: String::from_utf8(fs::read(path).ok()?).ok()?,
            })
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Every Rust file, in order of path.
pub(crate) fn rust() -> Vec<SourceFile> {
    let mut files = all();
    files.retain(|file| has_extension(&file.path, "rs"));
    assert!(files.len() > 10, "the sources were not found");
    files
}

/// Whether a path ends in that extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == extension)
}

/// Whether a file is test code: a `tests.rs`, or anything below a folder named `tests`.
pub(crate) fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

/// What of a line is code: without its comment and without what is inside its strings.
pub(crate) fn code(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' if in_string => drop(characters.next()),
            // The quote of a character literal opens no string.
            '"' if !code.ends_with('\'') => {
                in_string = !in_string;
                code.push(c);
            }
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => code.push(c),
        }
    }
    code
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", directory.display()));
    for entry in entries {
        let path = entry
            .expect("a directory that was opened can be listed")
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() {
            paths.push(path);
        } else if HIDDEN_BUT_OURS.contains(&&*name)
            || !(name.starts_with('.') || MADE.contains(&&*name))
        {
            collect(&path, paths);
        }
    }
}

#[test]
fn code_is_told_from_strings_and_comments() {
    assert_eq!(
        code("let a = \"x \\\" // y\" + z; // b"),
        "let a = \"\" + z; "
    );
    assert_eq!(code("c == '\"' || d // e"), "c == '\"' || d ");
}

#[test]
fn test_code_is_told_from_the_rest() {
    assert!(is_test("worker/src/run/tests.rs"));
    assert!(is_test("tests/src/lib.rs"));
    assert!(is_test("worker/server/tests/orchestration.rs"));
    assert!(!is_test("worker/src/run.rs"));
    assert!(!is_test("drivers/src/conformance.rs"));
}
