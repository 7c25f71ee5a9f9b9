//! Deployments: what an upsert keeps, what a change merges, and what is checked.

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, id};

#[tokio::test]
async fn an_upsert_keeps_what_it_does_not_name_and_replaces_schedules() {
    let api = Api::start().await;
    api.pool().await;
    let steps = json!([{ "prefect.deployments.steps.git_clone": { "repository": "r" } }]);
    let schedules = json!([{ "schedule": { "cron": "0 0 * * *" }, "slug": "s" }]);
    let first = api
        .deployment(json!({ "pull_steps": steps, "paused": true, "schedules": schedules, "job_variables": { "a": 1 }, "concurrency_limit": 2 }))
        .await;
    let flow = id(&api.get("/flows/name/f").await);
    let body = json!({ "name": "d", "flow_id": flow, "entrypoint": "x.py:f" });
    let answer = api.send(Method::POST, "/deployments/", Some(&body)).await;
    assert_eq!(answer.status, 200);
    let second = answer.json();
    assert_eq!(id(&second), first);
    assert_eq!(second["pull_steps"], steps);
    assert_eq!(second["paused"], true);
    assert_eq!(second["job_variables"], json!({ "a": 1 }));
    assert_eq!(second["work_pool_name"], "p");
    assert_eq!(second["global_concurrency_limit"]["limit"], 2);
    assert_eq!(second["entrypoint"], "x.py:f");
    assert_eq!(second["schedules"], json!([]));
}

#[tokio::test]
async fn a_change_merges_schedules_by_slug() {
    let api = Api::start().await;
    api.pool().await;
    let schedules = json!([{ "schedule": { "cron": "0 0 * * *" }, "slug": "a" }, { "schedule": { "cron": "1 0 * * *" }, "slug": "b" }]);
    let deployment = api.deployment(json!({ "schedules": schedules })).await;
    let path = format!("/deployments/{deployment}");
    api.patch(&path, json!({ "description": "x" })).await;
    let slugs = async || {
        let view = api.get(&path).await;
        let schedules = view["schedules"].as_array().cloned().unwrap_or_default();
        let mut slugs: Vec<String> = schedules
            .iter()
            .map(|schedule| {
                format!(
                    "{} {}",
                    schedule["slug"].as_str().unwrap_or("-"),
                    schedule["schedule"]["cron"].as_str().unwrap_or("-")
                )
            })
            .collect();
        slugs.sort();
        slugs
    };
    assert_eq!(slugs().await, ["a 0 0 * * *", "b 1 0 * * *"]);
    let change = json!({ "schedules": [{ "schedule": { "cron": "5 5 * * *" }, "slug": "b" }, { "schedule": { "cron": "2 0 * * *" }, "slug": "c" }] });
    api.patch(&path, change).await;
    assert_eq!(slugs().await, ["a 0 0 * * *", "b 5 5 * * *", "c 2 0 * * *"]);
    let without = json!({ "schedules": [{ "schedule": { "cron": "5 5 * * *" } }] });
    let answer = api.send(Method::PATCH, &path, Some(&without)).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
}

#[tokio::test]
async fn a_queue_that_a_deployment_names_is_made() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({ "work_queue_name": "fresh" })).await;
    assert_eq!(
        api.get(&format!("/deployments/{deployment}")).await["work_queue_name"],
        "fresh"
    );
    assert_eq!(api.get("/work_pools/p/queues/fresh").await["priority"], 2);
    let flow = id(&api.get("/flows/name/f").await);
    let body = json!({ "name": "e", "flow_id": flow, "work_pool_name": "nope" });
    let answer = api.send(Method::POST, "/deployments/", Some(&body)).await;
    assert_eq!(
        (answer.status, &answer.json()["detail"]),
        (404, &json!("Work pool \"nope\" not found."))
    );
}

fn template() -> Value {
    json!({
        "job_configuration": { "image": "{{ image }}", "env": "{{ env }}", "stream": "{{ stream }}" },
        "variables": { "type": "object", "required": ["image"], "properties": {
            "image": { "type": "string" }, "env": { "type": "object", "default": {} }, "stream": { "type": "boolean", "default": true },
        } },
    })
}

