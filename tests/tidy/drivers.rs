//! Every driver has the same files, so that who knows one finds the way in all.

use worker_tests::files::root;

use crate::{Finding, assert_none};

/// The folders below `drivers/src` that hold a driver. One that is not there yet is not asked for.
const ENGINES: [&str; 3] = ["subprocess", "docker", "kubernetes"];

/// What each driver has: typed options, a pure plan, calls, events, logs.
const FILES: [&str; 5] = ["act.rs", "logs.rs", "options.rs", "plan.rs", "watch.rs"];

/// What a driver begins with, before it speaks to its engine: typed options, and what the reference would ask for.
const FIRST_FILES: [&str; 2] = ["options.rs", "prepare.rs"];

#[test]
fn each_driver_has_the_same_files() {
    let mut seen = 0;
    for engine in ENGINES {
        let folder = format!("drivers/src/{engine}");
        let Ok(entries) = std::fs::read_dir(root().join(&folder)) else {
            continue;
        };
        seen += 1;
        let names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        let begun = names.iter().any(|name| name == "act.rs");
        let files: &[&str] = if begun || engine == "subprocess" {
            &FILES
        } else {
            &FIRST_FILES
        };
        assert_none(&lacks_files(&folder, &names, files));
    }
    assert!(seen > 0, "drivers/src: there is no driver");
}

/// Which of the files that every driver has are not in a folder.
fn lacks_files(folder: &str, names: &[String], files: &[&str]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| !names.iter().any(|name| name == *file))
        .map(|file| {
            Finding::new(
                folder,
                0,
                format!("has no {file}; every driver has {}", files.join(", ")),
            )
        })
        .collect()
}

#[test]
fn a_driver_without_one_of_the_files_is_found() {
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(lacks_files("d", &names(&FILES), &FILES).is_empty());
    let found = lacks_files(
        "d",
        &names(&["act.rs", "logs.rs", "options.rs", "plan.rs", "shim.rs"]),
        &FILES,
    );
    assert_eq!(found.len(), 1);
    assert!(found[0].text.contains("no watch.rs"), "{}", found[0]);
}
