//! What a worker is handed when it polls.

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, id, in_seconds};

async fn run_in(api: &Api, deployment: &str, queue: &str, due: &str) -> String {
    let path = format!("/deployments/{deployment}/create_flow_run");
    let state = json!({ "type": "SCHEDULED", "state_details": { "scheduled_time": due } });
    id(&api
        .post(&path, json!({ "work_queue_name": queue, "state": state }))
        .await)
}

#[tokio::test]
async fn the_urgent_queue_comes_first_and_then_the_longest_due() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    api.post(
        "/work_pools/p/queues/",
        json!({ "name": "urgent", "priority": 1 }),
    )
    .await;
    let late = run_in(&api, &deployment, "default", &in_seconds(-60)).await;
    let later = run_in(&api, &deployment, "urgent", &in_seconds(-10)).await;
    let sooner = run_in(&api, &deployment, "urgent", &in_seconds(-30)).await;
    run_in(&api, &deployment, "urgent", &in_seconds(3600)).await;
    let before = in_seconds(10);
    let found = api.poll(json!({ "scheduled_before": before })).await;
    assert_eq!(found, [sooner.clone(), later, late.clone()]);
    let found = api
        .poll(json!({ "scheduled_before": before, "limit": 1 }))
        .await;
    assert_eq!(found, [sooner]);
    let found = api
        .poll(json!({ "scheduled_before": before, "work_queue_names": ["default"] }))
        .await;
    assert_eq!(found, [late]);
}

#[tokio::test]
async fn times_are_read_as_the_reference_client_writes_them() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    for before in [
        "2999-11-21 03:23:08.062249+00:00",
        "2999-11-21T03:23:08Z",
        "2999-11-21T03:23:08",
    ] {
        assert_eq!(
            api.poll(json!({ "scheduled_before": before })).await,
            [run.as_str()],
            "{before}"
        );
    }
}

#[tokio::test]
async fn a_run_that_was_claimed_is_not_handed_out() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    assert_eq!(api.poll(json!({})).await, [run.as_str()]);
    api.propose(&run, "PENDING").await;
    assert!(api.poll(json!({})).await.is_empty());
}

#[tokio::test]
async fn a_retry_that_the_engine_waits_for_is_not_handed_out() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let path = format!("/deployments/{deployment}/create_flow_run");
    let policy = json!({ "empirical_policy": { "retries": 1, "retry_delay": 0 } });
    let run = id(&api.post(&path, policy).await);
    for kind in ["PENDING", "RUNNING"] {
        api.propose(&run, kind).await;
    }
    let answer = api.propose(&run, "FAILED").await;
    assert_eq!(answer["status"], "REJECT");
    assert_eq!(answer["state"]["name"], "AwaitingRetry");
    assert!(api.poll(json!({})).await.is_empty());
}

#[tokio::test]
async fn limits_of_pool_and_queue_count_pending_and_running_runs() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(api.run(&deployment).await);
    }
    api.patch("/work_pools/p", json!({ "concurrency_limit": 2 }))
        .await;
    assert_eq!(api.poll(json!({})).await.len(), 2);
    api.propose(&runs[0], "PENDING").await;
    assert_eq!(api.poll(json!({})).await.len(), 1);
    api.propose(&runs[0], "RUNNING").await;
    assert_eq!(api.poll(json!({})).await.len(), 1);
    api.propose(&runs[0], "CANCELLING").await;
    assert_eq!(
        api.poll(json!({})).await.len(),
        2,
        "a run that is being cancelled holds no slot"
    );
    api.patch("/work_pools/p", json!({ "concurrency_limit": null }))
        .await;
    api.patch(
        "/work_pools/p/queues/default",
        json!({ "concurrency_limit": 1 }),
    )
    .await;
    assert_eq!(api.poll(json!({})).await.len(), 1);
    api.propose(&runs[1], "PENDING").await;
    assert!(api.poll(json!({})).await.is_empty());
    let pool = api.get("/work_pools/p/queues/default").await;
    assert_eq!(pool["active_slots"], 1);
}

#[tokio::test]
async fn what_is_paused_hands_out_nothing() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    api.run(&deployment).await;
    for path in ["/work_pools/p", "/work_pools/p/queues/default"] {
        api.patch(path, json!({ "is_paused": true })).await;
        assert!(api.poll(json!({})).await.is_empty(), "{path}");
        assert_eq!(api.get(path).await["status"], "PAUSED");
        api.patch(path, json!({ "is_paused": false })).await;
        assert_eq!(api.poll(json!({})).await.len(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let api = Api::start().await;
    api.pool().await;
    let cases = [
        (
            "/work_pools/p/get_scheduled_flow_runs",
            json!({ "work_queue_names": ["zz"] }),
            404,
            "Work pool queue 'p/zz' not found.",
        ),
        (
            "/work_pools/x/get_scheduled_flow_runs",
            json!({}),
            404,
            "Work pool \"x\" not found.",
        ),
        (
            "/work_pools/p/get_scheduled_flow_runs",
            json!({ "limit": 500 }),
            422,
            "Invalid limit: must be less than or equal to 200.",
        ),
    ];
    for (path, body, status, detail) in cases {
        let answer = api.send(Method::POST, path, Some(&body)).await;
        assert_eq!(
            (answer.status, &answer.json()["detail"]),
            (status, &json!(detail))
        );
    }
    let answer = api.send(Method::GET, "/saved_searches/filter", None).await;
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .text
            .contains("the embedded API has no GET /api/saved_searches/filter"),
        "{}",
        answer.text
    );
    let answer = api.send(Method::DELETE, "/health", None).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn an_answer_to_a_poll_leaves_out_what_the_reference_leaves_out() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    api.run(&deployment).await;
    let found = api
        .post("/work_pools/p/get_scheduled_flow_runs", json!({}))
        .await;
    let run = &found[0]["flow_run"];
    assert_eq!(run["state"], Value::Null);
    assert_eq!(run["work_queue_name"], Value::Null);
    assert_eq!(run["state_type"], "SCHEDULED");
    assert_eq!(found[0]["work_queue_id"], run["work_queue_id"]);
}

#[tokio::test]
async fn a_worker_is_online_while_it_calls() {
    let api = Api::start().await;
    api.pool().await;
    assert_eq!(api.get("/work_pools/p").await["status"], "NOT_READY");
    api.post(
        "/work_pools/p/workers/heartbeat",
        json!({ "name": "w", "heartbeat_interval_seconds": 30, "return_id": true }),
    )
    .await;
    // An interval of nothing is over at once.
    api.post(
        "/work_pools/p/workers/heartbeat",
        json!({ "name": "gone", "heartbeat_interval_seconds": 0 }),
    )
    .await;
    assert_eq!(api.get("/work_pools/p").await["status"], "READY");
    let of = async |status: &str| {
        let filter = json!({ "workers": { "status": { "any_": [status] } } });
        api.post("/work_pools/p/workers/filter", filter).await
    };
    assert_eq!(of("ONLINE").await[0]["name"], "w");
    assert_eq!(of("OFFLINE").await[0]["name"], "gone");
    api.send(Method::DELETE, "/work_pools/p/workers/w", None)
        .await;
    assert_eq!(of("ONLINE").await, json!([]));
}
