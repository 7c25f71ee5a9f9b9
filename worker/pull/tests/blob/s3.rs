//! S3: trees, names, credentials, refusals.

use std::{fs, os::unix::fs::symlink};

use serde_json::json;
use worker_pull::blob::BlobError;

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
    assert_eq!(
        desk.names(),
        ["flow.py", "pkg/__init__.py", "pkg/deep/er/a b+c%20é.txt"]
    );
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
    for key in [
        "p/../../evil",
        "p/x\\\\..\\\\..\\\\evil",
        "p/..",
        "p//double",
    ] {
        assert!(
            desk.told().contains(&format!("left out \"{key}\"")),
            "{key}: {}",
            desk.told()
        );
    }
}

#[tokio::test]
async fn ten_thousand_objects_come_over_ten_pages() {
    let server = Server::full_moto("code", "many", 10_000).await;
    let desk = Desk::new();
    let step = json!({"bucket": "code", "folder": "many", "credentials": credentials(&server)});
    let done = desk.step("pull_from_s3", step).await.expect("pulled");
    assert_eq!(done.files, 10_000);
    let tree = desk.tree();
    assert_eq!(tree.len(), 10_000);
    assert_eq!(tree["042/9942.txt"], "object 9942");
}

#[tokio::test]
async fn files_that_are_there_stay_unless_an_object_has_their_name() {
    let server = Server::moto().await;
    server
        .fill_bucket("code", &[("p/a.py", b"new"), ("p/pkg/b.py", b"new")])
        .await;
    let desk = Desk::new();
    fs::create_dir(desk.path().join("pkg")).expect("made");
    for name in ["a.py", "mine.py", "pkg/mine.py"] {
        fs::write(desk.path().join(name), "old").expect("written");
    }
    let step = json!({"bucket": "code", "folder": "p", "credentials": credentials(&server)});
    desk.step("pull_from_s3", step).await.expect("pulled");
    let tree: Vec<_> = desk.tree().into_iter().collect();
    let expected = [
        ("a.py", "new"),
        ("mine.py", "old"),
        ("pkg/b.py", "new"),
        ("pkg/mine.py", "old"),
    ];
    assert_eq!(
        tree,
        expected.map(|(name, content)| (name.to_owned(), content.to_owned()))
    );
}

#[tokio::test]
async fn a_link_in_the_workspace_leads_nowhere() {
    let server = Server::moto().await;
    server
        .fill_bucket("code", &[("p/data/evil", b"evil"), ("p/a", b"a")])
        .await;
    let (desk, outside) = (Desk::new(), tempfile::tempdir().expect("a directory"));
    symlink(outside.path(), desk.path().join("data")).expect("linked");
    let step = json!({"bucket": "code", "folder": "p", "credentials": credentials(&server)});
    let error = desk.step("pull_from_s3", step).await.expect_err("refused");
    assert!(matches!(error, BlobError::Disk { .. }), "{error}");
    assert_eq!(
        fs::read_dir(outside.path()).expect("a directory").count(),
        0
    );
    // What could have been put beside it was not, either.
    assert_eq!(desk.names(), ["data"]);
}

#[tokio::test]
async fn a_block_empties_its_directory_and_urls_get_one_of_their_own() {
    let server = Server::moto().await;
    server
        .fill_bucket("code", &[("f/a.py", b"a"), ("f2/b.py", b"b")])
        .await;
    let desk = Desk::new();
    fs::create_dir_all(desk.path().join("s3-bucket-mine/stale")).expect("made");
    fs::write(desk.path().join("keep.py"), "").expect("written");
    let block =
        json!({"bucket_name": "code", "bucket_folder": "f", "credentials": credentials(&server)});
    let done = desk.block("s3-bucket", block).await.expect("pulled");
    assert_eq!(done.outputs["directory"], "s3-bucket-mine");
    assert_eq!(desk.names(), ["keep.py", "s3-bucket-mine/a.py"]);

    let settings = json!({
        "url": "s3://code/f/", "key": "AKIAEXAMPLE", "secret": "secret",
        "client_kwargs": {"endpoint_url": server.url},
    });
    let done = desk
        .step("pull_from_remote_storage", settings)
        .await
        .expect("pulled");
    assert_eq!(done.outputs["directory"], "code/f");
    assert_eq!(
        desk.names(),
        ["code/f/a.py", "keep.py", "s3-bucket-mine/a.py"]
    );

    let block = json!({"basepath": "s3://code", "settings": {
        "key": "AKIAEXAMPLE", "secret": "secret", "endpoint_url": server.url,
    }});
    desk.block("remote-file-system", block)
        .await
        .expect("pulled");
    assert_eq!(desk.tree()["remote-file-system-mine/f2/b.py"], "b");
}

