use serde_json::{Value, json};

use crate::{
    Driver as _,
    examination::{Examination, Finding, Verdict},
    kubernetes::{
        Credentials, Keep, KubernetesSettings, default_template,
        tests::api::{Api, ok},
    },
};

/// What is found by a worker that may do nothing with secrets, and passes no credentials on.
async fn examined(template: &Value) -> Vec<Finding> {
    let settings = KubernetesSettings {
        credentials: Credentials {
            rest: Keep::Nowhere,
            ..Credentials::default()
        },
        ..KubernetesSettings::default()
    };
    let api = Api::start(settings, |question| {
        let asked = &question.body["spec"]["resourceAttributes"]["resource"];
        let allowed = asked != "secrets";
        ok(&json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}))
    });
    let examination = Examination {
        template,
        image: None,
    };
    api.await.driver.examine(examination).await
}

/// A template of a pool whose jobs take a login, and where the pool says this of it.
fn template(login: &Value, default: &Value) -> Value {
    let mut template = default_template();
    template["job_configuration"]["registry_credentials"] = login.clone();
    template["variables"]["properties"]["registry_credentials"] = json!({"default": default});
    template
}

#[tokio::test]
async fn a_pool_with_a_login_for_a_registry_needs_secrets() {
    let block = json!("{{ prefect.blocks.docker-registry-credentials.ours }}");
    let variable = json!("{{ registry_credentials }}");
    for template in [
        template(&block, &Value::Null),
        template(&variable, &block),
        template(&json!({"username": "{{ name }}"}), &Value::Null),
    ] {
        let findings = examined(&template).await;
        let mut findings = findings.iter();
        let problem = findings.find(|finding| finding.verdict == Verdict::Problem);
        let detail = &problem.expect("there is one").detail;
        assert!(
            detail.contains("may not create, get, list, update secrets"),
            "{detail}"
        );
        assert!(detail.contains("registry_credentials"), "{detail}");
        assert!(!detail.contains("pass_credentials"), "{detail}");
    }
}

#[tokio::test]
async fn a_pool_without_a_login_for_a_registry_needs_no_secrets() {
    let variable = json!("{{ registry_credentials }}");
    for template in [default_template(), template(&variable, &Value::Null)] {
        let findings = examined(&template).await;
        let mut verdicts = findings.iter().map(|finding| finding.verdict);
        assert!(verdicts.all(|one| one == Verdict::Ok), "{findings:?}");
    }
}
