use serde_json::{Map, Value, json};
use worker_config::policy::Policy;

use super::{LABELS, Plan, plan};
use crate::{
    DriverError, Environment, Job, Owner, Program,
    kubernetes::{KubernetesSettings, PullImage, prepare},
};

fn configuration() -> Value {
    json!({
        "namespace": "flows",
        "labels": {},
        "job_manifest": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": "nightly-", "labels": {"own": "1"}},
            "spec": {
                "backoffLimit": 0,
                "template": {"spec": {
                    "parallelism": 1,
                    "completions": 1,
                    "restartPolicy": "Never",
                    "containers": [{"name": "prefect-job", "image": "a:1", "env": [{"name": "OWN", "value": "x"}]}],
                }},
            },
        },
    })
}

fn job(configuration: &Value) -> Job {
    Job {
        key: "11111111-1111-4111-8111-111111111111.1"
            .parse()
            .expect("a key"),
        owner: Owner("ada".to_owned()),
        name: "My Flow!".to_owned(),
        program: Program::Execute,
        environment: Environment(
            [
                ("PREFECT_API_KEY", "canary"),
                ("PREFECT_API_URL", "http://api"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ),
        labels: [("team".to_owned(), "a b".to_owned())].into(),
        configuration: configuration.as_object().expect("an object").clone(),
        workspace: None,
    }
}

fn settings() -> KubernetesSettings {
    KubernetesSettings {
        default_image: "default:1".to_owned(),
        ..KubernetesSettings::default()
    }
}

fn planned(configuration: &Value) -> Plan {
    plan(&job(configuration), &Policy::default(), &settings()).expect("it can be planned")
}

/// What is different between two manifests, by path: ours, and the reference's.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let part = |object: &Map<String, Value>| object.get(name).cloned();
                let (one, other) = (part(ours), part(theirs));
                let path = format!("{path}/{name}");
                match (one, other) {
                    (Some(one), Some(other)) => differences(&path, &one, &other, found),
                    (Some(_), None) => found.push(format!("+ {path}")),
                    (None, _) => found.push(format!("- {path}")),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (one, other)) in ours.iter().zip(theirs).enumerate() {
                differences(&format!("{path}/{index}"), one, other, found);
            }
        }
        (ours, theirs) if ours == theirs => {}
        _ => found.push(format!("~ {path}")),
    }
}

/// All that sets our manifest apart from the reference's, which `prepare` makes (held against the reference itself by the golden tests).
#[test]
fn only_what_is_meant_to_be_different_from_the_reference_is() {
    let configuration = configuration();
    let ours = Value::Object(planned(&configuration).manifest.0);
    let reference = prepare(&job(&configuration), &settings()).expect("it can be prepared");
    let mut found = Vec::new();
    differences("", &ours, &Value::Object(reference.manifest), &mut found);
    let meant = [
        // What a successor has to know, and `kubectl` need not.
        "+ /metadata/annotations/prefect-worker.io~container",
        "+ /metadata/annotations/prefect-worker.io~pod-watch-timeout-seconds",
        "+ /metadata/annotations/prefect-worker.io~program",
        // A name that is known before the Job is made, so that it is made once.
        "- /metadata/generateName",
        // Whose it is, and for which attempt.
        "+ /metadata/labels/prefect-worker.io~job",
        "+ /metadata/labels/prefect-worker.io~owner",
        "+ /metadata/name",
        "+ /spec/template/metadata/annotations",
        "+ /spec/template/metadata/labels/prefect-worker.io~job",
        "+ /spec/template/metadata/labels/prefect-worker.io~owner",
        // The API key is in a Secret.
        "- /spec/template/spec/containers/0/env/0/value",
        "+ /spec/template/spec/containers/0/env/0/valueFrom",
    ];
    let mut meant: Vec<String> = meant.map(|one| one.replace('~', "/")).to_vec();
    found.sort();
    meant.sort();
    assert_eq!(found, meant);
}

#[test]
fn the_name_is_the_templates_beginning_made_legal_and_the_attempts_own_end() {
    let name = planned(&configuration()).name;
    assert!(name.starts_with("nightly-") && name.len() == 18, "{name}");
    let mut literal = configuration();
    literal["job_manifest"]["metadata"]["generateName"] = json!("My Flow!-");
    let name = planned(&literal).name;
    assert!(name.starts_with("my-flow-"), "{name}");
    literal["job_manifest"]["metadata"]["name"] = json!("just-this");
    assert_eq!(planned(&literal).name, "just-this");
}

