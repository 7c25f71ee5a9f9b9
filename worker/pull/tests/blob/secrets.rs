//! No credential gets out: not by an error, not by printing a source, not by the log of any library at its most talkative.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;
use worker_pull::blob::{BlobError, Source};

use crate::{
    faults::{Faulty, answer},
    servers::{Desk, Server, map},
};

/// In every credential of these tests, and nowhere else.
const CANARY: &str = "canary0secret";

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("whole")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Steps with a canary in each field that lets in; those of Azure need a key that is base64.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn steps(url: &str) -> Vec<(&'static str, Value)> {
    let endpoint = json!({"endpoint_url": url});
    let azure = format!("{url}/account");
    let key = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, CANARY);
    vec![
        (
            "pull_from_s3",
            json!({"bucket": "code", "folder": "p", "credentials": {
                "aws_access_key_id": format!("AKIA{CANARY}"), "aws_secret_access_key": CANARY, "aws_session_token": CANARY,
                "aws_client_parameters": endpoint,
            }}),
        ),
        (
            "pull_from_s3",
            json!({"bucket": "code", "folder": "p", "credentials": {
                "minio_root_user": CANARY, "minio_root_password": CANARY,
                "aws_client_parameters": endpoint,
            }}),
        ),
        (
            "pull_from_s3",
            json!({"bucket": "code", "folder": "p", "credentials": {
                "aws_access_key_id": CANARY, "aws_secret_access_key": CANARY, "aws_client_parameters": {
                    "endpoint_url": url, "config": {"proxies": {"http": format!("http://{CANARY}:{CANARY}@127.0.0.1:9/")}},
                },
            }}),
        ),
        (
            "pull_from_gcs",
            json!({"bucket": "code", "folder": "p", "credentials": {
                "service_account_info": {"type": "service_account", "private_key": CANARY, "private_key_id": CANARY, "client_email": "a@b"},
            }}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": "gs://code/p", "endpoint_url": url, "token": format!("ya29.{CANARY}")}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "code", "folder": "p", "credentials": {
                "connection_string": format!("AccountName=account;AccountKey={key};BlobEndpoint={azure}"),
            }}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "code", "folder": "p", "credentials": {
                "connection_string": format!("BlobEndpoint={azure};SharedAccessSignature=sv=2024&sig={CANARY}"),
            }}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "code", "folder": "p", "credentials": {
                "account_url": format!("{azure}?sv=2024&sig={CANARY}"),
            }}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "code", "folder": "p", "credentials": {
                "account_url": azure, "tenant_id": "t", "client_id": "c", "client_secret": CANARY,
            }}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": "s3://code/p", "key": CANARY, "secret": CANARY, "token": CANARY, "endpoint_url": url}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": "az://code/p", "account_name": "account", "sas_token": format!("sig={CANARY}"), "account_host": azure}),
        ),
        (
            "pull_from_remote_storage",
            json!({
                "url": format!("{}/code/f?sig={CANARY}", url.replace("//", &format!("//{CANARY}:{CANARY}@"))),
                "headers": {"Authorization": CANARY, "X-Key": CANARY},
            }),
        ),
    ]
}

fn chain(error: &BlobError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(source) = cause {
        write!(text, " {source} {source:?}").expect("text can be written");
        cause = source.source();
    }
    text
}

/// The canary as it stands, as base64 and as part of either.
fn assert_clean(what: &str, text: &str) {
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, CANARY);
    for canary in [CANARY, encoded.trim_end_matches('=')] {
        if let Some(found) = text.find(canary) {
            let near =
                &text[text.floor_char_boundary(found.saturating_sub(300))..found + canary.len()];
            panic!("{what} tells a secret: …{near}");
        }
    }
}

#[tokio::test]
async fn no_credential_gets_out() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    let server = Server::moto().await;
    server.fill_bucket("code", &[("p/a.py", b"a")]).await;
    let proxy = Faulty::before(server.port).await;
    let mut pulls = 0;
    for (name, inputs) in steps(&proxy.url) {
        let source = Source::from_step(name, &map(inputs)).expect("the inputs are good");
        assert_clean("a source", &format!("{source:?} {source}"));
        let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        for fault in [
            None,
            Some(answer("403 Forbidden", "", denied)),
            Some(answer("500 Oops", "", "")),
            Some(answer("307 Moved", "Location: http://127.0.0.1:9/\r\n", "")),
            Some(answer("200 OK", "", "not what was asked for")),
        ] {
            match fault {
                None => proxy.order("", []),
                Some(fault) => proxy.always("", fault),
            }
            let desk = Desk::new();
            let done = desk.pull(&source).await;
            assert_clean("the run's log", &desk.told());
            if let Err(error) = &done {
                assert_clean("an error", &chain(error));
            }
            pulls += u32::from(done.is_ok());
        }
    }
    assert!(pulls > 3, "only {pulls} pulls were good");
    let log = log.text();
    assert!(
        log.contains("TRACE"),
        "the log is not at its most talkative"
    );
    assert!(log.len() > 10_000, "{}", log.len());
    assert_clean("a log", &log);
}

#[test]
fn inputs_that_are_wrong_do_not_print() {
    for (name, inputs) in [
        (
            "pull_from_s3",
            json!({"bucket": "b", "folder": "f", "credentials": CANARY}),
        ),
        (
            "pull_from_s3",
            json!({"bucket": "b", "folder": "f", "credentials": {"aws_secret_access_key": CANARY}}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "b", "folder": "f", "credentials": {"connection_string": CANARY}}),
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "b", "folder": "f", "credentials": {"account_url": CANARY}}),
        ),
        (
            "pull_from_gcs",
            json!({"bucket": "b", "folder": "f", "credentials": {"service_account_info": [CANARY]}}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": format!("{CANARY}@host/path")}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": format!("sftp://{CANARY}@host/path")}),
        ),
        (
            "pull_from_remote_storage",
            json!({"url": format!("http://{CANARY}@host/")}),
        ),
    ] {
        let error = Source::from_step(name, &map(inputs)).expect_err("the inputs are wrong");
        assert_clean(name, &format!("{error} {error:?}"));
    }
}
