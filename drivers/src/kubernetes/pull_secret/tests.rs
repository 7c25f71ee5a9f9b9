use serde_json::{Map, json};

use super::{key, name_in};

#[test]
fn docker_hub_has_the_name_by_which_nodes_know_it_and_others_their_own() {
    for hub in [
        "docker.io",
        "index.docker.io",
        "https://index.docker.io/v1/",
        "https://registry-1.docker.io",
    ] {
        assert_eq!(key(hub), "https://index.docker.io/v1/", "{hub}");
    }
    for other in [
        "ghcr.io",
        "https://example.azurecr.io",
        "registry.example/docker.io",
    ] {
        assert_eq!(key(other), other);
    }
}

#[test]
fn a_pod_without_a_list_gets_one_and_what_is_no_list_is_refused() {
    for before in [json!({}), json!({"imagePullSecrets": null})] {
        let mut manifest = Map::new();
        manifest.insert("spec".to_owned(), json!({"template": {"spec": before}}));
        name_in(&mut manifest, "a").expect("it has a pod");
        let pod = &manifest["spec"]["template"]["spec"];
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "a"}]));
    }
    let mut manifest = Map::new();
    let pod = json!({"imagePullSecrets": "mine"});
    manifest.insert("spec".to_owned(), json!({"template": {"spec": pod}}));
    let refused = name_in(&mut manifest, "a").expect_err("it is no list");
    assert!(refused.to_string().contains("imagePullSecrets"));
}