#[test]
fn what_does_not_fit_into_a_label_is_in_an_annotation() {
    let mut job = job(&configuration());
    let long = "x".repeat(100);
    job.labels = [
        ("long", long.as_str()),
        ("blank", "!!!"),
        ("///", "what"),
        ("fine", "a b"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let plan = plan(&job, &Policy::default(), &settings()).expect("it can be planned");
    let metadata = &plan.manifest.0["metadata"];
    let labels = metadata["labels"].as_object().expect("it has some");
    assert_eq!(labels["fine"], "a-b");
    for value in labels.values() {
        let value = value.as_str().expect("a text");
        assert!(super::names::is_label_value(value), "{value}");
    }
    let kept: Value = serde_json::from_str(
        metadata["annotations"][LABELS]
            .as_str()
            .expect("it is kept"),
    )
    .expect("it is JSON");
    assert_eq!(kept["long"], long);
    assert_eq!(kept["blank"], "!!!");
}

#[test]
fn a_patch_changes_the_manifest_and_one_that_does_not_fit_is_refused_without_being_quoted() {
    let mut patched = configuration();
    patched["customizations"] = json!([
        {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"gpu": "yes"}},
        {"op": "add", "path": "/spec/template/spec/containers/0/resources", "value": {"limits": {"nvidia.com/gpu": 1}}},
    ]);
    let manifest = planned(&patched).manifest.0;
    let pod = &manifest["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["gpu"], "yes");
    assert_eq!(
        pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"],
        1
    );
    for wrong in [
        json!([{"op": "replace", "path": "/canary", "value": 1}]),
        json!([{"op": "canary"}]),
        json!("canary"),
    ] {
        patched["customizations"] = wrong;
        let error = plan(&job(&patched), &Policy::default(), &settings());
        let error = error.expect_err("it does not fit");
        assert!(matches!(error, DriverError::Invalid { .. }), "{error:?}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn code_is_brought_by_an_init_container_where_an_image_for_it_is_configured() {
    let mut configuration = configuration();
    configuration["pulled_by_init_container"] = json!(true);
    let mut job = job(&configuration);
    job.program = Program::Engine {
        entrypoint: "flows.py:hello".to_owned(),
    };
    let mut settings = settings();
    let refused = plan(&job, &Policy::default(), &settings);
    assert!(
        matches!(refused, Err(DriverError::Invalid { .. })),
        "{refused:?}"
    );
    settings.pull_image = Some(PullImage("worker:1".to_owned()));
    let plan = plan(&job, &Policy::default(), &settings).expect("it can be planned");
    let pod = &plan.manifest.0["spec"]["template"]["spec"];
    let (init, main) = (&pod["initContainers"][0], &pod["containers"][0]);
    assert_eq!(init["image"], "worker:1");
    assert_eq!(init["args"][0], "pull");
    assert_eq!(init["volumeMounts"], main["volumeMounts"]);
    assert_eq!(main["workingDir"], init["args"][6]);
    assert_eq!(main["args"], json!(["python", "-m", "prefect.engine"]));
    assert!(!pod.to_string().contains("canary"), "{pod}");
    assert_eq!(init["env"], main["env"]);
}

#[test]
fn policy_and_secrets_hold_in_what_is_printed() {
    let plan = planned(&configuration());
    let told = format!("{plan:?}");
    assert!(!told.contains("canary"), "{told}");
    let [secret] = &plan.secrets[..] else {
        panic!("there is one credential: {:?}", plan.secrets);
    };
    assert_eq!(secret.name, format!("{}-env", plan.name));
    assert_eq!(secret.kind, "Opaque");
    assert_eq!(secret.values.0["PREFECT_API_KEY"], "canary");
}

#[test]
fn a_login_for_a_registry_is_a_secret_that_the_pod_names_and_nothing_else_shows() {
    let mut configuration = configuration();
    configuration["registry_credentials"] = json!({
        "username": "ada", "password": "canary-word", "registry_url": "registry.example:5000",
    });
    let pod = "/job_manifest/spec/template/spec";
    let pod = configuration.pointer_mut(pod).expect("it has one");
    pod["imagePullSecrets"] = json!([{"name": "theirs"}]);
    let plan = planned(&configuration);
    let told = format!("{plan:?} {}", Value::Object(plan.manifest.0.clone()));
    assert!(!told.contains("canary"), "{told}");
    let [_, secret] = &plan.secrets[..] else {
        panic!("there are two: {:?}", plan.secrets);
    };
    let named = &plan.manifest.0["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(*named, json!([{"name": "theirs"}, {"name": secret.name}]));
    assert_eq!(secret.kind, "kubernetes.io/dockerconfigjson");
    let config = &secret.values.0[".dockerconfigjson"];
    let config: Value = serde_json::from_str(config).expect("it is JSON");
    let login =
        json!({"username": "ada", "password": "canary-word", "auth": "YWRhOmNhbmFyeS13b3Jk"});
    assert_eq!(config, json!({"auths": {"registry.example:5000": login}}));
}

#[test]
fn registry_credentials_that_are_none_are_refused_without_being_quoted() {
    let with = |credentials: Value| {
        let mut configuration = configuration();
        configuration["registry_credentials"] = credentials;
        plan(&job(&configuration), &Policy::default(), &settings())
    };
    let none = with(Value::Null).expect("nothing is asked for");
    assert_eq!(none.secrets.len(), 1);
    let spec = &none.manifest.0["spec"]["template"]["spec"];
    assert!(spec.get("imagePullSecrets").is_none(), "{spec}");
    for wrong in [
        json!("canary"),
        json!({"username": "ada", "password": 1, "registry_url": "a"}),
        json!({"username": "ada", "password": "canary"}),
    ] {
        let refused = with(wrong.clone()).expect_err("it is no login").to_string();
        assert!(refused.starts_with("registry_credentials"), "{refused}");
        assert!(!refused.contains("canary"), "{refused}");
    }
}
