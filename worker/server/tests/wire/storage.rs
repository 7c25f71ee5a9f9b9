//! What outlives a server.

use axum::http::Method;
use serde_json::json;
use worker_server::{Faults, OpenError, Server, ServerError, ServerOptions, Storage};

use crate::client::Api;

async fn open(path: &std::path::Path) -> Result<Api, ServerError> {
    let options = ServerOptions {
        storage: Storage::File(path.to_owned()),
        ..ServerOptions::default()
    };
    let server = Server::start(options).await?;
    Ok(Api {
        server,
        faults: Faults::new(),
    })
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state").join("api.sqlite");
    let api = open(&path).await.expect("a server");
    api.pool().await;
    let deployment = api.deployment(json!({ "concurrency_limit": 1 })).await;
    let run = api.run(&deployment).await;
    api.propose(&run, "PENDING").await;
    api.server.stop().await;
    let api = open(&path).await.expect("a server");
    let view = api.get(&format!("/flow_runs/{run}")).await;
    assert_eq!(view["state_type"], "PENDING");
    let second = api.run(&deployment).await;
    assert_eq!(
        api.propose(&second, "PENDING").await["status"],
        "REJECT",
        "the lease is there as well"
    );
}

#[tokio::test]
async fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sqlite");
    let api = open(&path).await.expect("a server");
    api.pool().await;
    for entry in std::fs::read_dir(directory.path()).expect("a listing") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
    assert_eq!(
        api.send(Method::GET, "/work_pools/p", None).await.status,
        200
    );
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sqlite");
    let database = rusqlite::Connection::open(&path).expect("a database");
    database
        .pragma_update(None, "user_version", 99)
        .expect("a version");
    drop(database);
    let error = open(&path).await.map(drop).expect_err("it does not start");
    assert!(
        matches!(
            error,
            ServerError::Database(OpenError::TooNew { found: 99, .. })
        ),
        "{error:?}"
    );
}
