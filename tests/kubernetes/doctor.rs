//! `worker doctor` on a cluster: what it says of a worker that may do too little there, and of one that may do what it needs.

use std::fs;

use serde_json::{Value, json};
use worker_tests::program::{Finished, Program};

use crate::{
    PROGRAM,
    stage::{BOUND, NAMESPACE, Stage, kubectl},
};

/// Who the worker is, as far as the cluster knows.
const USER: &str = "worker-tests-doctor";

#[test]
fn each_permission_that_a_worker_lacks_is_named_with_what_goes_wrong_without() {
    // It makes the namespace.
    let _stage = Stage::set();
    let files = tempfile::tempdir().expect("a temporary directory can be made");
    let path = |name: &str| files.path().join(name).display().to_string();
    fs::write(path("kubeconfig"), kubeconfig_as(USER).to_string()).expect("a fresh directory");
    let template = path("template.json");
    let mut in_our_namespace = worker_drivers::kubernetes::default_template();
    in_our_namespace["variables"]["properties"]["namespace"]["default"] = json!(NAMESPACE);
    fs::write(&template, in_our_namespace.to_string()).expect("a fresh directory");
    let program = Program::new(PROGRAM).with("KUBECONFIG", path("kubeconfig"));
    let pool = [
        "pool",
        "create",
        "there",
        "--type",
        "kubernetes",
        "--base-job-template",
    ];
    drop(
        program
            .run(&[&pool[..], &[&template]].concat())
            .expect_code(0),
    );
    let look = || program.run(&["doctor", "--pool", "there"]);
    let grant = |rules: &Value| {
        fs::write(path("role.json"), role(rules).to_string()).expect("a fresh directory");
        kubectl(&["apply", "--filename", &path("role.json")]);
    };
    let jobs = json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]});
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]});

    grant(&json!([jobs, pods]));
    let few = until_it_says(look, "may not get pods/log");
    assert_eq!(few.code(), 1, "{few}");
    for said in [
        "may not create, get, list, update secrets; the Role of deploy/helm/worker grants it",
        "may not patch, delete secrets, so a secret may outlive its job",
        "may not list events, so what a pod waits for is not seen",
        "may not get pods/log, so what jobs write is not seen",
    ] {
        assert!(few.stdout.contains(said), "no {said}: {few}");
    }
    for not_said in ["jobs;", "watch pods"] {
        assert!(!few.stdout.contains(not_said), "{not_said}: {few}");
    }

    let others =
        json!({"apiGroups": [""], "resources": ["pods/log", "events", "secrets"], "verbs": ["*"]});
    grant(&json!([jobs, pods, others]));
    let enough = format!("this worker may do what it needs in namespace '{NAMESPACE}'");
    drop(until_it_says(look, &enough).expect_code(0));
    kubectl(&["delete", "--filename", &path("role.json")]);
}

// === functions ===

/// The cluster takes note of a Role a moment after it was made.
fn until_it_says(look: impl Fn() -> Finished, wanted: &str) -> Finished {
    worker_tests::wait::until(wanted, BOUND, || {
        let found = look();
        if found.stdout.contains(wanted) {
            Ok(found)
        } else {
            Err(found)
        }
    })
}

/// The kubeconfig of these tests, for somebody else.
fn kubeconfig_as(user: &str) -> Value {
    let shown = kubectl(&["config", "view", "--raw", "--output", "json"]);
    let mut kubeconfig: Value = serde_json::from_str(&shown).expect("it is JSON");
    for one in kubeconfig["users"].as_array_mut().expect("it has users") {
        one["user"]["as"] = json!(user);
    }
    kubeconfig
}

/// A Role with these rules, and that our user has it.
fn role(rules: &Value) -> Value {
    let metadata = json!({"name": USER, "namespace": NAMESPACE});
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": USER},
            "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
        },
    ]})
}
