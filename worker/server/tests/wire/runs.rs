//! Flow runs, their states and their logs.

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, id};

#[tokio::test]
async fn states_are_listed_in_the_order_they_were_entered() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    for kind in ["PENDING", "RUNNING", "COMPLETED"] {
        api.propose(&run, kind).await;
    }
    let states = api
        .get(&format!("/flow_run_states/?flow_run_id={run}"))
        .await;
    let states = states.as_array().expect("a list");
    let names: Vec<&str> = states
        .iter()
        .filter_map(|state| state["name"].as_str())
        .collect();
    assert_eq!(names, ["Scheduled", "Pending", "Running", "Completed"]);
    let times: Vec<&Value> = states.iter().map(|state| &state["timestamp"]).collect();
    assert!(
        times.is_sorted_by(|a, b| a.as_str() < b.as_str()),
        "{times:?}"
    );
    let last = api
        .get(&format!("/flow_run_states/{}", id(&states[3])))
        .await;
    assert_eq!(last["type"], "COMPLETED");
    let view = api.get(&format!("/flow_runs/{run}")).await;
    assert_eq!(view["state"], last);
    assert_eq!(view["run_count"], 1);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_run() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let path = format!("/deployments/{deployment}/create_flow_run");
    let body = json!({ "idempotency_key": "once" });
    let first = api.send(Method::POST, &path, Some(&body)).await;
    let second = api.send(Method::POST, &path, Some(&body)).await;
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!(id(&first.json()), id(&second.json()));
}

#[tokio::test]
async fn a_change_changes_only_what_it_names_and_labels_are_merged() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({ "labels": { "team": "a" } })).await;
    let run = api.run(&deployment).await;
    let path = format!("/flow_runs/{run}");
    let before = api.get(&path).await;
    assert_eq!(before["labels"]["team"], "a");
    api.patch(&path, json!({ "infrastructure_pid": "host:1" }))
        .await;
    api.patch(&path, json!({ "flow_version": "v" })).await;
    api.patch(
        &format!("{path}/labels"),
        json!({ "team": "b", "prefect.worker.name": "w" }),
    )
    .await;
    let after = api.get(&path).await;
    assert_eq!(after["infrastructure_pid"], "host:1");
    assert_eq!(after["flow_version"], "v");
    assert_eq!(after["name"], before["name"]);
    assert_eq!(after["labels"]["team"], "b");
    assert_eq!(after["labels"]["prefect.worker.name"], "w");
    assert_eq!(after["labels"]["prefect.deployment.id"], deployment);
    let answer = api
        .send(
            Method::PATCH,
            &path,
            Some(&json!({ "state_type": "COMPLETED" })),
        )
        .await;
    assert_eq!(answer.status, 422);
}

#[tokio::test]
async fn runs_are_found_by_what_they_are_and_where_they_belong() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let (first, second) = (api.run(&deployment).await, api.run(&deployment).await);
    api.propose(&first, "PENDING").await;
    let cases = [
        (json!({}), 2),
        (json!({ "flow_runs": { "id": { "any_": [first] } } }), 1),
        (
            json!({ "flow_runs": { "state": { "type": { "any_": ["PENDING"] } } } }),
            1,
        ),
        (
            json!({ "flow_runs": { "state": { "type": { "not_any_": ["PENDING"] } } } }),
            1,
        ),
        (
            json!({ "flow_runs": { "state": { "name": { "any_": ["Scheduled"] }, "type": null }, "operator": "and_" } }),
            1,
        ),
        (json!({ "work_pools": { "name": { "any_": ["p"] } } }), 2),
        (json!({ "work_pools": { "name": { "any_": ["q"] } } }), 0),
        (
            json!({ "deployments": { "id": { "any_": [deployment] } }, "flows": { "name": { "any_": ["f"] } } }),
            2,
        ),
        (
            json!({ "flow_runs": { "start_time": { "is_null_": true } } }),
            2,
        ),
        (json!({ "limit": 1, "offset": 1 }), 1),
    ];
    for (query, count) in cases {
        let found = api.post("/flow_runs/filter", query.clone()).await;
        assert_eq!(found.as_array().map(Vec::len), Some(count), "{query}");
    }
    assert_eq!(api.post("/flow_runs/count", json!({})).await, 2);
    let sorted = api
        .post(
            "/flow_runs/filter",
            json!({ "sort": "EXPECTED_START_TIME_ASC" }),
        )
        .await;
    assert_eq!((id(&sorted[0]), id(&sorted[1])), (first, second));
    for query in [
        json!({ "flow_runs": { "bogus": { "any_": [] } } }),
        json!({ "sort": "BY_MOOD" }),
        json!({ "limit": 500 }),
    ] {
        let answer = api
            .send(Method::POST, "/flow_runs/filter", Some(&query))
            .await;
        assert_eq!(answer.status, 422, "{query}");
    }
}

