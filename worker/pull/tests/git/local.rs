//! From this machine's file system.

use worker_pull::git::{GitError, Reference};

use crate::repository::{Scene, commit, git, named, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_path_and_a_file_url_give_every_sort_of_reference() {
    let scene = Scene::new();
    let code = scene.code();
    let path = code.path.to_str().unwrap().to_owned();
    let short = code.id("main~1")[..6].to_owned();
    let cases = [
        (Reference::Default, "main"),
        (named("feature/x"), "feature/x"),
        (named("v1"), "v1"),
        (commit(&short), "main~1"),
    ];
    for (number, (reference, wanted)) in cases.into_iter().enumerate() {
        for address in [path.clone(), format!("file://{path}")] {
            let name = format!("{number}-{}", address.len());
            let fetched = scene
                .fetch(request(&address, reference.clone()), &name)
                .await;
            assert_eq!(fetched.unwrap().commit, code.id(wanted), "{wanted}");
            let clone = scene.clone_at(&name);
            assert_eq!(git(&clone, &["rev-parse", "HEAD"]), code.id(wanted));
            assert_eq!(git(&clone, &["status", "--porcelain"]), "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_by_its_kind() {
    let scene = Scene::new();
    let code = scene.code();
    let path = code.path.to_str().unwrap();
    let error = scene
        .fetch(request(path, named("gone")), "a")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::NoReference { .. }), "{error:?}");
    let error = scene
        .fetch(request("/nowhere/at/all", Reference::Default), "a")
        .await;
    assert!(
        matches!(error, Err(GitError::NoRepository { .. })),
        "{error:?}"
    );
    assert!(!scene.clone_at("a").exists());
}
