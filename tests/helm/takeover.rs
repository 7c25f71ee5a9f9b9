//! A release of the prefect-worker chart becomes one of ours with `helm upgrade` and the values it has, and goes back with `helm rollback`.
//!
//! `WORKER_TEST_PREFECT_CHART` names the folder of that chart, its dependencies fetched. Without, `other/release.yaml` stands in for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    chart,
    install::{PROGRAM, Release, TOKEN, copy, load, load_program},
};

/// What an upgrade keeps.
const KEPT: [&str; 5] = [
    "deployment/prefect-worker",
    "serviceaccount/prefect-worker",
    "role/prefect-worker",
    "rolebinding/prefect-worker",
    "configmap/prefect-worker-base-job-template",
];

/// Labels that people select by. Those with a version in them change with each upgrade.
const LABELS: [&str; 5] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "cost-centre",
];

/// The chart that is upgraded from, and the directory that holds it where it is made here.
fn other() -> (PathBuf, Option<TempDir>) {
    if let Some(folder) = std::env::var_os("WORKER_TEST_PREFECT_CHART") {
        return (folder.into(), None);
    }
    let made = tempfile::tempdir().expect("a directory can be made");
    let chart = json!({
        "apiVersion": "v2", "name": "prefect-worker", "type": "application",
        "version": "2026.1.1", "appVersion": "3-latest",
    });
    let templates = made.path().join("templates");
    fs::create_dir(&templates).expect("the directory is ours");
    for (path, text) in [
        ("Chart.yaml", chart.to_string()),
        ("values.yaml", include_str!("reference.json").to_owned()),
        (
            "templates/release.yaml",
            include_str!("other/release.yaml").to_owned(),
        ),
    ] {
        fs::write(made.path().join(path), text).expect("the directory is ours");
    }
    (made.path().to_owned(), Some(made))
}

/// Gives the node an image under the name of the Python worker's: it has a shell's commands and waits, as nothing of Prefect is asked of it here.
fn load_python_worker() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    copy(Path::new("/usr/bin/busybox"), folder.path(), "/bin/busybox");
    for (path, does) in [
        ("bin/sh", "exit 0"),
        (
            "usr/bin/tini",
            "trap exit TERM\n/bin/busybox sleep 3600 &\nwait",
        ),
    ] {
        let script = folder.path().join(path);
        let parent = script.parent().expect("it is below the folder");
        fs::create_dir_all(parent).expect("the directory is ours");
        fs::write(&script, format!("#!/bin/busybox sh\n{does}\n")).expect("the directory is ours");
        let runnable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&script, runnable).expect("it is ours");
    }
    load(
        "prefecthq/prefect:3-python3.11-kubernetes",
        folder.path(),
        &json!({}),
    );
}

/// The values of somebody who uses that chart.
fn values(release: &Release) -> Value {
    let template = Command::new(PROGRAM)
        .args(["pool", "template", "--type", "kubernetes"])
        .output()
        .expect("the program can be run");
    let template = String::from_utf8(template.stdout).expect("a template is text");
    assert!(template.contains("job_manifest"), "{template}");
    json!({
        "commonLabels": {"cost-centre": "42"},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
        "worker": {
            "apiConfig": "selfHostedServer",
            "selfHostedServerApiConfig": {
                "apiUrl": release.api_url(),
                "basicAuth": {"enabled": true, "authString": format!("admin:{TOKEN}")},
            },
            "config": {"workPool": "pool", "queryInterval": 1, "baseJobTemplate": {"configuration": template}},
            "podLabels": {"team": "data"},
        },
    })
}

/// What the cluster has of an object.
fn object(release: &Release, name: &str) -> Value {
    let text = release.kubectl(&["get", name, "--output", "json"]);
    serde_json::from_str(&text).expect("kubectl writes JSON")
}

/// What must be as it was: whether it is the same object, what people select it by, and what cannot be changed.
fn identity(object: &Value) -> Value {
    let labels = LABELS.map(|label| &object["metadata"]["labels"][label]);
    json!({
        "uid": object["metadata"]["uid"],
        "labels": labels,
        "selector": object["spec"]["selector"],
        "account": object["spec"]["template"]["spec"]["serviceAccountName"],
        "team": object["spec"]["template"]["metadata"]["labels"]["team"],
        "arn": object["metadata"]["annotations"]["eks.amazonaws.com/role-arn"],
        "role": object["roleRef"],
    })
}

#[test]
fn a_release_of_the_prefect_worker_chart_becomes_ours_and_goes_back() {
    let ours = format!("worker:{}", env!("CARGO_PKG_VERSION"));
    load_python_worker();
    load_program(&format!("library/{ours}"));
    let release = Release::empty("takeover");
    let values = values(&release);
    let (other, _made) = other();
    release.helm("install", &other, &values);
    let before = KEPT.map(|name| object(&release, name));
    for object in &before {
        assert_eq!(
            object["metadata"]["labels"]["cost-centre"], "42",
            "{object}"
        );
    }

    release.helm("upgrade", &chart::folder(), &values);
    for (name, before) in KEPT.iter().zip(&before) {
        let after = object(&release, name);
        assert_eq!(identity(before), identity(&after), "{name}");
    }
    let image = "jsonpath={.items[*].spec.containers[*].image}";
    let pods = ["get", "pods", "--selector", "team=data", "--output", image];
    assert_eq!(release.kubectl(&pods), ours, "{}", release.describe());
    let run = release.run(&json!({
        "command": "echo taken over",
        "image": "worker-test/busybox:1",
        "image_pull_policy": "Never",
        "namespace": release.namespace,
    }));
    release.wait_for(&run, "Completed");

    release.rollback();
    let back = object(&release, KEPT[0]);
    assert_eq!(identity(&before[0]), identity(&back));
    assert_eq!(
        before[0]["spec"]["template"]["spec"]["containers"][0]["image"],
        back["spec"]["template"]["spec"]["containers"][0]["image"]
    );
}