#[tokio::test]
async fn a_deleted_run_is_gone_with_its_states_and_logs() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    let entry = json!({ "name": "l", "level": 20, "message": "m", "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": run });
    api.post("/logs/", json!([entry])).await;
    let path = format!("/flow_runs/{run}");
    assert_eq!(api.send(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(api.send(Method::GET, &path, None).await.status, 404);
    assert_eq!(api.post("/logs/filter", json!({})).await, json!([]));
    assert_eq!(
        api.get(&format!("/flow_run_states/?flow_run_id={run}"))
            .await,
        json!([])
    );
}

#[tokio::test]
async fn logs_keep_their_order_and_a_batch_is_stored_whole_or_not_at_all() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    let entry = |message: &str, level: u32, time: &str| json!({ "name": "l", "level": level, "message": message, "timestamp": time, "flow_run_id": run, "task_run_id": null });
    let time = "2026-01-01T00:00:00.5Z";
    let batch = json!([
        entry("b", 20, time),
        entry("c", 40, time),
        entry("a", 10, "2026-01-01 00:00:00+00:00")
    ]);
    api.post("/logs/", batch).await;
    let mut unknown = entry("d", 20, time);
    unknown["worker_id"] = json!("w");
    let answer = api
        .send(
            Method::POST,
            "/logs/",
            Some(&json!([entry("e", 20, time), unknown])),
        )
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["exception_detail"][0]["loc"],
        json!(["body", 1, "worker_id"])
    );
    let messages = async |query: Value| {
        let found = api.post("/logs/filter", query).await;
        let found = found.as_array().cloned().unwrap_or_default();
        found
            .iter()
            .filter_map(|log| log["message"].as_str())
            .collect::<String>()
    };
    assert_eq!(
        messages(json!({ "logs": { "flow_run_id": { "any_": [run] } } })).await,
        "abc"
    );
    assert_eq!(messages(json!({ "sort": "TIMESTAMP_DESC" })).await, "cba");
    assert_eq!(
        messages(json!({ "logs": { "level": { "ge_": 20, "le_": null } } })).await,
        "bc"
    );
    assert_eq!(messages(json!({ "limit": 1, "offset": 1 })).await, "b");
}

#[tokio::test]
async fn a_subflow_shows_its_state_in_its_parent() {
    let api = Api::start().await;
    let flow = id(&api.post("/flows/", json!({ "name": "f" })).await);
    let parent = id(&api.post("/flow_runs/", json!({ "flow_id": flow })).await);
    let task = json!({ "task_key": "child", "dynamic_key": "0", "flow_run_id": parent, "state": { "type": "PENDING" } });
    let task = id(&api.post("/task_runs/", task).await);
    let child = id(&api
        .post(
            "/flow_runs/",
            json!({ "flow_id": flow, "parent_task_run_id": task }),
        )
        .await);
    for kind in ["RUNNING", "COMPLETED"] {
        api.propose(&child, kind).await;
    }
    let task = api.get(&format!("/task_runs/{task}")).await;
    assert_eq!(task["state_type"], "COMPLETED");
    assert_eq!(task["state"]["state_details"]["child_flow_run_id"], child);
    let child = api.get(&format!("/flow_runs/{child}")).await;
    assert_eq!(child["state"]["state_details"]["task_run_id"], task["id"]);
}
