use std::collections::BTreeMap;

use serde_json::json;
use worker_config::Secret;

use super::{Client, ClientBuildError, ClientOptions};
use crate::{
    Credential,
    testing::{Asked, Reply, TestServer},
};

fn options(url: &str) -> ClientOptions {
    ClientOptions::new(url.parse().unwrap())
}

fn headers(list: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
        .collect()
}

#[tokio::test]
async fn each_request_says_who_asks() {
    let server = TestServer::start([]).await;
    let client = Client::new(server.options().named("wörker 100%")).unwrap();
    client.delete_worker("p", "w").await.unwrap();
    let asked = server.asked().remove(0);
    assert_eq!(
        asked.header("user-agent"),
        Some("prefect/3.8.8 (API 0.8.4)")
    );
    assert_eq!(asked.header("x-prefect-api-version"), Some("0.8.4"));
    assert_eq!(
        asked.header("x-prefect-worker-name"),
        Some("w%C3%B6rker 100%25")
    );
    let runtime = asked.header("x-worker-runtime").unwrap();
    assert!(runtime.starts_with("worker/"), "{runtime}");
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn the_key_is_a_bearer_token_and_the_auth_string_wins_over_it() {
    let server = TestServer::start([]).await;
    let mut options = server.options();
    options.key = Some(Secret::new("pnu_key"));
    Client::new(options.clone())
        .unwrap()
        .delete_worker("p", "w")
        .await
        .unwrap();
    options.auth_string = Some(Secret::new("admin:pass"));
    Client::new(options)
        .unwrap()
        .delete_worker("p", "w")
        .await
        .unwrap();
    let sent: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["Bearer pnu_key", "Basic YWRtaW46cGFzcw=="]);
}

#[tokio::test]
async fn user_and_password_of_the_url_are_sent_but_not_shown() {
    let server = TestServer::start([Reply::status(401)]).await;
    let mut options = server.options();
    options.url.set_username("us er").unwrap();
    options.url.set_password(Some("hunter2")).unwrap();
    let client = Client::new(options.clone()).unwrap();
    let error = client.delete_worker("p", "w").await.unwrap_err();
    let sent = server.asked().remove(0);
    assert_eq!(
        sent.header("authorization"),
        Some("Basic dXMgZXI6aHVudGVyMg==")
    );
    let shown = format!(
        "{options:?} {client:?} {error:?} {error} {}",
        client.base_url()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn custom_headers_are_sent_but_cannot_replace_our_own() {
    let server = TestServer::start([]).await;
    let mut options = server.options();
    options.key = Some(Secret::new("pnu_key"));
    options.custom_headers = headers(&[
        ("X-Tenant", " blue "),
        ("user-agent", "curl"),
        ("Prefect-Csrf-Token", "x"),
        ("PREFECT-CSRF-CLIENT", "x"),
        ("Authorization", "Token abc"),
    ]);
    let client = Client::new(options).unwrap();
    client.delete_worker("p", "w").await.unwrap();
    let asked = server.asked().remove(0);
    assert_eq!(asked.header("x-tenant"), Some("blue"));
    assert_eq!(
        asked.header("user-agent"),
        Some("prefect/3.8.8 (API 0.8.4)")
    );
    assert_eq!(asked.header("prefect-csrf-token"), None);
    assert_eq!(asked.header("prefect-csrf-client"), None);
    assert_eq!(asked.header("authorization"), Some("Token abc"));
    assert_eq!(client.shared.credential, Credential::CustomHeader);
}

#[test]
fn what_no_header_may_hold_is_refused_without_showing_it() {
    let mut bad_key = options("http://h/api");
    bad_key.key = Some(Secret::new("hun\nter2"));
    let mut bad_value = options("http://h/api");
    bad_value.custom_headers = headers(&[("X-Good", "hun\nter2")]);
    let mut bad_name = options("http://h/api");
    bad_name.custom_headers = headers(&[("X Bad", "v")]);
    for (options, named) in [
        (bad_key, "API key"),
        (bad_value, "X-Good"),
        (bad_name, "X Bad"),
    ] {
        let error = Client::new(options).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(named) && !shown.contains("ter2"), "{shown}");
    }
}

#[tokio::test]
async fn no_secret_is_shown_by_options_client_or_errors() {
    let echo =
        "you sent Bearer pnu_secret, YWRtaW46aHVudGVyMg==, admin:hunter2, tenant-key, hunter2";
    let server = TestServer::start([
        Reply::detail(401, echo),
        Reply::text(418, echo),
        Reply::text(500, echo),
        Reply::text(200, echo),
        Reply::detail(422, echo),
        Reply::text(404, echo),
        Reply::status(308).header("location", "http://elsewhere.invalid/?token=pnu_secret"),
    ])
    .await;
    let mut options = server.options();
    options.key = Some(Secret::new("pnu_secret"));
    options.auth_string = Some(Secret::new("admin:hunter2"));
    options.custom_headers = headers(&[("X-Tenant", "tenant-key")]);
    let client = Client::new(options.clone()).unwrap();
    let mut shown = vec![format!("{options:?} {client:?}")];
    for _ in 0..7 {
        let error = client.read_work_pool("p").await.unwrap_err();
        shown.push(format!("{error:?} {error}"));
    }
    let shown = shown.join("\n");
    for secret in [
        "pnu_secret",
        "hunter2",
        "YWRtaW46aHVudGVyMg==",
        "tenant-key",
    ] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("you sent"), "{shown}");
}

