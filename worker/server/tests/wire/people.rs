//! What people keep beside their runs: concurrency limits, artifacts, inputs, logs as they come.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    client::{Api, eventually, id},
    events::{connect, hear, say},
};

async fn flow_run(api: &Api) -> String {
    let flow = api.post("/flows/", json!({ "name": "f" })).await;
    id(&api
        .post("/flow_runs/", json!({ "flow_id": flow["id"] }))
        .await)
}

async fn acquire(api: &Api, names: Value) -> crate::client::Answer {
    let body = json!({ "slots": 1, "names": names, "mode": "concurrency", "lease_duration": 60,
        "holder": { "type": "task_run", "id": "0198f0c5-0000-7000-8000-000000000001" } });
    let path = "/v2/concurrency_limits/increment-with-lease";
    api.send(Method::POST, path, Some(&body)).await
}

#[tokio::test]
async fn a_slot_is_taken_by_a_lease_and_free_again_without_it() {
    let api = Api::start().await;
    api.post(
        "/v2/concurrency_limits/",
        json!({ "name": "a", "limit": 1 }),
    )
    .await;
    let first = acquire(&api, json!(["a", "nobody limits this"])).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let first = first.json();
    assert_eq!(first["limits"][0]["name"], "a");
    let limit = api.get("/v2/concurrency_limits/a").await;
    assert_eq!(limit["active_slots"], 1);
    let second = acquire(&api, json!(["a"])).await;
    assert_eq!(second.status, 423, "{}", second.text);
    assert!(second.head.contains("retry-after: 2"), "{}", second.head);
    let lease = json!({ "lease_id": first["lease_id"] });
    let renewal = format!(
        "/v2/concurrency_limits/leases/{}/renew",
        first["lease_id"].as_str().expect("a lease")
    );
    let renew = async || {
        let body = json!({ "lease_duration": 60 });
        api.send(Method::POST, &renewal, Some(&body)).await.status
    };
    assert_eq!(renew().await, 200);
    api.post("/v2/concurrency_limits/decrement-with-lease", lease)
        .await;
    assert_eq!(renew().await, 410, "what was given back cannot be renewed");
    assert_eq!(acquire(&api, json!(["a"])).await.status, 200);
    api.patch("/v2/concurrency_limits/a", json!({ "active_slots": 0 }))
        .await;
    assert_eq!(acquire(&api, json!(["a"])).await.status, 200);
    api.patch("/v2/concurrency_limits/a", json!({ "active": false }))
        .await;
    assert_eq!(
        acquire(&api, json!(["a"])).await.status,
        200,
        "what is off restricts nobody"
    );
}

#[tokio::test]
async fn a_rate_is_kept_by_slots_that_decay() {
    let api = Api::start().await;
    let limit = json!({ "name": "r", "limit": 1, "slot_decay_per_second": 10.0 });
    api.post("/v2/concurrency_limits/", limit).await;
    let body = json!({ "slots": 1, "names": ["r"], "mode": "rate_limit" });
    let path = "/v2/concurrency_limits/increment";
    api.post(path, body.clone()).await;
    eventually("the slot has decayed", async || {
        let answer = api.send(Method::POST, path, Some(&body)).await;
        (answer.status == 200).then_some(())
    })
    .await;
    api.post(
        "/v2/concurrency_limits/",
        json!({ "name": "s", "limit": 1 }),
    )
    .await;
    let steady = json!({ "slots": 1, "names": ["s"], "mode": "rate_limit" });
    let refused = api.send(Method::POST, path, Some(&steady)).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let many = json!({ "slots": 2, "names": ["s"] });
    let refused = api.send(Method::POST, path, Some(&many)).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}

