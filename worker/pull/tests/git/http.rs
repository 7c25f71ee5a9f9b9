//! Over HTTP: which commit, what is in the clone, what the server is asked.

use std::path::Path;

use worker_pull::git::{Credentials, GitError, Reference};

use crate::{
    repository::{Repository, Scene, commit, files, git, named, names, request, with_token},
    server::{Front, Server, basic},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_comes_with_its_head_and_its_origin() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    let fetched = scene.fetch(request(&url, named("feature/x")), "a").await;
    assert_eq!(fetched.unwrap().commit, code.id("feature/x"));
    let clone = scene.clone_at("a");
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), code.id("feature/x"));
    assert_eq!(git(&clone, &["branch", "--show-current"]), "feature/x");
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    assert_eq!(git(&clone, &["remote", "get-url", "origin"]), url);
    assert_eq!(git(&clone, &["log", "--format=%s"]), "third");
    git(&clone, &["fsck", "--strict"]);
    assert!(files(&clone).contains(&("flow.py".to_owned(), "print('feature')\n".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_it_is_what_the_repository_is_at() {
    let scene = Scene::new();
    let code = scene.code();
    code.git(&["checkout", "--quiet", "feature/x"]);
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git/");
    scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap();
    assert_eq!(
        git(&scene.clone_at("a"), &["branch", "--show-current"]),
        "feature/x"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_found_where_a_branch_is_asked_for() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let fetched = scene
        .fetch(request(&server.url("code.git"), named("v1")), "a")
        .await;
    assert_eq!(fetched.unwrap().commit, code.id("v1"));
    let clone = scene.clone_at("a");
    assert_eq!(git(&clone, &["describe", "--tags", "--exact-match"]), "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_the_one_that_was_asked_for_wherever_it_is() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    // At a branch; below one, where this server gives it only with all that is around it; and by its beginning.
    let tip = code.id("main");
    let below = code.id("main~1");
    for (name, id, whole) in [
        ("tip", tip.clone(), &tip),
        ("below", below.clone(), &below),
        ("short tip", tip[..7].to_owned(), &tip),
        ("short below", below[..7].to_owned(), &below),
        ("again", below[..7].to_uppercase(), &below),
    ] {
        let fetched = scene.fetch(request(&url, commit(&id)), name).await.unwrap();
        assert_eq!(fetched.commit, *whole, "{name}");
        assert_eq!(
            git(&scene.clone_at(name), &["rev-parse", "HEAD"]),
            *whole,
            "{name}"
        );
        assert_eq!(
            git(&scene.clone_at(name), &["status", "--porcelain"]),
            "",
            "{name}"
        );
    }
    let missing = "0123456789012345678901234567890123456789";
    for id in [missing, &missing[..8]] {
        let error = scene
            .fetch(request(&url, commit(id)), "none")
            .await
            .unwrap_err();
        assert!(matches!(error, GitError::NoReference { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_fetched_alone_where_the_server_gives_it() {
    let scene = Scene::new();
    let code = scene.code();
    code.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let id = code.id("main~1");
    scene
        .fetch(request(&server.url("code.git"), commit(&id)), "a")
        .await
        .unwrap();
    assert_eq!(
        git(
            &scene.clone_at("a"),
            &["rev-list", "--all", "--count", "HEAD"]
        ),
        "1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mirror_has_is_not_transferred_again() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    assert!(
        !scene
            .fetch(request(&url, named("main")), "a")
            .await
            .unwrap()
            .cached
    );
    server.seen();
    assert!(
        scene
            .fetch(request(&url, named("main")), "b")
            .await
            .unwrap()
            .cached
    );
    let asked: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked, ["/code.git/info/refs"]);
    // And what is new on the server is seen at once.
    code.write("flow.py", "print('fourth')\n");
    let new = code.commit("fourth");
    let fetched = scene
        .fetch(request(&url, named("main")), "c")
        .await
        .unwrap();
    assert_eq!((fetched.commit, fetched.cached), (new, false));
    git(&scene.clone_at("c"), &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_share_one_transfer() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    let names: Vec<String> = (0..10).map(|number| format!("n{number}")).collect();
    let all = names
        .iter()
        .map(|name| scene.fetch(request(&url, named("main")), name));
    for fetched in futures::future::join_all(all).await {
        assert_eq!(fetched.unwrap().commit, code.id("main"));
    }
    let posts = |server: &Server| {
        let seen = server.seen().into_iter();
        seen.filter(|seen| seen.path.ends_with("git-upload-pack"))
            .count()
    };
    let by_ten = posts(&server);
    let alone = Scene::new();
    alone.code();
    let server = Server::start(&alone.repositories(), Front::default()).await;
    alone
        .fetch(request(&server.url("code.git"), named("main")), "a")
        .await
        .unwrap();
    assert_eq!(by_ten, posts(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_limit_what_is_written() {
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let mut sparse = request(&server.url("code.git"), Reference::Default);
    sparse.directories = vec!["deep/er".to_owned()];
    scene.fetch(sparse, "a").await.unwrap();
    let clone = scene.clone_at("a");
    assert_eq!(
        names(&clone),
        ["deep/er/one.txt", "deep/side.txt", "flow.py"]
    );
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    assert_eq!(git(&clone, &["sparse-checkout", "list"]), "deep/er");
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_come_with_theirs_and_credentials_stay_with_their_host() {
    let scene = Scene::new();
    let elsewhere = Server::start(&scene.repositories(), Front::default()).await;
    let front = Front {
        asks_for: Some(("x-access-token".to_owned(), "s3cret".to_owned())),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), front).await;
    let leaf = Repository::create(&scene.repositories().join("leaf.git"));
    leaf.write("leaf.txt", "leaf\n");
    let old = leaf.commit("old");
    leaf.write("leaf.txt", "new leaf\n");
    leaf.commit("new");
    let middle = Repository::create(&scene.repositories().join("middle.git"));
    middle.write("middle.txt", "middle\n");
    add_submodule(&middle, "../leaf.git", "inner", &old);
    let middle_id = middle.commit("middle");
    let code = scene.code();
    add_submodule(&code, "../middle.git", "lib/middle", &middle_id);
    add_submodule(
        &code,
        &elsewhere.url("leaf.git"),
        "lib/far",
        &leaf.id("main"),
    );
    code.commit("with submodules");
    let mut whole = with_token(
        request(&server.url("code.git"), Reference::Default),
        "s3cret",
    );
    whole.submodules = true;
    let fetched = scene.fetch(whole, "a").await.unwrap();
    assert_eq!(fetched.submodules, 3);
    let clone = scene.clone_at("a");
    let found = files(&clone.join("lib"));
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("far/leaf.txt", "new leaf\n"),
            (
                "middle/.gitmodules",
                "[submodule \"inner\"]\n\tpath = inner\n\turl = ../leaf.git\n"
            ),
            ("middle/inner/leaf.txt", "leaf\n"),
            ("middle/middle.txt", "middle\n"),
        ]
    );
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
}

fn add_submodule(repository: &Repository, url: &str, path: &str, id: &str) {
    let mut modules =
        std::fs::read_to_string(repository.path.join(".gitmodules")).unwrap_or_default();
    modules += &format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    repository.write(".gitmodules", &modules);
    let entry = format!("160000,{id},{path}");
    repository.git(&["update-index", "--add", "--cacheinfo", &entry]);
    std::fs::create_dir_all(repository.path.join(path)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_cannot_reach_this_machines_files() {
    let scene = Scene::new();
    let code = scene.code();
    let id = code.id("main");
    let path = scene.repositories().join("code.git");
    add_submodule(&code, path.to_str().unwrap(), "stolen", &id);
    code.commit("thief");
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let mut whole = request(&server.url("code.git"), Reference::Default);
    whole.submodules = true;
    let error = scene.fetch(whole, "a").await.unwrap_err();
    assert!(matches!(error, GitError::Submodule { .. }), "{error:?}");
    assert!(!scene.clone_at("a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_certificate_is_checked() {
    let mut scene = Scene::new();
    let code = scene.code();
    let server = Server::start_tls(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    let error = scene
        .fetch(request(&url, Reference::Default), "a")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Transient { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    scene.certificates.clone_from(&server.certificate);
    let fetched = scene
        .fetch(request(&url, Reference::Default), "b")
        .await
        .unwrap();
    assert_eq!(fetched.commit, code.id("main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hosting_gets_the_user_it_wants() {
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    let cases = [
        (None, "tok", ("x-access-token", "tok")),
        (Some("gitlab-credentials"), "tok", ("oauth2", "tok")),
        (
            Some("gitlab-credentials"),
            "deployer:tok",
            ("deployer", "tok"),
        ),
        (
            Some("bitbucket-credentials"),
            "tok",
            ("x-token-auth", "tok"),
        ),
        (Some("azuredevops-credentials"), "tok", ("", "tok")),
    ];
    for (number, (block_type, token, (user, password))) in cases.into_iter().enumerate() {
        server.front(|front| front.asks_for = Some((user.to_owned(), password.to_owned())));
        server.seen();
        let mut asked = request(&url, Reference::Default);
        let block = serde_json::json!({"token": token});
        let made = Credentials::from_inputs("git.example", None, Some(&block), block_type);
        asked.credentials = made.unwrap();
        scene.fetch(asked, &number.to_string()).await.unwrap();
        let sent = server
            .seen()
            .into_iter()
            .find_map(|seen| seen.authorization);
        assert_eq!(sent, Some(basic(user, password)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_in_the_way_is_replaced_and_anything_else_is_left() {
    let scene = Scene::new();
    let code = scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let url = server.url("code.git");
    scene
        .fetch(request(&url, named("feature/x")), "a")
        .await
        .unwrap();
    std::fs::write(scene.clone_at("a").join("stale.py"), "stale").unwrap();
    let fetched = scene
        .fetch(request(&url, named("main")), "a")
        .await
        .unwrap();
    assert_eq!(fetched.commit, code.id("main"));
    assert!(!scene.clone_at("a").join("stale.py").exists());
    let mine = scene.clone_at("mine");
    std::fs::create_dir_all(&mine).unwrap();
    std::fs::write(mine.join("work.py"), "mine").unwrap();
    let error = scene
        .fetch(request(&url, named("main")), "mine")
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Taken { .. }), "{error:?}");
    assert_eq!(names(Path::new(&mine)), ["work.py"]);
}
