//! What cannot work is said before anything is installed, all of it at once, with what to do.

use serde_json::{Value, json};

use crate::chart;

#[track_caller]
fn mistakes(values: &Value) -> String {
    chart::try_render(values)
        .err()
        .unwrap_or_else(|| panic!("{values} are taken"))
}

#[test]
fn what_every_release_needs_is_asked_for_at_once() {
    let said = mistakes(&json!({}));
    for part in [
        "worker.config.workPool is empty: name the work pool to poll",
        "worker.cloudApiConfig.accountId is empty, which worker.apiConfig=cloud needs",
        "worker.cloudApiConfig.workspaceId is empty",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn each_mistake_is_named_with_what_is_right() {
    for (path, value, part) in [
        (
            "worker.config.workpool",
            json!("x"),
            "worker.config: Additional property workpool is not allowed",
        ),
        (
            "wroker",
            json!({}),
            "Additional property wroker is not allowed",
        ),
        (
            "worker.apiConfig",
            json!("clod"),
            r#"must be one of the following: "cloud", "customerManagedCloud", "selfHostedServer""#,
        ),
        (
            "worker.config.limit",
            json!("four"),
            "worker.config.limit: Invalid type. Expected: [integer,null]",
        ),
        (
            "worker.config.limit",
            json!(0),
            "worker.config.limit: Must be greater than or equal to 1",
        ),
        (
            "worker.selfHostedServerApiConfig.apiUrl",
            json!("prefect:4200"),
            "worker.selfHostedServerApiConfig.apiUrl is prefect:4200: begin it with http:// or https://",
        ),
        (
            "worker.config.baseJobTemplate",
            json!({"configuration": "{", "existingConfigMapName": "mine"}),
            "worker.config.baseJobTemplate.configuration is not JSON",
        ),
        (
            "worker.config.baseJobTemplate",
            json!({"configuration": "{}", "existingConfigMapName": "mine"}),
            "has both configuration and existingConfigMapName: leave one of them out",
        ),
        (
            "worker",
            json!({"drainSeconds": 600, "terminationGracePeriodSeconds": 30}),
            "worker.terminationGracePeriodSeconds is 30, less than worker.drainSeconds (600)",
        ),
        (
            "worker.autoscaling",
            json!({"enabled": true, "minReplicas": 3, "maxReplicas": 2}),
            "worker.autoscaling.maxReplicas is less than minReplicas",
        ),
        (
            "pools",
            json!([{"name": "a", "worker": {"config": {"workPool": ""}}}]),
            "worker.config.workPool of the pool a is empty",
        ),
    ] {
        let values = chart::with(&chart::at(path, value));
        let said = mistakes(&values);
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn an_upgrade_that_keeps_the_defaults_of_another_chart_is_told_how_to_go_about_it() {
    // To Helm that is what `null` means: as if the chart had no such value.
    for path in ["metrics", "worker.logging"] {
        let said = mistakes(&chart::with(&chart::at(path, Value::Null)));
        assert!(said.contains("helm get values RELEASE"), "{path}: {said}");
    }
}