#[tokio::test]
async fn the_limit_of_a_tag_is_a_limit_by_another_name() {
    let api = Api::start().await;
    let limit = json!({ "tag": "t", "concurrency_limit": 1 });
    let made = api
        .send(Method::POST, "/concurrency_limits/", Some(&limit))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(acquire(&api, json!(["tag:t"])).await.status, 200);
    let found = api.get("/concurrency_limits/tag/t").await;
    assert_eq!(
        (&found["tag"], &found["concurrency_limit"]),
        (&json!("t"), &json!(1))
    );
    assert_eq!(
        found["active_slots"],
        json!(["0198f0c5-0000-7000-8000-000000000001"])
    );
    api.post("/concurrency_limits/tag/t/reset", json!({})).await;
    assert_eq!(
        api.get("/concurrency_limits/tag/t").await["active_slots"],
        json!([])
    );
    let listed = api.post("/concurrency_limits/filter", json!({})).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    api.send(Method::DELETE, "/concurrency_limits/tag/t", None)
        .await;
    let gone = api
        .send(Method::GET, "/concurrency_limits/tag/t", None)
        .await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn of_the_artifacts_of_one_key_the_last_is_the_latest() {
    let api = Api::start().await;
    let run = flow_run(&api).await;
    for (key, data) in [
        ("k", json!("one")),
        ("k", json!({ "a": [1] })),
        ("other", Value::Null),
    ] {
        let artifact = json!({ "key": key, "type": "markdown", "data": data, "flow_run_id": run });
        api.post("/artifacts/", artifact).await;
    }
    assert_eq!(
        api.get("/artifacts/k/latest").await["data"],
        json!({ "a": [1] })
    );
    let of_run = json!({ "artifacts": { "flow_run_id": { "any_": [run] }, "key": { "exists_": true } },
        "flow_runs": { "id": { "any_": [run] } }, "sort": "KEY_ASC" });
    let all = api.post("/artifacts/filter", of_run.clone()).await;
    let latest = api.post("/artifacts/latest/filter", of_run.clone()).await;
    let count = |list: &Value| list.as_array().map(Vec::len);
    assert_eq!((count(&all), count(&latest)), (Some(3), Some(2)));
    assert_eq!(api.post("/artifacts/latest/count", of_run).await, 2);
    let path = format!("/artifacts/{}", id(&all[0]));
    api.patch(&path, json!({ "data": "changed" })).await;
    assert_eq!(api.get(&path).await["data"], "changed");
    api.send(Method::DELETE, &path, None).await;
    assert_eq!(api.send(Method::GET, &path, None).await.status, 404);
}

#[tokio::test]
async fn a_paused_run_goes_on_with_the_input_it_asked_for() {
    let api = Api::start().await;
    let run = flow_run(&api).await;
    let resume = format!("/flow_runs/{run}/resume");
    let answer = api.post(&resume, json!({})).await;
    assert_eq!(
        (&answer["status"], &answer["state"]),
        (&json!("ABORT"), &Value::Null)
    );
    let inputs = format!("/flow_runs/{run}/input");
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    let input = json!({ "key": "p-schema", "value": schema.to_string() });
    api.post(&inputs, input.clone()).await;
    assert_eq!(
        api.send(Method::POST, &inputs, Some(&input)).await.status,
        409
    );
    api.propose(&run, "RUNNING").await;
    let paused = json!({ "state": { "type": "PAUSED", "state_details": { "pause_timeout": "2099-01-01T00:00:00Z",
        "run_input_keyset": { "schema": "p-schema", "response": "p-response" } } } });
    api.post(&format!("/flow_runs/{run}/set_state"), paused)
        .await;
    let wrong = api
        .post(&resume, json!({ "run_input": { "n": "many" } }))
        .await;
    assert_eq!(wrong["status"], "REJECT");
    assert_eq!(wrong["state"]["type"], "PAUSED");
    let right = api.post(&resume, json!({ "run_input": { "n": 7 } })).await;
    assert_eq!(
        (&right["status"], &right["state"]["type"]),
        (&json!("ACCEPT"), &json!("RUNNING"))
    );
    assert_eq!(
        api.get(&format!("{inputs}/p-response")).await,
        json!({ "n": 7 })
    );
    let found = api
        .post(
            &format!("{inputs}/filter"),
            json!({ "prefix": "p-", "limit": 5, "exclude_keys": ["p-schema"] }),
        )
        .await;
    assert_eq!(found[0]["key"], "p-response");
    let key = format!("{inputs}/p-response");
    assert_eq!(api.send(Method::DELETE, &key, None).await.status, 204);
    assert_eq!(api.send(Method::GET, &key, None).await.status, 404);
}

#[tokio::test]
async fn a_follower_hears_the_log_lines_it_wants_as_they_come() {
    let api = Api::start().await;
    let run = flow_run(&api).await;
    let mut socket = connect(&api, "/logs/out").await;
    let filter = json!({ "flow_run_id": { "any_": [run] }, "level": { "ge_": 20 }, "text": null });
    say(&mut socket, json!({ "type": "filter", "filter": filter })).await;
    let line = |level: i64, message: &str, run: &Value| {
        json!({ "name": "n", "level": level, "message": message,
        "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": run })
    };
    // It cannot be seen from outside when the filter has been read, so lines are sent until one is heard.
    let sending = async {
        loop {
            let lines = json!([
                line(20, "no", &Value::Null),
                line(10, "no", &json!(run)),
                line(30, "yes", &json!(run))
            ]);
            api.post("/logs/", lines).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let heard = tokio::select! {
        heard = hear(&mut socket) => heard.expect("a frame"),
        () = sending => unreachable!("it sends for ever"),
    };
    assert_eq!(
        (&heard["type"], &heard["log"]["message"]),
        (&json!("log"), &json!("yes"))
    );
}

#[tokio::test]
async fn a_served_flow_polls_its_own_deployments() {
    let api = Api::start().await;
    let flow = api.post("/flows/", json!({ "name": "f" })).await;
    let body = json!({ "name": "d", "flow_id": flow["id"] });
    let deployment = id(&api.post("/deployments/", body).await);
    let run = api.run(&deployment).await;
    let poll = json!({ "deployment_ids": [deployment], "scheduled_before": "2099-01-01T00:00:00Z", "limit": 5 });
    let due = api.post("/deployments/get_scheduled_flow_runs", poll).await;
    assert_eq!(id(&due[0]), run);
    let polled = api.get(&format!("/deployments/{deployment}")).await;
    assert_eq!(polled["status"], "READY");
    assert!(polled["last_polled"].is_string(), "{polled}");
}

#[tokio::test]
async fn who_holds_the_slots_of_a_pool_can_be_seen() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    api.propose(&run, "PENDING").await;
    let pool = api
        .post("/work_pools/p/concurrency_status", json!({}))
        .await;
    assert_eq!(pool["active_slots"], 1);
    assert_eq!(pool["queues"][0]["flow_runs"][0]["id"], run);
    let queue = pool["queues"][0]["queue_id"].as_str().expect("an id");
    let path = format!("/work_queues/{queue}");
    let usage = api
        .post(&format!("{path}/concurrency_status"), json!({}))
        .await;
    assert_eq!(usage["flow_runs"][0]["state_name"], "Pending");
    assert_eq!(api.get(&format!("{path}/status")).await["healthy"], false);
    api.patch(&path, json!({ "is_paused": true })).await;
    assert_eq!(api.get(&path).await["is_paused"], true);
}

#[tokio::test]
async fn who_asks_for_automations_is_told_that_there_are_none() {
    let api = Api::start().await;
    assert_eq!(api.post("/automations/filter", json!({})).await, json!([]));
    assert_eq!(
        api.get("/automations/related-to/prefect.flow.x").await,
        json!([])
    );
    let answer = api
        .send(Method::POST, "/automations/", Some(&json!({ "name": "a" })))
        .await;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("no automations"), "{}", answer.text);
}
