use std::path::{Component, PathBuf};

use proptest::prelude::*;

use super::{Backslash, Place};

fn place(key: &str, prefix: &str) -> Place {
    super::place(key, prefix, Backslash::Slash)
}

fn file(path: &str) -> Place {
    Place::File(PathBuf::from(path))
}

#[test]
fn a_key_becomes_its_path_below_the_folder() {
    assert_eq!(place("proj/a/b.py", "proj"), file("a/b.py"));
    assert_eq!(place("a/b.py", ""), file("a/b.py"));
    assert_eq!(
        place("proj/ünï cödé %20.py", "proj"),
        file("ünï cödé %20.py")
    );
    assert_eq!(place("proj/a//./b.py", "proj"), file("a/b.py"));
    assert_eq!(place("proj/a\\b.py", "proj"), file("a/b.py"));
}

#[test]
fn a_backslash_may_be_a_letter() {
    let place = |key| super::place(key, "p", Backslash::Letter);
    assert_eq!(place("p/a\\b"), file("a\\b"));
    assert_eq!(place("p/..\\b"), file("..\\b"));
    assert_eq!(place("p/../b"), Place::Unfit("leads out of the directory"));
}

#[test]
fn a_sibling_of_the_folder_is_not_in_it() {
    assert_eq!(
        place("proj2/a.py", "proj"),
        Place::Unfit("is not in the folder")
    );
    assert_eq!(place("other", "proj"), Place::Unfit("is not in the folder"));
}

#[test]
fn a_key_that_only_shows_a_folder_is_no_file() {
    for key in [
        "proj",
        "proj/",
        "proj/sub/",
        "proj//",
        "proj/sub\\",
        "proj/.",
    ] {
        assert_eq!(place(key, "proj"), Place::Folder, "{key}");
    }
}

#[test]
fn a_key_that_leads_out_is_refused_in_either_slash() {
    for key in ["p/../x", "p/a/../../x", "p/a\\..\\..\\x", "p/..", "p/..\\x"] {
        assert_eq!(
            place(key, "p"),
            Place::Unfit("leads out of the directory"),
            "{key}"
        );
    }
    assert_eq!(place("p//etc/passwd", "p"), file("etc/passwd"));
    assert_eq!(place("p/a\0b", "p"), Place::Unfit("contains a NUL"));
    let long = format!("p/{}", "x".repeat(256));
    assert_eq!(
        place(&long, "p"),
        Place::Unfit("has a part that is too long for a file name")
    );
}

proptest! {
    #[test]
    fn no_key_leads_out_of_the_directory(key in "(p/)?([./\\\\a\0é]|\\.\\.){0,12}", prefix in "(p|)") {
        if let Place::File(path) = place(&key, &prefix) {
            prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            prop_assert!(path.components().next().is_some());
        }
    }
}
