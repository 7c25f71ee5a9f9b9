use std::time::Duration;

use serde_json::{Map, Value, json};

use super::S3;
use crate::blob::inputs::Inputs;

fn of_settings(settings: Value) -> S3 {
    let map: Map<String, Value> = serde_json::from_value(settings).expect("a mapping");
    S3::of_settings("b", Inputs::new(&map)).expect("good")
}

#[test]
fn fsspecs_settings_are_understood() {
    let s3 = of_settings(json!({
        "key": "k", "secret": "s", "token": "t", "requester_pays": true, "use_ssl": false,
        "client_kwargs": {"region_name": "eu-west-1", "endpoint_url": "http://e", "verify": "/ca.pem"},
        "config_kwargs": {"read_timeout": 7, "retries": {"max_attempts": 2}, "s3": {"addressing_style": "path"}},
    }));
    assert_eq!(
        s3.login
            .keys
            .expect("a key")
            .token
            .expect("a token")
            .expose(),
        "t"
    );
    assert_eq!(
        (s3.region.as_deref(), s3.endpoint.as_deref()),
        (Some("eu-west-1"), Some("http://e"))
    );
    assert!(s3.requester_pays && !s3.use_ssl && !s3.login.anonymous);
    assert_eq!(s3.virtual_hosted, Some(false));
    assert_eq!(
        (s3.tuning.stall, s3.tuning.attempts),
        (Some(Duration::from_secs(7)), Some(3))
    );
    assert_eq!(
        s3.tuning.ca_file.as_deref(),
        Some(std::path::Path::new("/ca.pem"))
    );
    assert!(of_settings(json!({"anon": true})).login.anonymous);
    assert!(
        of_settings(json!({"config_kwargs": {"signature_version": "unsigned"}}))
            .login
            .anonymous
    );
}

#[test]
fn a_bucket_is_part_of_the_host_only_where_it_is_asked_for() {
    let address = |virtual_hosted, endpoint: Option<&str>, use_ssl| {
        let s3 = S3 {
            use_ssl,
            ..S3::empty("b")
        };
        s3.address(endpoint.map(str::to_owned), "r", virtual_hosted)
    };
    assert_eq!(address(true, None, true), None);
    assert_eq!(
        address(false, Some("http://e:9/"), true).as_deref(),
        Some("http://e:9")
    );
    assert_eq!(
        address(true, Some("http://e:9"), true).as_deref(),
        Some("http://b.e:9")
    );
    assert_eq!(
        address(true, None, false).as_deref(),
        Some("http://b.s3.r.amazonaws.com")
    );
}
