//! S3: trees, names, credentials, refusals.

use serde_json::json;

use crate::servers::{Desk, Server};

/// What a credentials block of moto would hold.
fn credentials(server: &Server) -> serde_json::Value {
    json!({
        "aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "aws_session_token": null,
        "profile_name": null, "region_name": "eu-west-1",
        "aws_client_parameters": {"api_version": null, "use_ssl": true, "verify": true, "endpoint_url": server.url, "config": null},
        "assume_role_arn": null, "assume_role_kwargs": {},
    })
}

#[tokio::test]
async fn a_folder_comes_whole_and_its_sibling_does_not() {
    let server = Server::moto().await;
    let objects: [(&str, &[u8]); 9] = [
        ("proj/flow.py", b"flow"),
        ("proj/pkg/__init__.py", b""),
        ("proj/pkg/deep/er/a b+c%20é.txt", b"names"),
        ("proj/", b""),
        ("proj/empty/", b""),
        ("proj/pkg/", b""),
        ("proj2/flow.py", b"sibling"),
        ("proj.py", b"beside"),
        ("other", b"x"),
    ];
    server.fill_bucket("code", &objects).await;
    let desk = Desk::new();
    let step = json!({"bucket": "code", "folder": "proj", "credentials": credentials(&server)});
    let done = desk.step("pull_from_s3", step).await.expect("pulled");
    assert_eq!(desk.names(), ["flow.py", "pkg/__init__.py", "pkg/deep/er/a b+c%20é.txt"]);
    assert_eq!((done.files, done.bytes, done.left_out), (3, 9, 0));
    assert_eq!(
        serde_json::Value::Object(done.outputs),
        json!({"bucket": "code", "folder": "proj", "directory": desk.path().to_string_lossy()})
    );
}

#[tokio::test]
async fn keys_that_lead_out_are_left_out_and_told_and_hide_nothing() {
    let server = Server::moto().await;
    let objects: [(&str, &[u8]); 7] = [
        ("p/a.py", b"a"),
        ("p/../../evil", b"evil"),
        ("p/x\\..\\..\\evil", b"evil"),
        ("p/..", b"evil"),
        ("p//double", b"double"),
        ("p/sub\\b.py", b"b"),
        ("p/z.py", b"z"),
    ];
    server.fill_bucket("code", &objects).await;
    let desk = Desk::new();
    let step = json!({"bucket": "code", "folder": "p/", "credentials": credentials(&server)});
    let done = desk.step("pull_from_s3", step).await.expect("pulled");
    assert_eq!(desk.names(), ["a.py", "sub/b.py", "z.py"]);
    assert_eq!(done.left_out, 4);
    for key in ["p/../../evil", "p/x\\\\..\\\\..\\\\evil", "p/..", "p//double"] {
        assert!(desk.told().contains(&format!("left out \"{key}\"")), "{key}: {}", desk.told());
    }
}

#[tokio::test]
async fn ten_thousand_objects_come_over_ten_pages() {
    let server = Server::moto().await;
    server.fill_many("code", "many", 10_000).await;
    let desk = Desk::new();
    let step = json!({"bucket": "code", "folder": "many", "credentials": credentials(&server)});
    let done = desk.step("pull_from_s3", step).await.expect("pulled");
    assert_eq!(done.files, 10_000);
    let tree = desk.tree();
    assert_eq!(tree.len(), 10_000);
    assert_eq!(tree["042/9942.txt"], "object 9942");
}

