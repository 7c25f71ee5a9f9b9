//! Nothing of a credential is left anywhere: not on disk, not in an argument, not in a log, not in an error.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::json;
use worker_pull::git::{Credentials, Reference, Request};

use crate::{
    repository::{Scene, git, request},
    server::{Front, Server, basic},
};

const CANARY: &str = "canary0f7b2c";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_nowhere_after_a_fetch_and_on_no_command_line_during_it() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(everything).unwrap();
    let scene = Scene::new();
    scene.code();
    let server = Server::start(&scene.repositories(), Front::default()).await;
    let other = Server::start(&scene.repositories(), Front::default()).await;
    let mut told = String::new();
    for (number, asked) in requests(&server).into_iter().enumerate() {
        for (sort, front) in fronts(&other, &asked.1).into_iter().enumerate() {
            server.front(|now| *now = front);
            let name = format!("{number}-{sort}");
            let fetching = scene.fetch(asked.0.clone(), &name);
            let watching = watch_command_lines();
            let fetched = tokio::select! {
                fetched = fetching => fetched,
                never = watching => match never {},
            };
            told += &format!("{:?} {fetched:?}\n", asked.0);
            match fetched {
                Ok(_) => told += &git(&scene.clone_at(&name), &["remote", "-v"]),
                Err(error) => told += &format!("{error}\n"),
            }
        }
    }
    assert!(told.contains("Authentication"), "some were refused: {told}");
    told += &scene.said.lock().unwrap().join("\n");
    told += &String::from_utf8_lossy(&log.0.lock().unwrap());
    assert!(told.contains("hyper_util"), "the log was on");
    for secret in [
        CANARY.to_owned(),
        basic("x-access-token", CANARY)[6..].to_owned(),
    ] {
        assert!(!told.contains(&secret), "{secret} was told");
        assert_none_below(&scene.cache(), &secret);
        assert_none_below(&scene.root.path().join("clones"), &secret);
    }
}

/// Every field that a credential can be in, and the header that it should become.
fn requests(server: &Server) -> Vec<(Request, String)> {
    let url = server.url("code.git");
    let with = |credentials: Option<Credentials>| {
        let mut asked = request(&url, Reference::Default);
        asked.credentials = credentials;
        asked
    };
    let block = |value: serde_json::Value, slug| {
        with(Credentials::from_inputs("host", None, Some(&value), slug).unwrap())
    };
    let in_url = url.replace("://", &format!("://someone:{CANARY}@"));
    let alone = url.replace("://", &format!("://{CANARY}@"));
    let token = Credentials::from_inputs("host", Some(CANARY), None, None);
    vec![
        (with(token.unwrap()), basic("x-access-token", CANARY)),
        (
            request(&in_url, Reference::Default),
            basic("someone", CANARY),
        ),
        (request(&alone, Reference::Default), basic(CANARY, "")),
        (
            block(json!({"token": CANARY}), Some("gitlab-credentials")),
            basic("oauth2", CANARY),
        ),
        (
            block(json!({"username": "someone", "password": CANARY}), None),
            basic("someone", CANARY),
        ),
    ]
}

/// Let in; refused; asked to go elsewhere; broken off; failing for good.
fn fronts(other: &Server, right: &str) -> Vec<Front> {
    let decoded = |text: &str| {
        use base64::Engine as _;

        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (user, password) = text.split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    };
    let plain = Front::default;
    vec![
        Front {
            asks_for: Some(decoded(&right[6..])),
            ..plain()
        },
        Front {
            asks_for: Some(("nobody".to_owned(), "nothing".to_owned())),
            ..plain()
        },
        Front {
            redirects_to: Some(other.url("").trim_end_matches('/').to_owned()),
            ..plain()
        },
        Front {
            fails: 1,
            ..plain()
        },
    ]
}

/// Looks at the arguments of every process, again and again.
async fn watch_command_lines() -> std::convert::Infallible {
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(!line.contains(CANARY), "{line}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn assert_none_below(root: &Path, secret: &str) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            !path.to_string_lossy().contains(secret),
            "{}",
            path.display()
        );
        if path.is_dir() {
            assert_none_below(&path, secret);
        } else {
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}