#[test]
fn the_base_url_loses_what_is_not_its_place() {
    let client = Client::new(options("http://u:p@h:4200/api/?x=1#y")).unwrap();
    assert_eq!(client.base_url().as_str(), "http://h:4200/api");
    let client = Client::new(options("http://h")).unwrap();
    assert_eq!(client.base_url().as_str(), "http://h/");
}

#[test]
fn a_url_without_http_is_refused() {
    for url in ["ftp://h/api", "mailto:x", "unix:/run/x"] {
        let error = Client::new(options(url)).unwrap_err();
        assert!(matches!(error, ClientBuildError::Url), "{url}");
    }
}

#[test]
fn a_certificate_file_that_is_missing_or_empty_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options("https://h/api");
    options.ssl_cert_file = Some(directory.path().join("ca.pem"));
    let error = Client::new(options.clone()).unwrap_err();
    assert!(matches!(error, ClientBuildError::ReadCertificates { .. }));
    assert!(error.to_string().contains("ca.pem"), "{error}");
    for text in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(directory.path().join("ca.pem"), text).unwrap();
        let error = Client::new(options.clone()).unwrap_err();
        assert!(
            matches!(error, ClientBuildError::Certificates { .. }),
            "{text}: {error:?}"
        );
    }
}

#[tokio::test]
async fn in_the_cloud_there_is_no_csrf_token_and_the_worker_gets_an_id() {
    let id = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
    let server =
        TestServer::start([Reply::status(422), Reply::status(204), Reply::text(200, id)]).await;
    let mut options = server.options();
    options.cloud = true;
    let client = Client::new(options).unwrap();
    let interval = std::time::Duration::from_secs(30);
    for _ in 0..3 {
        client.send_heartbeat("p", "w", interval).await.unwrap();
    }
    let asked = server.asked();
    let bodies: Vec<_> = asked.iter().map(Asked::json).collect();
    let plain = json!({ "name": "w", "heartbeat_interval_seconds": 30 });
    let mut asking = plain.clone();
    asking["return_id"] = json!(true);
    asking["metadata"] = crate::channel::metadata();
    // The first is refused and repeated without the question.
    assert_eq!(bodies, [asking.clone(), plain.clone(), asking, plain]);
    assert_eq!(client.worker_id().unwrap().to_string(), id);
    assert_eq!(asked[3].header("x-prefect-worker-id"), Some(id));
    assert_eq!(server.csrf_asked(), 0);
}
