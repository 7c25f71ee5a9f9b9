//! What pages name in passing: commands in a sentence, variables, keys.

use std::{collections::BTreeSet, fs};

use worker_config::settings;
use worker_tests::{files::root, program::Program};

use crate::{PROGRAM, commands::pages};

/// Variables that are ours and no settings.
const OTHER_VARIABLES: [&str; 2] = ["WORKER_CONFIG", "WORKER_TESTS_WRITE"];

#[test]
fn each_command_that_a_sentence_names_exists_with_its_flags() {
    let program = Program::new(PROGRAM);
    let mut asked = BTreeSet::new();
    for (path, text) in pages() {
        for span in spans(&text) {
            let Some(rest) = span.strip_prefix("worker ") else {
                continue;
            };
            // What is in brackets may be left out, and is a flag all the same.
            let plain = rest.replace(['[', ']', '…'], " ");
            // A number stands as `N`.
            let words = plain
                .split_whitespace()
                .map(|word| if word == "N" { "1" } else { word });
            let mut words: Vec<String> = words.map(str::to_owned).collect();
            words.push("--help".to_owned());
            if asked.insert(words.clone()) {
                let said = program.run(&words);
                assert_eq!(said.code(), 0, "{path} names `{span}`: {said}");
            }
        }
    }
    assert!(asked.len() > 10, "too few: {asked:?}");
}

#[test]
fn each_variable_that_a_page_names_is_read() {
    let reference = settings::reference();
    let known: BTreeSet<&str> = reference
        .iter()
        .flat_map(|key| key.variables.iter().map(String::as_str))
        .chain(OTHER_VARIABLES)
        .collect();
    for (path, text) in pages() {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("WORKER_") && !word.ends_with('_')) {
            assert!(
                known.contains(word),
                "{path} names {word}, which nothing reads"
            );
        }
    }
}

#[test]
fn each_key_that_a_page_names_exists() {
    let reference = settings::reference();
    let sections: BTreeSet<&str> = reference.iter().map(|key| key.section).collect();
    let known: BTreeSet<String> = reference
        .iter()
        .map(|key| format!("{}.{}", key.section, key.name))
        .collect();
    let folders: Vec<String> = sections
        .iter()
        .map(|section| format!("{section}."))
        .collect();
    for (path, text) in pages() {
        // The chart's values begin with the same word as one of our sections.
        if path.starts_with("deploy/helm") || path.ends_with("migration.md") {
            continue;
        }
        for span in spans(&text) {
            let id = span.split([' ', '=']).next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_lowercase() || "._".contains(c);
            let ours = folders.iter().any(|folder| id.starts_with(folder));
            let file = root().join("worker/src").join(id).exists()
                || [".toml", ".env", ".conf"]
                    .iter()
                    .any(|ending| id.ends_with(ending));
            if ours && !file && id.chars().all(plain) && id.matches('.').count() == 1 {
                assert!(
                    known.contains(id),
                    "{path} names the setting {id}, which there is not"
                );
            }
        }
    }
}

#[test]
fn the_page_of_settings_is_where_readers_are_sent() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is one");
    for page in ["docs/configuration.md", "docs/command-line.md"] {
        assert!(readme.contains(page), "README.md does not lead to {page}");
    }
}

// === functions ===

/// What stands in backticks in sentences and tables.
fn spans(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}
