use serde_json::json;

use super::DriverKind::{self, Docker, Kubernetes, Process};

const ALL: [DriverKind; 3] = [Process, Docker, Kubernetes];

#[test]
fn a_kind_is_spelled_the_same_everywhere() {
    for kind in ALL {
        assert_eq!(
            kind.as_str()
                .parse::<DriverKind>()
                .expect("its own spelling"),
            kind
        );
        assert_eq!(kind.to_string(), kind.as_str());
        assert_eq!(json!(kind), json!(kind.as_str()));
    }
}

#[test]
fn a_type_that_is_not_served_is_named() {
    let error = "ecs".parse::<DriverKind>().expect_err("no driver for it");
    insta::assert_snapshot!(error, @"work pool type 'ecs' is not served by this worker; it serves process, docker and kubernetes");
}

#[test]
fn a_pool_name_tells_its_type_by_whole_words() {
    for (name, kind) in [
        ("docker-pool", Some(Docker)),
        ("k8s-prod", Some(Kubernetes)),
        ("process-1", Some(Process)),
        ("Local", Some(Process)),
        ("my_kube.pool", Some(Kubernetes)),
        ("docker-docker", Some(Docker)),
        ("docker-k8s", None),
        ("dockerized", None),
        ("default", None),
        ("", None),
    ] {
        assert_eq!(DriverKind::guess_from_name(name), kind, "{name}");
    }
}
