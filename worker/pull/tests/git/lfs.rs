//! Files in Git LFS come as files, not as pointers to them; what cannot be had is told, and credentials stay with their host.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path,
};

use ring::digest;
use worker_pull::git::{GitError, Reference};

use crate::{
    repository::{Repository, Scene, request, with_token},
    server::{Front, Server, basic},
};

const CONTENT: &[u8] = b"the real content, which is not in the repository\n";

fn oid(content: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, content);
    hash.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn pointer(content: &[u8]) -> String {
    let (oid, size) = (oid(content), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// A repository whose files of the name `*.bin` are in Git LFS.
fn code(scene: &Scene) -> Repository {
    let repository = Repository::create(&scene.repositories().join("code.git"));
    repository.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    repository.write("flow.py", "print('code')\n");
    repository.write("deep/model.bin", &pointer(CONTENT));
    repository.write("tool.bin", &pointer(CONTENT));
    repository.write("plain.bin", "no pointer at all\n");
    repository.write("pointer.txt", &pointer(CONTENT));
    repository.git(&["add", "--all"]);
    repository.git(&["update-index", "--chmod=+x", "tool.bin"]);
    repository.git(&["commit", "--quiet", "--message", "first"]);
    repository
}

fn front() -> Front {
    Front {
        lfs: BTreeMap::from([(oid(CONTENT), CONTENT.to_vec())]),
        ..Front::default()
    }
}

fn assert_whole(clone: &Path) {
    for name in ["deep/model.bin", "tool.bin"] {
        assert_eq!(fs::read(clone.join(name)).unwrap(), CONTENT, "{name}");
    }
    assert_eq!(
        fs::read(clone.join("plain.bin")).unwrap(),
        b"no pointer at all\n"
    );
    assert_eq!(
        fs::read(clone.join("pointer.txt")).unwrap(),
        pointer(CONTENT).as_bytes()
    );
    let mode = |name: &str| fs::metadata(clone.join(name)).unwrap().permissions().mode();
    assert_eq!(mode("tool.bin") & 0o111, 0o111);
    assert_eq!(mode("deep/model.bin") & 0o111, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_place_of_their_pointers_and_are_asked_for_once() {
    let scene = Scene::new();
    code(&scene);
    let server = Server::start(&scene.repositories(), front()).await;
    let asked = request(&server.url("code.git"), Reference::Default);
    scene.fetch(asked.clone(), "first").await.unwrap();
    assert_whole(&scene.clone_at("first"));
    let about_lfs = |seen: Vec<crate::server::Seen>| {
        seen.into_iter()
            .filter(|one| one.path.contains("lfs"))
            .count()
    };
    assert_eq!(about_lfs(server.seen()), 2, "one batch, one object");
    scene.fetch(asked.clone(), "second").await.unwrap();
    assert_whole(&scene.clone_at("second"));
    assert_eq!(about_lfs(server.seen()), 0, "it is kept");
    let mut sparse = asked;
    sparse.directories = vec!["deep".to_owned()];
    scene.fetch(sparse, "sparse").await.unwrap();
    assert_eq!(
        fs::read(scene.clone_at("sparse").join("deep/model.bin")).unwrap(),
        CONTENT
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_shown_to_the_repository_and_not_to_where_its_files_are() {
    let scene = Scene::new();
    code(&scene);
    let elsewhere = Server::start(&scene.repositories(), front()).await;
    let closed = Front {
        asks_for: Some(("x-access-token".to_owned(), "secret".to_owned())),
        lfs_at: Some(elsewhere.url("").trim_end_matches('/').to_owned()),
        ..front()
    };
    let server = Server::start(&scene.repositories(), closed).await;
    let asked = with_token(
        request(&server.url("code.git"), Reference::Default),
        "secret",
    );
    scene.fetch(asked, "clone").await.unwrap();
    assert_whole(&scene.clone_at("clone"));
    let batch = server
        .seen()
        .into_iter()
        .find(|one| one.path.ends_with("/batch"))
        .unwrap();
    assert_eq!(batch.authorization, Some(basic("x-access-token", "secret")));
    let objects = elsewhere.seen();
    assert!(!objects.is_empty());
    assert!(
        objects.iter().all(|one| one.authorization.is_none()),
        "{objects:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_what_it_should_be_fails_and_leaves_nothing() {
    let scene = Scene::new();
    code(&scene);
    let spoiled = Front {
        lfs: BTreeMap::from([(oid(CONTENT), b"something else".to_vec())]),
        ..Front::default()
    };
    let without = Front::default();
    let another = Front {
        lfs: BTreeMap::from([(oid(b"x"), b"x".to_vec())]),
        ..Front::default()
    };
    let server = Server::start(&scene.repositories(), Front::default()).await;
    for (front, words) in [
        (spoiled, "is not what its pointer says"),
        (
            without,
            "it has files in Git LFS, which answers 404 Not Found",
        ),
        (
            another,
            "cannot be had from Git LFS: 404 Object does not exist",
        ),
    ] {
        server.front(|now| *now = front);
        let asked = request(&server.url("code.git"), Reference::Default);
        let error = scene.fetch(asked, "clone").await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(!scene.clone_at("clone").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_pointers_gets_them_and_is_told() {
    let mut scene = Scene::new();
    scene.lfs = false;
    code(&scene);
    let server = Server::start(&scene.repositories(), front()).await;
    let asked = request(&server.url("code.git"), Reference::Default);
    scene.fetch(asked, "clone").await.unwrap();
    let found = fs::read_to_string(scene.clone_at("clone").join("tool.bin")).unwrap();
    assert_eq!(found, pointer(CONTENT));
    let said = scene.said.lock().unwrap().join("\n");
    assert!(said.contains("2 files of"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_on_this_machine_has_its_files_beside_its_objects() {
    let scene = Scene::new();
    let repository = code(&scene);
    let asked = request(repository.path.to_str().unwrap(), Reference::Default);
    let error = scene.fetch(asked.clone(), "clone").await.unwrap_err();
    assert!(matches!(error, GitError::Refused { .. }), "{error}");
    let oid = oid(CONTENT);
    let place = repository
        .path
        .join(".git/lfs/objects")
        .join(&oid[..2])
        .join(&oid[2..4]);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(&oid), CONTENT).unwrap();
    scene.fetch(asked, "clone").await.unwrap();
    assert_whole(&scene.clone_at("clone"));
}
