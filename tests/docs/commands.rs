//! The commands of each page: typed here, typed by another suite, or named below with the reason why nobody types them.

use std::{collections::BTreeMap, fs, path::Path};

use worker_tests::{
    files::root,
    page::{Command, Page},
    reader::Reader,
};

use crate::PROGRAM;

/// Pages that tell how to change this project rather than how to use it: who follows them runs these tests.
const FOR_US: [&str; 2] = ["CONTRIBUTING.md", "ARCHITECTURE.md"];

/// Pages that another suite follows.
const ELSEWHERE: [(&str, &str); 6] = [
    ("examples/hello/README.md", "tests/live/pages.rs"),
    ("examples/flow/README.md", "tests/live/pages.rs"),
    ("examples/cancel/README.md", "tests/live/pages.rs"),
    ("examples/fails/README.md", "tests/live/pages.rs"),
    ("examples/docker/README.md", "tests/docker/pages.rs"),
    ("deploy/systemd/README.md", "tests/systemd/check"),
];

/// Commands that no test types, by how they begin, and why.
const NOT_TYPED: [(&str, &str); 10] = [
    ("./tests/run", "it runs this test"),
    (
        "cargo install",
        "a build of minutes; what it builds is what the tests run",
    ),
    (
        "docker build --file deploy/docker/Dockerfile",
        "a build of minutes in a container, with images from elsewhere",
    ),
    (
        "docker run --detach --restart unless-stopped",
        "it needs that image",
    ),
    ("export DOCKER_GROUP=", "it is for the next one"),
    (
        "docker compose",
        "its images come from elsewhere; tests/docs/compose.rs holds what the file says",
    ),
    (
        "kubectl create secret",
        "it needs a cluster; tests/helm installs the chart on one",
    ),
    (
        "helm install",
        "it needs a cluster; tests/helm installs the chart on one",
    ),
    (
        "helm get values",
        "it needs a release; tests/helm upgrades one with its values",
    ),
    (
        "helm upgrade",
        "it needs a release; tests/helm/takeover.rs upgrades one",
    ),
];

#[test]
fn each_page_does_what_it_says() {
    for (path, _) in pages() {
        if elsewhere(&path).is_none() {
            let page = Page::read(&path);
            Reader::new(PROGRAM).follow(&page, |command| reason(command).is_some());
        }
    }
}

#[test]
fn no_command_is_excused_that_there_is_not() {
    let pages: BTreeMap<String, Vec<Command>> = pages()
        .into_keys()
        .map(|path| (path.clone(), Page::read(&path).commands))
        .collect();
    for (begins, why) in NOT_TYPED {
        let there = pages
            .values()
            .flatten()
            .any(|command| command.text.starts_with(begins));
        assert!(there, "no page has `{begins}` ({why})");
    }
    for (page, suite) in ELSEWHERE {
        assert!(pages.contains_key(page), "there is no {page}");
        let text = fs::read_to_string(root().join(suite)).unwrap_or_default();
        assert!(text.contains(page), "{suite} does not follow {page}");
    }
}

#[test]
fn what_root_types_is_only_followed_where_a_machine_may_be_changed() {
    for (path, _) in pages() {
        if elsewhere(&path).is_none() {
            let root = Page::read(&path)
                .commands
                .into_iter()
                .find(|command| command.as_root);
            assert_eq!(root, None, "{path}");
        }
    }
}

#[test]
fn every_block_with_a_prompt_is_marked_as_one() {
    for (path, text) in pages() {
        let mut language = None;
        for (index, line) in text.lines().enumerate() {
            if let Some(fence) = line.trim_start().strip_prefix("```") {
                language = language.is_none().then_some(fence);
            }
            let marked =
                language.is_none_or(|language| !["sh", "bash", "shell"].contains(&language));
            assert!(
                marked,
                "{path}:{}: mark what is typed as `console`",
                index + 1
            );
        }
    }
}

// === functions ===

/// Every page for those who use the program, with its text.
pub(crate) fn pages() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for start in ["", "docs", "deploy", "examples"] {
        collect(Path::new(start), &mut found);
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<String, String>) {
    let entries = fs::read_dir(root().join(folder)).expect("it is ours");
    for entry in entries {
        let entry = entry.expect("a directory that was opened can be listed");
        let path = folder.join(entry.file_name());
        let name = path.display().to_string();
        if entry.path().is_dir() {
            // From the root only what `pages` names.
            if folder != Path::new("") && !name.contains("/.") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "md")
            && !FOR_US.iter().any(|ours| name.starts_with(ours))
        {
            let text = fs::read_to_string(entry.path()).expect("a page is text");
            found.insert(name, text);
        }
    }
}

/// The suite that follows a page.
fn elsewhere(path: &str) -> Option<&'static str> {
    let found = ELSEWHERE.into_iter().find(|(page, _)| *page == path);
    found.map(|(_, suite)| suite)
}

/// Why a command is not typed.
fn reason(command: &Command) -> Option<&'static str> {
    let found = NOT_TYPED
        .into_iter()
        .find(|(begins, _)| command.text.starts_with(begins));
    found.map(|(_, why)| why)
}
