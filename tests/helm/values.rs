//! Every value does what it says: each has a case in `cases.yaml`, those of the prefect-worker chart and those of ours.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::chart::{self, with};

/// The values of the prefect-worker chart with their defaults.
const REFERENCE: &str = include_str!("reference.json");

/// Cases of values that need the same other ones.
fn groups() -> Vec<Value> {
    serde_saphyr::from_str(include_str!("cases.yaml")).expect("the cases are YAML")
}

fn cases(group: &Value) -> impl Iterator<Item = [&Value; 3]> {
    let cases = group["cases"].as_array().into_iter().flatten();
    cases.map(|case| [&case[0], &case[1], &case[2]])
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn each_value_shows_in_what_is_rendered() {
    for group in groups() {
        let under = with(&group["under"]);
        let before = chart::render(&under).text;
        for [path, value, wanted] in cases(&group) {
            let (path, wanted) = (text(path), text(wanted));
            let mut values = under.clone();
            chart::merge(&mut values, &chart::at(path, value.clone()));
            let after = chart::render(&values).text;
            if wanted.is_empty() {
                assert_eq!(before, after, "{path} has an effect");
                continue;
            }
            assert!(
                !before.contains(wanted),
                "{wanted:?} is there without {path}"
            );
            assert!(after.contains(wanted), "no {wanted:?} with {path}: {after}");
        }
    }
}

/// Values that are checked by a test of their own, here or beside.
const ELSEWHERE: [&str; 7] = [
    "worker.apiConfig",
    "worker.config.baseJobTemplate.sync",
    "worker.livenessProbe.enabled",
    "worker.readinessProbe.enabled",
    "role.create",
    "rolebinding.create",
    "metrics.service.enabled",
];

#[test]
fn what_can_be_turned_off_is_not_there_then() {
    let on = chart::render(&chart::needed());
    let without = |path: &str| chart::render(&with(&chart::at(path, json!(false))));
    for (path, kind) in [
        ("role.create", "Role"),
        ("rolebinding.create", "RoleBinding"),
        ("metrics.service.enabled", "Service"),
    ] {
        assert!(!on.all(kind).is_empty(), "{path}");
        assert!(without(path).all(kind).is_empty(), "{path}");
    }
    for probe in ["livenessProbe", "readinessProbe"] {
        let off = without(&format!("worker.{probe}.enabled"));
        assert!(!on.pods()[0]["containers"][0][probe].is_null(), "{probe}");
        assert!(off.pods()[0]["containers"][0][probe].is_null(), "{probe}");
    }
}

#[test]
fn a_pool_that_exists_gets_the_template_unless_it_is_only_for_a_new_one() {
    let template = |sync: &str| {
        let template = json!({"configuration": {"variables": {}}, "sync": sync});
        chart::render(&with(&chart::at("worker.config.baseJobTemplate", template))).text
    };
    assert!(template("always").contains("WORKER_SYNC_BASE_JOB_TEMPLATE"));
    assert!(!template("ifAbsent").contains("WORKER_SYNC_BASE_JOB_TEMPLATE"));
    assert!(template("ifAbsent").contains("--base-job-template"));
    assert!(!template("never").contains("--base-job-template"));
}

#[test]
fn the_key_of_cloud_reaches_jobs_in_the_way_that_is_chosen() {
    let rendered = |propagation: &str| {
        let cloud =
            json!({"accountId": "a", "workspaceId": "w", "jobApiKeyPropagation": propagation});
        let values = json!({"worker": {"apiConfig": "cloud", "cloudApiConfig": cloud}});
        chart::render(&with(&values)).text
    };
    assert!(rendered("secretRef").contains("KUBERNETES_WORKER_API_KEY_SECRET_NAME"));
    let in_manifest = rendered("envVar");
    assert!(
        !in_manifest.contains("KUBERNETES_WORKER_API_KEY"),
        "{in_manifest}"
    );
}

#[test]
fn the_network_policy_lets_the_worker_reach_its_api() {
    let values = with(&chart::at("networkPolicy.enabled", json!(true)));
    let release = chart::render(&values);
    let ports = release.one("NetworkPolicy")["spec"]["egress"].to_string();
    assert!(ports.contains(r#"{"port":4200}"#), "{ports}");
}

/// The paths of all values in a tree.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                leaves(value, path.trim_start_matches('.'), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_value_has_a_case_and_every_case_a_value() {
    let values =
        std::fs::read_to_string(chart::folder().join("values.yaml")).expect("the chart has values");
    let values: Value = serde_saphyr::from_str(&values).expect("they are YAML");
    let mut there = BTreeSet::new();
    leaves(&values, "", &mut there);
    let groups = groups();
    let mut checked: BTreeSet<String> = ELSEWHERE.map(str::to_owned).into();
    checked.extend(
        groups
            .iter()
            .flat_map(cases)
            .map(|[path, ..]| text(path).to_owned()),
    );
    assert_eq!(there, checked);
}

#[test]
fn all_values_of_the_other_chart_are_taken() {
    let mut values: Value = serde_json::from_str(REFERENCE).expect("the values are JSON");
    chart::merge(&mut values, &chart::needed());
    let release = chart::render(&values);
    let container = &release.pods()[0]["containers"][0];
    // The Python worker's image has no program of ours, and its values file names it without meaning to.
    assert!(text(&container["image"]).starts_with("worker:"));
    let variables = container["env"].as_array().expect("there are variables");
    for (name, wanted) in [
        ("PREFECT_API_URL", "http://prefect.example:4200/api"),
        ("PREFECT_WORKER_QUERY_SECONDS", "5"),
        ("PREFECT_WORKER_PREFETCH_SECONDS", "10"),
        ("PREFECT_API_ENABLE_HTTP2", "true"),
        ("PREFECT_DEBUG_MODE", "false"),
        (
            "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES",
            "default",
        ),
    ] {
        let found = variables.iter().find(|variable| variable["name"] == name);
        let found = found.unwrap_or_else(|| panic!("{name} is not set"));
        assert_eq!(found["value"], wanted, "{name}");
    }
    assert!(container["livenessProbe"].is_null(), "it is off there");
}

#[test]
fn the_chart_is_without_complaint() {
    chart::helm(&["lint", "--strict"], &chart::folder(), &chart::needed())
        .expect("helm lint finds nothing");
}
