use serde_json::{Value, json};

use super::{Credentials, Keep};

fn credentials(settings: &[(&str, &str)]) -> Credentials {
    let settings = settings.iter();
    Credentials::find(
        &settings
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

fn variables() -> Vec<Value> {
    vec![
        json!({"name": "PREFECT_API_KEY", "value": "canary-key"}),
        json!({"name": "PREFECT_API_AUTH_STRING", "value": "canary-auth"}),
        json!({"name": "PREFECT_CLIENT_CUSTOM_HEADERS", "value": "canary-headers"}),
        json!({"name": "PLAIN", "value": "plain"}),
    ]
}

#[test]
fn credentials_are_kept_in_a_secret_of_the_job_unless_somebody_says_otherwise() {
    let mut list = variables();
    let secret = credentials(&[]).hide(&mut list, "job-env");
    let secret = secret.expect("there is something to keep");
    assert_eq!(secret.0.len(), 3);
    assert_eq!(secret.0["PREFECT_API_KEY"], "canary-key");
    let shown = format!("{} {secret:?}", Value::from(list.clone()));
    assert!(!shown.contains("canary"), "{shown}");
    let reference = json!({"secretKeyRef": {"name": "job-env", "key": "PREFECT_API_KEY"}});
    assert_eq!(list[0]["valueFrom"], reference);
    assert_eq!(list[3]["value"], "plain");
}

#[test]
fn a_secret_that_somebody_keeps_is_referred_to() {
    let mut list = variables();
    let prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET_";
    let credentials = credentials(&[
        (&format!("{prefix}NAME"), "team-secret"),
        (&format!("{prefix}KEY"), "key"),
        ("WORKER_KUBERNETES_SECRETS", "none"),
    ]);
    assert_eq!(credentials.rest, Keep::Nowhere);
    assert_eq!(credentials.hide(&mut list, "job-env"), None);
    let names: Vec<&Value> = list.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["PREFECT_API_KEY", "PLAIN"]);
    let reference = json!({"secretKeyRef": {"name": "team-secret", "key": "key"}});
    assert_eq!(list[0]["valueFrom"], reference);
}

#[test]
fn who_has_seen_to_a_credential_in_the_manifest_is_left_alone() {
    let own = json!({"name": "PREFECT_API_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}});
    let mut list = vec![variables().remove(0), own.clone()];
    assert_eq!(credentials(&[]).hide(&mut list, "job-env"), None);
    assert_eq!(list, [own]);
}

#[test]
fn all_of_an_environment_can_be_kept_in_the_secret() {
    let mut list = variables();
    list.push(json!({"name": "with space", "value": "x"}));
    let name = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_STORE_ENV_AS_SECRET";
    let secret = credentials(&[(name, "true")]).hide(&mut list, "job-env");
    let secret = secret.expect("there is something to keep").0;
    assert_eq!(secret["PLAIN"], "plain");
    assert_eq!(secret["variable-4"], "x");
    assert!(list.iter().all(|entry| entry.get("value").is_none()));
}
