use serde_json::json;

use super::{host, of_answer, of_entry};

#[test]
fn a_registry_is_the_same_however_it_is_written() {
    assert_eq!(host("https://reg.example:5000/v2/"), "reg.example:5000");
    assert_eq!(host("reg.example:5000"), "reg.example:5000");
    assert_eq!(host("https://index.docker.io/v1/"), "docker.io");
    assert_eq!(host("docker.io"), "docker.io");
    assert_ne!(host("reg.example:5000"), host("reg.example:5001"));
}

#[test]
fn an_entry_of_the_configuration_is_read_in_all_its_forms() {
    let found = of_entry(&json!({"auth": "YWRhOnM6Y3JldA=="}), "r").unwrap();
    assert_eq!(found.username.as_deref(), Some("ada"));
    assert_eq!(found.password.as_deref(), Some("s:cret"));
    let found = of_entry(&json!({"identitytoken": "t"}), "r").unwrap();
    assert_eq!(found.identitytoken.as_deref(), Some("t"));
    assert_eq!(of_entry(&json!({}), "r"), None);
    assert_eq!(of_entry(&json!({"auth": "???"}), "r"), None);
}

#[test]
fn a_helper_may_give_a_token() {
    let found = of_answer(&json!({"Username": "<token>", "Secret": "t"}), "r").unwrap();
    assert_eq!(
        (found.username, found.identitytoken.as_deref()),
        (None, Some("t"))
    );
    let found = of_answer(&json!({"Username": "ada", "Secret": "p"}), "r").unwrap();
    assert_eq!(found.password.as_deref(), Some("p"));
    assert_eq!(of_answer(&json!({}), "r"), None);
}
