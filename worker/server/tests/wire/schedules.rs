//! Runs that schedules make ahead of time.

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, eventually};

async fn scheduled(api: &Api) -> Vec<Value> {
    let query = json!({ "flow_runs": { "state": { "type": { "any_": ["SCHEDULED"] } } }, "sort": "NEXT_SCHEDULED_START_TIME_ASC" });
    let found = api.post("/flow_runs/filter", query).await;
    found.as_array().cloned().unwrap_or_default()
}

async fn wait_for(api: &Api, count: usize) -> Vec<Value> {
    eventually("the making of runs", async || {
        let found = scheduled(api).await;
        (found.len() == count).then_some(found)
    })
    .await
}

#[tokio::test]
async fn a_schedule_makes_its_next_three_runs_and_each_once() {
    let api = Api::start().await;
    api.pool().await;
    let hourly = json!([{ "schedule": { "interval": 3600.0, "anchor_date": "2024-01-01T00:30:00Z" }, "parameters": { "n": 2 } }]);
    let deployment = api
        .deployment(json!({ "schedules": hourly, "parameters": { "n": 1, "m": 1 }, "tags": ["t"] }))
        .await;
    let runs = wait_for(&api, 3).await;
    for run in &runs {
        assert_eq!(run["parameters"], json!({ "n": 2, "m": 1 }));
        assert_eq!(run["auto_scheduled"], true);
        assert_eq!(run["tags"], json!(["t", "auto-scheduled"]));
        let due = run["next_scheduled_start_time"].as_str().expect("a time");
        assert!(due.ends_with(":30:00Z"), "{due}");
    }
    // Resuming wakes the scheduler once more; it finds that everything is there.
    api.post(
        &format!("/deployments/{deployment}/resume_deployment"),
        json!({}),
    )
    .await;
    api.post("/flows/", json!({ "name": "after" })).await;
    assert_eq!(wait_for(&api, 3).await.len(), 3);
}

#[tokio::test]
async fn a_paused_deployment_takes_its_runs_back() {
    let api = Api::start().await;
    api.pool().await;
    let daily = json!([{ "schedule": { "cron": "0 9 * * *", "timezone": "Europe/Berlin" } }]);
    let deployment = api.deployment(json!({ "schedules": daily })).await;
    wait_for(&api, 3).await;
    api.post(
        &format!("/deployments/{deployment}/pause_deployment"),
        json!({}),
    )
    .await;
    wait_for(&api, 0).await;
    api.post(
        &format!("/deployments/{deployment}/resume_deployment"),
        json!({}),
    )
    .await;
    wait_for(&api, 3).await;
    let schedules = api
        .get(&format!("/deployments/{deployment}/schedules"))
        .await;
    let schedule = schedules[0]["id"].as_str().expect("an id");
    api.send(
        Method::DELETE,
        &format!("/deployments/{deployment}/schedules/{schedule}"),
        None,
    )
    .await;
    wait_for(&api, 0).await;
}

#[tokio::test]
async fn a_schedule_that_cannot_be_kept_is_refused_with_the_reason() {
    let api = Api::start().await;
    api.pool().await;
    let flow = api.post("/flows/", json!({ "name": "f" })).await;
    let cases = [
        (json!({ "rrule": "FREQ=OFTEN" }), "Invalid rrule string"),
        (json!({ "cron": "every day" }), "Invalid cron string"),
        (
            json!({ "cron": "0 0 * * *", "timezone": "Moon/Crater" }),
            "Invalid timezone",
        ),
        (json!({ "interval": 0 }), "must be positive"),
        (json!({ "cron": "* * * * * *" }), "Invalid cron string"),
        (
            json!({}),
            "a cron pattern, an interval or a recurrence rule",
        ),
    ];
    for (schedule, reason) in cases {
        let body =
            json!({ "name": "d", "flow_id": flow["id"], "schedules": [{ "schedule": schedule }] });
        let answer = api.send(Method::POST, "/deployments/", Some(&body)).await;
        assert_eq!(answer.status, 422, "{schedule}");
        assert!(answer.text.contains(reason), "{}", answer.text);
    }
    assert_eq!(
        api.send(Method::GET, "/deployments/name/f/d", None)
            .await
            .status,
        404,
        "nothing of it is kept"
    );
}