#[tokio::test]
async fn job_variables_are_checked_against_the_template_of_the_pool() {
    let api = Api::start().await;
    api.post(
        "/work_pools/",
        json!({ "name": "p", "type": "docker", "base_job_template": template() }),
    )
    .await;
    let deployment = api
        .deployment(json!({ "job_variables": { "stream": false } }))
        .await;
    let flow = id(&api.get("/flows/name/f").await);
    let wrong = json!({ "name": "w", "flow_id": flow, "work_pool_name": "p", "job_variables": { "stream": "often" } });
    let answer = api.send(Method::POST, "/deployments/", Some(&wrong)).await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.text.contains("Validation failed for field 'stream'"),
        "{}",
        answer.text
    );
    let path = format!("/deployments/{deployment}/create_flow_run");
    let missing = api.send(Method::POST, &path, Some(&json!({}))).await;
    assert_eq!(
        missing.status, 422,
        "what is required has to be there when it runs: {}",
        missing.text
    );
    let given = json!({ "job_variables": { "image": "i", "unknown": 1, "env": null } });
    assert_eq!(
        api.send(Method::POST, &path, Some(&given)).await.status,
        201
    );
}

#[tokio::test]
async fn parameters_are_checked_when_the_deployment_enforces_its_schema() {
    let api = Api::start().await;
    api.pool().await;
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" }, "m": { "type": "string", "default": "x" } } });
    let deployment = api
        .deployment(json!({ "parameter_openapi_schema": schema, "parameters": { "n": 1 } }))
        .await;
    let path = format!("/deployments/{deployment}/create_flow_run");
    let run = api.post(&path, json!({ "parameters": { "m": "y" } })).await;
    assert_eq!(run["parameters"], json!({ "n": 1, "m": "y" }));
    let wrong = api
        .send(
            Method::POST,
            &path,
            Some(&json!({ "parameters": { "n": "many" } })),
        )
        .await;
    assert_eq!(wrong.status, 409);
    assert!(
        wrong
            .text
            .contains("Error creating flow run: Validation failed for field 'n'"),
        "{}",
        wrong.text
    );
    let waived = json!({ "parameters": { "n": "many" }, "enforce_parameter_schema": false });
    assert_eq!(
        api.send(Method::POST, &path, Some(&waived)).await.status,
        201
    );
    let change = api
        .send(
            Method::PATCH,
            &format!("/deployments/{deployment}"),
            Some(&json!({ "parameters": { "n": "many" } })),
        )
        .await;
    assert_eq!(change.status, 409);
}

#[tokio::test]
async fn a_template_that_names_no_variable_is_refused() {
    let api = Api::start().await;
    let mut broken = template();
    broken["job_configuration"]["extra"] = json!("{{ nowhere }}");
    let answer = api
        .send(
            Method::POST,
            "/work_pools/",
            Some(&json!({ "name": "p", "type": "docker", "base_job_template": broken })),
        )
        .await;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("nowhere"), "{}", answer.text);
    let half = json!({ "name": "p", "type": "docker", "base_job_template": { "variables": { "properties": {} } } });
    assert_eq!(
        api.send(Method::POST, "/work_pools/", Some(&half))
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn names_and_keys_that_may_not_be_are_refused() {
    let api = Api::start().await;
    api.pool().await;
    let reserved = api
        .send(
            Method::POST,
            "/work_pools/",
            Some(&json!({ "name": "Prefect-x", "type": "process" })),
        )
        .await;
    assert_eq!(reserved.status, 403);
    let twice = api
        .send(
            Method::POST,
            "/work_pools/",
            Some(&json!({ "name": "p", "type": "process" })),
        )
        .await;
    assert_eq!(twice.status, 409);
    let flow = id(&api.post("/flows/", json!({ "name": "f" })).await);
    let unknown = json!({ "name": "d", "flow_id": flow, "bogus": 1 });
    let answer = api
        .send(Method::POST, "/deployments/", Some(&unknown))
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["exception_detail"][0]["loc"],
        json!(["body", "bogus"])
    );
    let global = json!({ "name": "d", "flow_id": flow, "global_concurrency_limit_id": "00000000-0000-0000-0000-000000000000" });
    assert_eq!(
        api.send(Method::POST, "/deployments/", Some(&global))
            .await
            .status,
        422
    );
}
