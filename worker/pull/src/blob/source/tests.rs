use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Placement, Source, SourceError, Store};

fn map(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).expect("a mapping")
}

fn step(name: &str, inputs: Value) -> Result<Source, SourceError> {
    Source::from_step(name, &map(inputs))
}

fn url(url: &str) -> Result<Source, SourceError> {
    step(
        "pull_from_remote_storage",
        json!({"url": url, "account_name": "a"}),
    )
}

fn directory(source: &Source) -> PathBuf {
    match &source.placement {
        Placement::Here { .. } => PathBuf::from("."),
        Placement::Below { directory, .. } => directory.clone(),
    }
}

#[test]
fn a_folder_is_the_same_with_and_without_slashes() {
    for folder in ["a/b", "a/b/", "/a/b"] {
        let source = step("pull_from_s3", json!({"bucket": "x", "folder": folder})).expect("good");
        assert_eq!(source.prefix, "a/b");
        assert_eq!(source.to_string(), "s3://x/a/b");
    }
    let whole = step("pull_from_gcs", json!({"bucket": "x", "folder": ""})).expect("good");
    assert_eq!(
        (whole.prefix.as_str(), whole.to_string().as_str()),
        ("", "gs://x")
    );
}

#[test]
fn urls_go_where_the_reference_puts_them() {
    for (text, place, at) in [
        ("s3://b/f/g/", "b/f/g", "s3://b/f/g"),
        ("gcs://b", "b", "gs://b"),
        ("az://c/f", "c/f", "az://c/f"),
        (
            "abfs://c@a.dfs.core.windows.net/f",
            "c@a.dfs.core.windows.net/f",
            "az://c/f",
        ),
        ("file:///srv/code", "srv/code", "file:///srv/code"),
        (
            "https://u:p@host:8080/d/f.zip?sig=x#y",
            "host:8080/d",
            "https://host:8080/d/f.zip",
        ),
    ] {
        let source = url(text).expect(text);
        assert_eq!(directory(&source), PathBuf::from(place), "{text}");
        assert_eq!(source.to_string(), at, "{text}");
    }
}

#[test]
fn a_url_that_leads_out_is_refused() {
    for text in [
        "s3://b/../x",
        "s3://../x",
        "s3://b/a\\..\\b",
        "file:///../etc",
        "gs://b/a//b",
        "s3://",
        "nothing",
    ] {
        assert!(
            matches!(url(text), Err(SourceError::Input { .. })),
            "{text}"
        );
    }
    assert!(matches!(url("sftp://host/x"), Err(SourceError::Unknown(_))));
    let evil = Source::from_block(
        "local-file-system",
        "../../x",
        &map(json!({"basepath": "/x"})),
    );
    assert!(matches!(evil, Err(SourceError::Input { .. })));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (name, inputs, told) in [
        (
            "pull_from_s3",
            json!({"folder": "f"}),
            "input bucket is missing",
        ),
        (
            "pull_from_s3",
            json!({"bucket": "b"}),
            "input folder is missing",
        ),
        (
            "pull_from_s3",
            json!({"bucket": "b", "folder": "f", "buckt": 1}),
            "input buckt is not known to this step",
        ),
        (
            "pull_from_s3",
            json!({"bucket": "b", "folder": "f", "credentials": {"aws_access_key_id": "a"}}),
            "input credentials.aws_secret_access_key is missing, as the other half of the key is there",
        ),
        (
            "pull_from_azure_blob_storage",
            json!({"container": "c", "folder": "f"}),
            "input credentials.connection_string or account_url must be there",
        ),
        (
            "pull_from_remote_storage",
            json!({"url": "gs://b", "token": "browser"}),
            "input token asks for a person; a worker has none",
        ),
    ] {
        assert_eq!(step(name, inputs).expect_err(told).to_string(), told);
    }
}

#[test]
fn the_clients_parameters_of_the_credentials_win_one_by_one() {
    let source = step(
        "pull_from_s3",
        json!({
            "bucket": "b", "folder": "f",
            "client_parameters": {"endpoint_url": "http://step", "verify": false, "config": {"s3": {"addressing_style": "virtual"}}},
            "credentials": {"aws_client_parameters": {"endpoint_url": "http://block", "use_ssl": true, "config": null}},
        }),
    );
    let Store::S3(s3) = source.expect("good").store else {
        panic!("it is S3")
    };
    assert_eq!(s3.endpoint.as_deref(), Some("http://block"));
    assert!(s3.tuning.insecure);
    assert_eq!(s3.virtual_hosted, Some(true));
}

#[test]
fn a_block_gets_an_emptied_directory_of_its_own() {
    let data = map(json!({"bucket_name": "b", "bucket_folder": "", "credentials": {}}));
    let source = Source::from_block("s3-bucket", "dev", &data).expect("good");
    let Placement::Below {
        directory, emptied, ..
    } = source.placement
    else {
        panic!("it has one")
    };
    assert_eq!((directory, emptied), (PathBuf::from("s3-bucket-dev"), true));
    assert!(matches!(
        Source::from_block("github-repository", "x", &data),
        Err(SourceError::Unknown(_))
    ));
}
