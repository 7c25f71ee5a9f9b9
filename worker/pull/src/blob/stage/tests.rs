use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::tempdir;

use super::{Stage, make_below};
use crate::blob::BlobError;

fn stage(into: &Path, files: &[&str]) -> Stage {
    let stage = Stage::within(into).expect("made");
    for file in files {
        make_below(stage.tree(), Path::new(file)).expect("made");
        fs::write(stage.tree().join(file), "new").expect("written");
    }
    stage
}

#[tokio::test]
async fn a_new_directory_comes_by_one_rename_and_the_stage_goes() {
    let into = tempdir().expect("a directory");
    let stage = stage(into.path(), &["a/b"]);
    stage
        .settle(into.path(), Path::new("bucket/folder"), false)
        .expect("settled");
    stage.discard().await;
    assert!(into.path().join("bucket/folder/a/b").is_file());
    assert_eq!(fs::read_dir(into.path()).expect("a directory").count(), 1);
}

#[test]
fn nothing_moves_when_anything_is_in_the_way() {
    let into = tempdir().expect("a directory");
    fs::create_dir(into.path().join("z")).expect("made");
    let stage = stage(into.path(), &["a", "b", "z"]);
    let error = stage
        .settle(into.path(), Path::new(""), false)
        .expect_err("refused");
    assert!(matches!(error, BlobError::Disk { path, .. } if path.ends_with("z")));
    assert!(!into.path().join("a").exists() && !into.path().join("b").exists());
}

#[test]
fn links_on_the_way_are_not_followed_and_links_in_place_are_replaced() {
    let (into, outside) = (
        tempdir().expect("a directory"),
        tempdir().expect("a directory"),
    );
    symlink(outside.path(), into.path().join("bucket")).expect("linked");
    let first = stage(into.path(), &["a"]);
    assert!(
        first
            .settle(into.path(), Path::new("bucket/folder"), false)
            .is_err()
    );
    assert!(
        first
            .settle(into.path(), Path::new("bucket"), false)
            .is_err()
    );
    symlink(outside.path().join("file"), into.path().join("a")).expect("linked");
    first
        .settle(into.path(), Path::new(""), false)
        .expect("settled");
    assert_eq!(
        fs::read_to_string(into.path().join("a")).expect("a file"),
        "new"
    );
    assert_eq!(
        fs::read_dir(outside.path()).expect("a directory").count(),
        0
    );
}

#[test]
fn an_empty_file_makes_room_for_the_directory_that_it_stood_for() {
    let tree = tempdir().expect("a directory");
    fs::write(tree.path().join("empty"), "").expect("written");
    fs::write(tree.path().join("full"), "x").expect("written");
    make_below(tree.path(), Path::new("empty/a")).expect("made");
    assert!(tree.path().join("empty").is_dir());
    assert!(make_below(tree.path(), Path::new("full/a")).is_err());
    let gone = tree.path().join("gone");
    assert!(
        make_below(&gone, Path::new("a/b")).is_err(),
        "nothing is made anew after the end"
    );
}
