use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{Endpoint, spell_credentials};
use crate::driver::DriverError;

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

#[test]
fn the_host_variable_wins() {
    let found = Endpoint::find(&environment(&[
        ("DOCKER_HOST", "tcp://engine:2375"),
        ("DOCKER_CONTEXT", "nowhere"),
    ]))
    .unwrap();
    assert_eq!(found.url, "tcp://engine:2375");
    assert_eq!(found.certificates, None);
    assert_eq!(found.base_url(), "http://engine:2375");
}

#[test]
fn certificates_make_it_tls() {
    let found = Endpoint::find(&environment(&[
        ("DOCKER_HOST", "tcp://engine:2376"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("HOME", "/home/ada"),
    ]))
    .unwrap();
    assert_eq!(found.certificates, Some(PathBuf::from("/home/ada/.docker")));
    assert_eq!(found.base_url(), "https://engine:2376");
}

#[test]
fn every_socket_has_the_same_base() {
    let found = Endpoint::find(&environment(&[("DOCKER_HOST", "unix:///tmp/x.sock")])).unwrap();
    assert_eq!(found.base_url(), "http+docker://localhost");
}

#[test]
fn the_current_context_is_followed_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let meta = folder.path().join("contexts/meta/4711");
    fs::create_dir_all(&meta).unwrap();
    fs::write(
        folder.path().join("config.json"),
        r#"{"currentContext": "far"}"#,
    )
    .unwrap();
    fs::write(
        meta.join("meta.json"),
        r#"{"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:2375"}}}"#,
    )
    .unwrap();
    let config = folder.path().to_str().unwrap();
    let found = Endpoint::find(&environment(&[("DOCKER_CONFIG", config)])).unwrap();
    assert_eq!(found.url, "tcp://far:2375");
    let chosen = [("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "gone")];
    let error = Endpoint::find(&environment(&chosen)).unwrap_err();
    assert!(error.to_string().contains("'gone'"), "{error}");
}

#[test]
fn an_address_nobody_can_speak_to_is_refused() {
    let endpoint = Endpoint {
        url: "ssh://ada@far".to_owned(),
        certificates: None,
    };
    let error = endpoint.client(super::CONTROL_LIMIT).unwrap_err();
    assert!(matches!(error, DriverError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("ssh://ada@far"), "{error}");
}

#[test]
fn credentials_are_spelled_as_engines_read_them() {
    let request = http::Request::builder()
        .header("X-Registry-Auth", "a+b/c=")
        .body(bollard::body_full(Vec::new().into()))
        .unwrap();
    let request = spell_credentials(request);
    assert_eq!(request.headers()["X-Registry-Auth"], "a-b_c=");
}