#[tokio::test]
async fn wrong_keys_and_missing_buckets_are_told_at_once() {
    let server = Server::moto().await;
    let desk = Desk::new();
    let missing = json!({"bucket": "nowhere", "folder": "p", "credentials": credentials(&server)});
    let error = desk
        .step("pull_from_s3", missing)
        .await
        .expect_err("refused");
    assert!(matches!(error, BlobError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("s3://nowhere"), "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");

    server.fill_bucket("code", &[("p/a.py", b"a")]).await;
    server.demand_authentication().await;
    let step = json!({"bucket": "code", "folder": "p", "credentials": credentials(&server)});
    let error = desk.step("pull_from_s3", step).await.expect_err("refused");
    assert!(matches!(error, BlobError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("InvalidAccessKeyId"), "{error}");
    assert!(desk.names().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_empty_and_said_to_be() {
    let server = Server::moto().await;
    server.fill_bucket("code", &[("proj2/a.py", b"a")]).await;
    let desk = Desk::new();
    let step = json!({"bucket": "code", "folder": "proj", "credentials": credentials(&server)});
    let done = desk.step("pull_from_s3", step).await.expect("pulled");
    assert_eq!(done.files, 0);
    assert!(
        desk.told().contains("s3://code/proj holds no files"),
        "{}",
        desk.told()
    );

    // Where the reference asks fsspec, it is an error.
    let url =
        json!({"url": "s3://code/proj", "key": "a", "secret": "b", "endpoint_url": server.url});
    let error = desk
        .step("pull_from_remote_storage", url)
        .await
        .expect_err("refused");
    assert!(matches!(error, BlobError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn profiles_and_roles_of_the_machine_let_in() {
    let server = Server::moto().await;
    server.fill_bucket("code", &[("p/a.py", b"a")]).await;
    let (id, secret) = server.make_user().await;
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join(".aws")).expect("made");
    let keys = format!("[base]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(home.path().join(".aws/credentials"), keys).expect("written");
    let printed = json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret}).to_string();
    fs::write(home.path().join("printed"), printed).expect("written");
    let config = format!(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\nregion = eu-west-1\n\
         [profile program]\ncredential_process = cat {}\n",
        home.path().join("printed").display()
    );
    fs::write(home.path().join(".aws/config"), config).expect("written");
    server.demand_authentication().await;
    let home_path = home.path().to_string_lossy().into_owned();
    let surroundings = [
        ("HOME", home_path.as_str()),
        ("AWS_ENDPOINT_URL", server.url.as_str()),
    ];

    for profile in ["base", "role", "program"] {
        let mut variables = surroundings.to_vec();
        variables.push(("AWS_PROFILE", profile));
        let desk = Desk::with(&variables);
        let done = desk
            .step("pull_from_s3", json!({"bucket": "code", "folder": "p"}))
            .await;
        assert_eq!(
            done.unwrap_or_else(|error| panic!("{profile}: {error}"))
                .files,
            1
        );
    }
    let desk = Desk::with(&surroundings);
    let named = json!({"bucket": "code", "folder": "p", "credentials": {
        "profile_name": "base", "assume_role_arn": "arn:aws:iam::123456789012:role/reader",
        "assume_role_kwargs": {"DurationSeconds": 900, "Tags": [{"Key": "a", "Value": "b"}]},
    }});
    assert_eq!(
        desk.step("pull_from_s3", named)
            .await
            .expect("pulled")
            .files,
        1
    );
    let nobody = desk
        .step("pull_from_s3", json!({"bucket": "code", "folder": "p"}))
        .await;
    let nobody = nobody.expect_err("nobody asks");
    assert!(
        nobody.to_string().contains("no credentials were found"),
        "{nobody}"
    );
    let wrong = json!({"bucket": "code", "folder": "p", "credentials": {"profile_name": "other"}});
    let wrong = desk
        .step("pull_from_s3", wrong)
        .await
        .expect_err("no such profile");
    assert!(
        wrong.to_string().contains("the AWS profile other"),
        "{wrong}"
    );
}
