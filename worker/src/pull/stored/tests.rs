use super::*;

fn block(slug: &str, data: &Value) -> BlockDocument {
    serde_json::from_value(json!({
        "id": uuid::Uuid::nil(), "name": "code", "data": data, "block_type": {"slug": slug},
    }))
    .expect("a block")
}

/// Where the block of a step would be read from.
fn place(slug: &str, data: &Value, path: Option<&str>, field: &str) -> Result<String, String> {
    let (_, lookups) = step(block(slug, data), path, true)?;
    let data = lookups.blocks[&(slug.to_owned(), "code".to_owned())].clone();
    let data = data.expect("it is there");
    Ok(data[field].as_str().expect("a text").to_owned())
}

#[test]
fn a_path_is_below_the_place_of_its_block() {
    let cases = [
        ("gcs-bucket", "bucket_folder", "base", "p", "base/p"),
        (
            "azure-blob-storage-container",
            "base_folder",
            "base/",
            "p",
            "base/p",
        ),
        ("s3-bucket", "bucket_folder", "base", "p", "p"),
        ("local-file-system", "basepath", "/base", "p", "/base/p"),
        (
            "local-file-system",
            "basepath",
            "/base",
            "/base/p",
            "/base/p",
        ),
        (
            "remote-file-system",
            "basepath",
            "s3://b/base",
            "p",
            "s3://b/base/p",
        ),
        (
            "remote-file-system",
            "basepath",
            "s3://b",
            "s3://b/p",
            "s3://b/p",
        ),
    ];
    for (slug, field, base, path, expected) in cases {
        let data = json!({field: base, "bucket_name": "b"});
        assert_eq!(
            place(slug, &data, Some(path), field).as_deref(),
            Ok(expected)
        );
        for none in [None, Some(""), Some(".")] {
            assert_eq!(place(slug, &data, none, field).as_deref(), Ok(base));
        }
    }
}

#[test]
fn a_path_that_leads_out_is_left_to_the_job_with_the_reason() {
    for (slug, path) in [
        ("local-file-system", "/etc"),
        ("gcs-bucket", "../x"),
        ("local-file-system", "/base/../x"),
    ] {
        let data = json!({"basepath": "/base", "bucket_folder": "base"});
        let error = step(block(slug, &data), Some(path), true).expect_err("it leads out");
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn blocks_that_hold_no_code_here_are_left_to_the_job() {
    let error = step(block("s3", &json!({"bucket_path": "b"})), None, true).expect_err("2.x");
    assert!(error.contains("s3"), "{error}");
    let local = block("local-file-system", &json!({"basepath": "/base"}));
    let error = step(local, None, false).expect_err("the job has another disk");
    assert!(error.contains("of the job's own"), "{error}");
    let repository = block(
        "github-repository",
        &json!({"repository_url": "https://h/r"}),
    );
    let error = step(repository, Some("sub"), true).expect_err("a path in a repository");
    assert!(error.contains("'sub'"), "{error}");
}
