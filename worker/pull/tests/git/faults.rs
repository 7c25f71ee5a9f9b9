//! Servers that refuse, fail, stall, break off and point elsewhere.

use std::{fs, time::Duration};

use worker_pull::git::{GitError, Reference};

use crate::{
    repository::{Scene, git, named, names, request, until, with_token},
    server::{Front, Server},
};

fn asks_for(token: &str) -> Front {
    Front {
        asks_for: Some(("x-access-token".to_owned(), token.to_owned())),
        ..Front::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_a_missing_one_are_refused_without_asking_twice() {
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), asks_for("right")).await;
    let url = server.url("code.git");
    let wrong = with_token(request(&url, Reference::Default), "wrong");
    let error = scene.fetch(wrong, "a").await.unwrap_err();
    assert!(
        matches!(error, GitError::Authentication { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("check that the token is right"),
        "{error}"
    );
    // Once with it and once without, in case anybody may read.
    assert_eq!(server.seen().len(), 2);
    let error = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("none were given"), "{error}");
    assert_eq!(server.seen().len(), 1);
    let right = with_token(request(&url, Reference::Default), "right");
    scene.fetch(right, "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_mirror_is_not_given_to_who_may_not_read_it() {
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), asks_for("right")).await;
    let url = server.url("code.git");
    scene
        .fetch(with_token(request(&url, named("main")), "right"), "a")
        .await
        .unwrap();
    let error = scene
        .fetch(request(&url, named("main")), "b")
        .await
        .unwrap_err();
    assert!(
        matches!(error, GitError::Authentication { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_repository_and_a_missing_branch_are_told_apart() {
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let error = scene
        .fetch(request(&server.url("none.git"), Reference::Default), "a")
        .await;
    assert!(matches!(error, Err(GitError::NotFound { .. })), "{error:?}");
    let error = scene
        .fetch(request(&server.url("code.git"), named("gone")), "a")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::NoReference { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("has no branch, tag or commit 'gone'"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_twice_is_asked_a_third_time() {
    let scene = Scene::new();
    scene.code();
    let front = Front {
        fails: 2,
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    scene
        .fetch(request(&server.url("code.git"), Reference::Default), "a")
        .await
        .unwrap();
    let said = scene.said.lock().unwrap().join("\n");
    assert_eq!(said.matches("503").count(), 2, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_is_begun_again() {
    let scene = Scene::new();
    let code = scene.code();
    let front = Front {
        breaks_off_after: Some(300),
        spoils: Some(2),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    let url = server.url("code.git");
    let fetched = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap();
    assert_eq!(fetched.commit, code.id("main"));
    git(&scene.clone_at("a"), &["fsck", "--strict"]);
    server.front(|front| front.spoils = None);
    code.write("more.txt", "more");
    code.commit("more");
    let error = scene
        .fetch(request(&url, Reference::Default), "b")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Transient { .. }), "{error:?}");
    assert!(!scene.clone_at("b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_stalls_is_given_up_and_begun_again() {
    let mut scene = Scene::new();
    scene.patience.stall = Duration::from_secs(1);
    scene.code();
    let front = Front {
        stalls_after: Some(300),
        spoils: Some(1),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    scene
        .fetch(request(&server.url("code.git"), Reference::Default), "a")
        .await
        .unwrap();
    let said = scene.said.lock().unwrap().join("\n");
    assert!(said.contains("no answer for 1 s"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_has_an_end_however_patient_each_part_is() {
    let mut scene = Scene::new();
    scene.patience.whole = Duration::from_secs(2);
    scene.code();
    let front = Front {
        stalls_after: Some(300),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    let error = scene
        .fetch(request(&server.url("code.git"), Reference::Default), "a")
        .await;
    assert!(matches!(error, Err(GitError::TooLong { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_hangs_ends_when_it_is_cancelled() {
    let scene = Scene::new();
    scene.code();
    let front = Front {
        stalls_after: Some(300),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    let cancelled = scene.operation.cancelled.clone();
    let fetching = scene.fetch(request(&server.url("code.git"), Reference::Default), "a");
    let cancelling = async {
        let asked = |server: &Server| {
            let seen = server.seen();
            seen.iter()
                .any(|seen| seen.path.ends_with("git-upload-pack"))
        };
        let waited = until(|| asked(&server)).await;
        cancelled.cancel();
        waited.expect("a pack is asked for");
    };
    let (fetched, ()) = tokio::join!(fetching, cancelling);
    assert!(
        matches!(fetched, Err(GitError::Interrupted(_))),
        "{fetched:?}"
    );
    assert_eq!(
        names(&scene.root.path().join("clones")),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let scene = Scene::new();
    scene.code();
    let other = Server::start(&scene.repositories(), Front::default()).await;
    let base = other.url("");
    let front = Front {
        redirects_to: Some(base.trim_end_matches('/').to_owned()),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    let asked = || {
        with_token(
            request(&server.url("code.git"), Reference::Default),
            "s3cret",
        )
    };
    scene.fetch(asked(), "a").await.unwrap();
    assert!(server.seen()[0].authorization.is_some());
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()));
    other.front(|front| front.asks_for = asks_for("s3cret").asks_for);
    let error = scene.fetch(asked(), "b").await.unwrap_err();
    assert!(error.to_string().contains("were not sent"), "{error}");
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_mirror_is_made_anew() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    let mirror = || {
        let cached = fs::read_dir(scene.cache()).unwrap();
        let mut paths = cached.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.extension().is_some_and(|end| end == "git"))
            .unwrap()
    };
    scene
        .fetch(request(&url, named("main")), "a")
        .await
        .unwrap();
    // The packs are emptied, as on a disk that was full or after a power cut.
    for file in fs::read_dir(mirror().join("objects/pack")).unwrap() {
        let path = file.unwrap().path();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
    }
    let fetched = scene
        .fetch(request(&url, named("main")), "b")
        .await
        .unwrap();
    assert_eq!(fetched.commit, code.id("main"));
    // And something else altogether stands in its place.
    fs::remove_dir_all(mirror()).unwrap();
    let place = fs::read_dir(scene.cache())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::create_dir(place.with_extension("git")).unwrap();
    fs::write(place.with_extension("git").join("HEAD"), "nonsense").unwrap();
    scene
        .fetch(request(&url, named("main")), "c")
        .await
        .unwrap();
    git(&scene.clone_at("c"), &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_removed_when_all_together_are_too_large() {
    let mut scene = Scene::new();
    scene.bounds.size = 1;
    scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    scene
        .fetch(request(&server.url("code.git"), named("main")), "a")
        .await
        .unwrap();
    fs::rename(
        scene.repositories().join("code.git"),
        scene.repositories().join("b.git"),
    )
    .unwrap();
    scene
        .fetch(request(&server.url("b.git"), named("main")), "b")
        .await
        .unwrap();
    let cached = fs::read_dir(scene.cache()).unwrap().flatten();
    let mirrors = cached.filter(|entry| entry.path().extension().is_some_and(|end| end == "git"));
    // The one in use stays.
    assert_eq!(mirrors.count(), 1);
}
