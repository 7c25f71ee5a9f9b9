//! Google Cloud Storage, for which moto stands in: the XML interface that is spoken is S3's, and any bearer is let in.

use std::fs;

use serde_json::{Value, json};
use worker_pull::blob::BlobError;

use crate::{
    faults::{Faulty, answer},
    servers::{Desk, Server},
};

#[tokio::test]
async fn a_folder_comes_whole_and_its_sibling_does_not() {
    let server = Server::moto().await;
    let objects: [(&str, &[u8]); 5] = [
        ("proj/flow.py", b"flow"),
        ("proj/pkg/", b""),
        ("proj/pkg/__init__.py", b""),
        ("proj/../evil", b"evil"),
        ("proj2/flow.py", b"sibling"),
    ];
    server.fill_bucket("code", &objects).await;
    let desk = Desk::new();
    let url = json!({"url": "gs://code/proj", "token": "anon", "endpoint_url": server.url});
    let done = desk
        .step("pull_from_remote_storage", url)
        .await
        .expect("pulled");
    assert_eq!(
        desk.names(),
        ["code/proj/flow.py", "code/proj/pkg/__init__.py"]
    );
    assert_eq!((done.files, done.left_out), (2, 1));

    let missing = json!({"url": "gs://nowhere", "token": "anon", "endpoint_url": server.url});
    let error = desk
        .step("pull_from_remote_storage", missing)
        .await
        .expect_err("refused");
    assert!(matches!(error, BlobError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_federated_identity_is_exchanged_for_an_account() {
    let server = Server::moto().await;
    server.fill_bucket("code", &[("p/a.py", b"a")]).await;
    let (bucket, tokens) = (Faulty::before(server.port).await, Faulty::alone().await);
    let exchanged = r#"{"access_token": "exchanged", "expires_in": 3600, "token_type": "Bearer"}"#;
    let account = r#"{"accessToken": "of-the-account", "expireTime": "2999-01-01T00:00:00Z"}"#;
    tokens.order(
        "POST",
        [
            answer("200 OK", "", exchanged),
            answer("200 OK", "", account),
        ],
    );
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("identity"), "who-i-am\n").expect("written");
    let file = home.path().join("adc.json");
    let external = json!({
        "type": "external_account", "audience": "//iam/pool", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/v1/token", tokens.url),
        "service_account_impersonation_url": format!("{}/v1/account:generateAccessToken", tokens.url),
        "credential_source": {"file": home.path().join("identity")},
    });
    fs::write(&file, external.to_string()).expect("written");
    let file = file.to_string_lossy().into_owned();
    let surroundings = [
        ("GOOGLE_APPLICATION_CREDENTIALS", file.as_str()),
        ("STORAGE_EMULATOR_HOST", &bucket.url),
    ];
    let desk = Desk::with(&surroundings);
    let done = desk
        .step("pull_from_gcs", json!({"bucket": "code", "folder": "p"}))
        .await
        .expect("pulled");
    assert_eq!(
        Value::Object(done.outputs),
        json!({"bucket": "code", "folder": "p", "directory": desk.path().to_string_lossy()})
    );
    assert!(tokens.seen("generateAccessToken")[0].contains("Bearer exchanged"));
    assert!(
        bucket
            .seen("/code")
            .iter()
            .all(|head| head.contains("Bearer of-the-account"))
    );

    tokens.order("POST", [answer("403 Forbidden", "", "{}")]);
    let error = desk
        .step("pull_from_gcs", json!({"bucket": "code", "folder": "p"}))
        .await;
    let error = error.expect_err("refused");
    assert!(matches!(error, BlobError::Denied { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("Google's token exchange answered 403"),
        "{error}"
    );
}
