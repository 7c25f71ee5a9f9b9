use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Prepared, prepare};
use crate::{DriverError, Environment, Job, Owner, Program, kubernetes::KubernetesSettings};

fn job(configuration: Value) -> Job {
    let Value::Object(configuration) = configuration else {
        panic!("a configuration is an object")
    };
    Job {
        key: "11111111-1111-4111-8111-111111111111.1"
            .parse()
            .expect("a key"),
        owner: Owner("owner".to_owned()),
        name: "My Flow!".to_owned(),
        program: Program::Execute,
        environment: Environment(
            [("Z", "1"), ("A", "$(Z)"), ("PREFECT_API_URL", "http://api")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        ),
        labels: [("team".to_owned(), "Größe & Co".to_owned())].into(),
        configuration,
        workspace: None,
    }
}

fn prepare_with(configuration: Value) -> Result<Prepared, DriverError> {
    let settings = KubernetesSettings {
        default_image: "default:1".to_owned(),
        ..KubernetesSettings::default()
    };
    prepare(&job(configuration), &settings)
}

fn manifest() -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"template": {"spec": {
            "parallelism": 1,
            "completions": 1,
            "restartPolicy": "Never",
            "containers": [{"name": "prefect-job", "env": [{"name": "OWN", "value": "x"}, {"name": "A", "value": "y"}]}],
        }}},
    })
}

#[test]
fn variables_stay_in_the_order_in_which_they_name_each_other() {
    let configuration = json!({"job_manifest": manifest(), "env": {"Z": "1", "A": "$(Z)"}});
    let prepared = prepare_with(configuration).expect("it can be prepared");
    let container = &prepared.manifest["spec"]["template"]["spec"]["containers"][0];
    let names: Vec<&Value> = container["env"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    let sigterm = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR";
    assert_eq!(names, ["PREFECT_API_URL", sigterm, "Z", "A", "OWN"]);
    assert_eq!(container["args"], json!(["prefect", "flow-run", "execute"]));
    assert_eq!(container["image"], "default:1");
}

#[test]
fn names_and_labels_are_made_legal() {
    let prepared = prepare_with(json!({"job_manifest": manifest()})).expect("it can be prepared");
    let metadata = &prepared.manifest["metadata"];
    assert_eq!(metadata["generateName"], "my-flow-");
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["labels"], json!({"team": "Grosse-Co"}));
}

#[test]
fn a_manifest_that_cannot_run_a_flow_is_refused_with_what_it_must_be() {
    let mut wrong = manifest();
    wrong["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    let error = prepare_with(json!({"job_manifest": wrong})).expect_err("it is wrong");
    let error = error.to_string();
    assert!(
        error.contains("/spec/template/spec/restartPolicy must be \"Never\""),
        "{error}"
    );
}

#[test]
fn printing_shows_no_values_of_the_manifest() {
    let mut manifest = manifest();
    manifest["spec"]["x"] = json!("s3cret");
    let prepared = prepare_with(json!({
        "job_manifest": manifest,
        "cluster_config": {"config": {"token": "s3cret"}, "context_name": "c"},
    }));
    assert!(!format!("{prepared:?}").contains("s3cret"));
}

/// A manifest with another value in one place.
fn changed() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([null, {}, "x", {"name": 5}])),
        Just(json!({"a": null, "": [1], "valueFrom": {}})),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let places = prop::sample::select(vec![
        "/metadata",
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/generateName",
        "/spec",
        "/spec/backoffLimit",
        "/spec/template",
        "/spec/template/metadata",
        "/spec/template/metadata/labels",
        "/spec/template/metadata/annotations",
        "/spec/template/spec",
        "/spec/template/spec/containers",
        "/spec/template/spec/containers/0",
        "/spec/template/spec/containers/0/env",
        "/spec/template/spec/containers/0/args",
    ]);
    (places, value).prop_map(|(place, value)| {
        let mut manifest = manifest();
        let (parent, name) = place.rsplit_once('/').expect("a place has a parent");
        if parent == "/spec/template/metadata" {
            manifest["spec"]["template"]["metadata"] = json!({});
        }
        if parent == "/metadata" {
            manifest["metadata"] = json!({});
        }
        match manifest.pointer_mut(parent).expect("the parent is there") {
            Value::Array(items) => items[0] = value,
            parent => parent[name] = value,
        }
        manifest
    })
}

proptest! {
    #[test]
    fn no_manifest_makes_it_panic(manifest in changed(), env in prop_oneof![
        Just(json!({})), Just(json!([{}])), Just(json!([{"name": "A", "valueFrom": null}])), Just(json!(["x"])),
    ]) {
        // Whether it can be prepared or not: it ends.
        drop(prepare_with(json!({"job_manifest": manifest, "env": env})));
    }
}
