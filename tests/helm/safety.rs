//! What the chart makes is safe to run: under the restricted Pod Security Standard, with the rights it needs and no more.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::chart::{self, Rendered};

/// Values that make every sort of pod.
fn releases() -> Vec<Rendered> {
    let reference: Value = serde_json::from_str(include_str!("reference.json"))
        .expect("the reference's values are JSON");
    let pools = json!([{"name": "a"}, {"name": "b", "worker": {"replicaCount": 2}}]);
    let mut old = reference;
    chart::merge(&mut old, &chart::needed());
    let template = json!({"configuration": "{}"});
    vec![
        chart::render(&chart::needed()),
        chart::render(&old),
        chart::render(&chart::with(&json!({ "pools": pools }))),
        chart::render(&chart::with(&chart::at(
            "worker.config.baseJobTemplate",
            template,
        ))),
        // What OpenShift's users set, whose cluster chooses the user.
        chart::render(&chart::with(&json!({"worker": {
            "podSecurityContext": {"runAsUser": null, "fsGroup": null},
            "containerSecurityContext": {"runAsUser": null},
        }}))),
    ]
}

#[test]
fn each_pod_is_allowed_under_the_restricted_standard() {
    for release in releases() {
        for pod in release.pods() {
            assert_eq!(not_restricted(pod), Vec::<String>::new(), "{pod}");
        }
    }
}

/// What of a pod the restricted Pod Security Standard does not allow, of what a chart could set.
fn not_restricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        must(pod[field].is_null(), field.to_owned());
    }
    let of_pod = &pod["securityContext"];
    must(of_pod["runAsUser"] != 0, "the pod is root".to_owned());
    must(
        of_pod["seccompProfile"]["type"] == "RuntimeDefault",
        "seccomp".to_owned(),
    );
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let allowed = ["configMap", "emptyDir", "secret", "projected"];
        let known = allowed.iter().any(|kind| !volume[*kind].is_null());
        must(known, format!("volume {volume}"));
    }
    let containers = ["initContainers", "containers"];
    let containers = containers
        .iter()
        .flat_map(|kind| pod[*kind].as_array().into_iter().flatten());
    for container in containers {
        let context = &container["securityContext"];
        for (field, wanted) in [
            ("allowPrivilegeEscalation", json!(false)),
            ("runAsNonRoot", json!(true)),
            ("readOnlyRootFilesystem", json!(true)),
            ("capabilities", json!({"drop": ["ALL"]})),
        ] {
            must(
                context[field] == wanted,
                format!("{field} is {}", context[field]),
            );
        }
        must(context["privileged"].is_null(), "privileged".to_owned());
        must(context["runAsUser"] != 0, "root".to_owned());
    }
    found
}

/// The rules of a role: each right as `verb resource`.
fn rights(role: &Value) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a rule has lists");
        list.iter()
            .map(|text| text.as_str().unwrap_or("?").to_owned())
            .collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().expect("a role has rules") {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                all.insert(format!("{verb} {resource}"));
            }
        }
    }
    all
}

#[test]
fn the_role_has_what_the_driver_asks_for_and_no_more() {
    let release = chart::render(&chart::needed());
    let wanted: BTreeSet<String> = [
        "create jobs",
        "get jobs",
        "list jobs",
        "watch jobs",
        "patch jobs",
        "delete jobs",
        "get pods",
        "list pods",
        "watch pods",
        "delete pods",
        "get pods/log",
        "list events",
        "create secrets",
        "get secrets",
        "list secrets",
        "update secrets",
        "patch secrets",
        "delete secrets",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(rights(release.one("Role")), wanted);
    assert!(release.all("ClusterRole").is_empty(), "{}", release.text);

    let without = chart::render(&chart::with(&chart::at("role.secrets", json!(false))));
    let wanted: BTreeSet<String> = wanted
        .into_iter()
        .filter(|right| !right.ends_with("secrets"))
        .collect();
    assert_eq!(rights(without.one("Role")), wanted);
}

#[test]
fn looking_everywhere_means_reading_and_nothing_else() {
    let release = chart::render(&chart::with(&chart::at(
        "worker.config.observerClusterWide",
        json!(true),
    )));
    for right in rights(release.one("ClusterRole")) {
        let verb = right.split(' ').next().unwrap_or_default();
        assert!(["get", "list", "watch"].contains(&verb), "{right}");
        assert!(!right.ends_with("secrets"), "{right}");
    }
}

#[test]
fn a_role_stands_where_jobs_are_started_and_is_bound_to_the_worker() {
    let values = json!({"role": {"namespaces": ["one", "two"]}, "namespaceOverride": "home"});
    let release = chart::render(&chart::with(&values));
    let of = |kind: &str| -> Vec<Value> {
        let objects = release.all(kind);
        objects
            .iter()
            .map(|object| object["metadata"]["namespace"].clone())
            .collect()
    };
    assert_eq!(of("Role"), ["one", "two"]);
    assert_eq!(of("RoleBinding"), ["one", "two"]);
    for binding in release.all("RoleBinding") {
        let subject = &binding["subjects"][0];
        assert_eq!(subject["namespace"], "home");
        assert_eq!(subject["name"], release.pods()[0]["serviceAccountName"]);
    }
}

#[test]
fn no_credential_is_in_a_pod() {
    let values = json!({"worker": {"selfHostedServerApiConfig": {
        "basicAuth": {"enabled": true, "authString": "admin:very-secret"},
    }}});
    let release = chart::render(&chart::with(&values));
    for pod in release.pods() {
        assert!(!pod.to_string().contains("very-secret"), "{pod}");
    }
    let secret = release.one("Secret");
    assert_eq!(secret["stringData"]["auth-string"], "admin:very-secret");
}

#[test]
fn an_upgrade_from_the_other_chart_changes_no_selector() {
    // A Deployment's selector can never be changed, and this is the one that people have.
    let release = chart::render(&chart::needed());
    let deployment = release.one("Deployment");
    assert_eq!(deployment["metadata"]["name"], "prefect-worker");
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    let wanted = json!({
        "app.kubernetes.io/name": "prefect-worker",
        "app.kubernetes.io/instance": chart::RELEASE,
        "app.kubernetes.io/component": "worker",
    });
    assert_eq!(*selector, wanted);
}

#[test]
fn no_two_pods_of_one_name_work_at_the_same_time() {
    let release = chart::render(&chart::needed());
    let deployment = release.one("Deployment");
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");

    let values = chart::at("worker.replicaCount", json!(3));
    let release = chart::render(&chart::with(&values));
    let several = release.one("StatefulSet");
    let arguments = several["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(
        arguments.contains(r#""--name","$(POD_NAME)""#),
        "{arguments}"
    );
}
