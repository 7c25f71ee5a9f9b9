//! Azure: trees, markers of folders, refusals.

use serde_json::{Value, json};
use worker_pull::blob::BlobError;

use crate::servers::{AZURITE_KEY, Desk, Server};

fn connection(server: &Server, key: &str) -> Value {
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={}/devstoreaccount1;",
        server.url
    );
    json!({"connection_string": text, "account_url": null, "client_id": null, "tenant_id": null, "client_secret": null})
}

#[tokio::test]
async fn a_folder_comes_whole_and_its_sibling_does_not() {
    let server = Server::azurite().await;
    let blobs: [(&str, &[u8]); 5] = [
        ("proj/flow.py", b"flow"),
        ("proj/pkg/__init__.py", b""),
        ("proj/pkg/a b+c%20é.txt", b"names"),
        ("proj2/flow.py", b"sibling"),
        ("projx", b"beside"),
    ];
    server.fill_container("code", &blobs).await;
    server.mark_folder("code", "proj/pkg").await;
    let desk = Desk::new();
    let step = json!({"container": "code", "folder": "proj", "credentials": connection(&server, AZURITE_KEY)});
    let done = desk
        .step("pull_from_azure_blob_storage", step)
        .await
        .expect("pulled");
    assert_eq!(
        desk.names(),
        ["flow.py", "pkg/__init__.py", "pkg/a b+c%20é.txt"]
    );
    assert_eq!((done.files, done.bytes), (3, 9));
    assert_eq!(
        Value::Object(done.outputs),
        json!({"container": "code", "folder": "proj", "directory": desk.path().to_string_lossy()})
    );
    let block = json!({"container_name": "code", "base_folder": "proj/pkg/", "credentials": connection(&server, AZURITE_KEY)});
    let done = desk
        .block("azure-blob-storage-container", block)
        .await
        .expect("pulled");
    assert_eq!(
        done.outputs["directory"],
        "azure-blob-storage-container-mine"
    );
    assert_eq!(
        desk.tree()["azure-blob-storage-container-mine/a b+c%20é.txt"],
        "names"
    );
    let settings = json!({
        "url": "abfs://code@devstoreaccount1.dfs.core.windows.net/proj", "account_key": AZURITE_KEY,
        "account_host": format!("{}/devstoreaccount1", server.url),
    });
    let done = desk
        .step("pull_from_remote_storage", settings)
        .await
        .expect("pulled");
    assert_eq!(
        done.outputs["directory"],
        "code@devstoreaccount1.dfs.core.windows.net/proj"
    );
}

#[tokio::test]
async fn wrong_keys_and_missing_containers_are_told_at_once() {
    let server = Server::azurite().await;
    server.fill_container("code", &[("p/a", b"a")]).await;
    let desk = Desk::new();
    let missing = json!({"container": "nowhere", "folder": "p", "credentials": connection(&server, AZURITE_KEY)});
    let error = desk
        .step("pull_from_azure_blob_storage", missing)
        .await
        .expect_err("refused");
    assert!(matches!(error, BlobError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("az://nowhere"), "{error}");
    let wrong = json!({"container": "code", "folder": "p", "credentials": connection(&server, "bm90IHRoZSBrZXk=")});
    let error = desk
        .step("pull_from_azure_blob_storage", wrong)
        .await
        .expect_err("refused");
    assert!(matches!(error, BlobError::Denied { .. }), "{error}");
    let nobody = json!({"container": "code", "folder": "p", "credentials": {
        "account_url": format!("{}/devstoreaccount1", server.url),
    }});
    let error = desk
        .step("pull_from_azure_blob_storage", nobody)
        .await
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("no Azure credentials were found"),
        "{error}"
    );
    assert!(desk.names().is_empty());
}
