use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    testing::{Asked, Reply, TestServer},
    types::{
        BlockDocumentId, DeploymentId, FlowRunFilter, FlowRunId, LogEntry, LogLevel, ProposedState,
        StateType, WorkPoolCreate,
    },
};

const ID: &str = "9ecba704-95a6-48c5-ae26-70e015b6e305";

fn pool(name: &str) -> Value {
    json!({ "id": ID, "name": name, "type": "process", "base_job_template": {}, "new_field": 1 })
}

fn flow_run(name: &str) -> Value {
    json!({
        "id": ID, "name": name, "flow_id": ID, "state_type": "UNHEARD_OF", "parameters": { "x": 1 },
        "new_field": { "a": 1 },
    })
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Method, path and body of what was asked.
fn calls(asked: &[Asked]) -> Vec<(String, Value)> {
    let call = |asked: &Asked| {
        let path = asked.path.strip_prefix("/api").unwrap();
        let body = if asked.body.is_empty() {
            Value::Null
        } else {
            asked.json()
        };
        (format!("{} {path}", asked.method), body)
    };
    asked.iter().map(call).collect()
}

fn call(line: &str, body: Value) -> (String, Value) {
    (line.to_owned(), body)
}

#[tokio::test]
async fn pools_are_read_made_and_given_a_template() {
    let server = TestServer::start([
        Reply::json(200, &pool("p")),
        Reply::json(201, &pool("p")),
        Reply::status(204),
        Reply::json(200, &json!([pool("p")])),
    ])
    .await;
    let client = server.client();
    assert_eq!(client.read_work_pool("p").await.unwrap().kind, "process");
    let create = WorkPoolCreate {
        name: "p".to_owned(),
        kind: "process".to_owned(),
        description: None,
        base_job_template: None,
        is_paused: false,
        concurrency_limit: Some(3),
    };
    client.create_work_pool(&create).await.unwrap();
    client
        .update_work_pool_template("p", &json!({ "variables": {} }))
        .await
        .unwrap();
    assert_eq!(client.list_work_pools().await.unwrap().len(), 1);
    assert_eq!(
        calls(&server.asked()),
        [
            call("GET /work_pools/p", Value::Null),
            call(
                "POST /work_pools/",
                json!({ "name": "p", "type": "process", "is_paused": false, "concurrency_limit": 3 })
            ),
            call(
                "PATCH /work_pools/p",
                json!({ "base_job_template": { "variables": {} } })
            ),
            call(
                "POST /work_pools/filter",
                json!({ "limit": 200, "offset": 0 })
            ),
        ]
    );
}

#[tokio::test]
async fn queues_and_workers_of_a_pool_are_read() {
    let queue = json!([{ "id": ID, "name": "default", "priority": 1, "is_paused": false }]);
    let worker = json!([{ "id": ID, "name": "w", "work_pool_id": ID, "status": "ONLINE" }]);
    let server = TestServer::start([Reply::json(200, &queue), Reply::json(200, &worker)]).await;
    let client = server.client();
    assert_eq!(
        client.list_work_queues("p").await.unwrap()[0].priority,
        Some(1)
    );
    assert_eq!(client.list_workers("p").await.unwrap()[0].name, "w");
    client
        .send_heartbeat("p", "w", Duration::from_millis(300))
        .await
        .unwrap();
    client.delete_worker("p", "w").await.unwrap();
    let page = json!({ "limit": 200, "offset": 0 });
    assert_eq!(
        calls(&server.asked()),
        [
            call("POST /work_pools/p/queues/filter", page.clone()),
            call("POST /work_pools/p/workers/filter", page),
            call(
                "POST /work_pools/p/workers/heartbeat",
                json!({ "name": "w", "heartbeat_interval_seconds": 1 })
            ),
            call("DELETE /work_pools/p/workers/w", Value::Null),
        ]
    );
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let full: Vec<Value> = (0..200).map(|n| pool(&format!("p{n}"))).collect();
    let server = TestServer::start([
        Reply::json(200, &json!(full)),
        Reply::json(200, &json!([pool("last")])),
    ])
    .await;
    let pools = server.client().list_work_pools().await.unwrap();
    assert_eq!((pools.len(), pools[200].name.as_str()), (201, "last"));
    assert_eq!(
        server.asked()[1].json(),
        json!({ "limit": 200, "offset": 200 })
    );
}

#[tokio::test]
async fn a_list_without_end_is_left() {
    let full: Vec<Value> = (0..200).map(|_| pool("p")).collect();
    let server = TestServer::start(vec![Reply::json(200, &json!(full)); 60]).await;
    let pools = server.client().list_work_pools().await.unwrap();
    assert_eq!((pools.len(), server.asked().len()), (10_000, 50));
}

#[tokio::test]
async fn a_poll_asks_for_no_more_than_the_server_gives() {
    let entry = json!({ "work_pool_id": ID, "work_queue_id": ID, "flow_run": flow_run("r") });
    let server = TestServer::start([Reply::json(200, &json!([entry]))]).await;
    let due: Timestamp = "2026-11-21T03:23:08.062249Z".parse().unwrap();
    let queues = ["q".to_owned()];
    let found = server
        .client()
        .scheduled_flow_runs("p", &queues, due, 500)
        .await
        .unwrap();
    assert_eq!(found[0].flow_run.name, "r");
    let body = json!({
        "work_queue_names": ["q"], "scheduled_before": "2026-11-21T03:23:08.062249Z", "limit": 200,
    });
    assert_eq!(
        calls(&server.asked()),
        [call("POST /work_pools/p/get_scheduled_flow_runs", body)]
    );
}

#[tokio::test]
async fn a_flow_run_that_cannot_be_read_does_not_hold_up_the_others() {
    let entry = |run: Value| json!({ "work_pool_id": ID, "work_queue_id": ID, "flow_run": run });
    // serde_json stops at a depth of 128, the server does not.
    let deep = (0..150).fold(json!(1), |inner, _| json!({ "x": inner }));
    let mut too_deep = flow_run("deep");
    too_deep["parameters"] = deep;
    let page = json!([
        entry(json!({ "id": "new format" })),
        entry(too_deep),
        entry(flow_run("good")),
        7
    ]);
    let server = TestServer::start([Reply::json(200, &page)]).await;
    let found = server
        .client()
        .scheduled_flow_runs("p", &[], Timestamp::now(), 9)
        .await
        .unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|entry| entry.flow_run.name.as_str())
        .collect();
    assert_eq!(names, ["good"]);
}

#[tokio::test]
async fn flow_runs_are_read_with_what_this_release_does_not_know() {
    let server = TestServer::start([Reply::json(200, &flow_run("r"))]).await;
    let run = server
        .client()
        .read_flow_run(ID.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        run.state_type,
        Some(StateType::Other("UNHEARD_OF".to_owned()))
    );
    assert_eq!(run.other["new_field"], json!({ "a": 1 }));
    assert_eq!(
        calls(&server.asked()),
        [call(&format!("GET /flow_runs/{ID}"), Value::Null)]
    );
}

#[tokio::test]
async fn flow_runs_are_filtered_by_what_was_given() {
    let server = TestServer::start(vec![Reply::json(200, &json!([])); 2]).await;
    let client = server.client();
    let filter = FlowRunFilter {
        ids: Some(vec![ID.parse().unwrap()]),
        state_types: Some(vec![StateType::Cancelling]),
        work_pool: Some("p".to_owned()),
        limit: Some(7),
    };
    client.list_flow_runs(&filter).await.unwrap();
    client
        .list_flow_runs(&FlowRunFilter::default())
        .await
        .unwrap();
    let bodies: Vec<_> = server.asked().iter().map(Asked::json).collect();
    assert_eq!(
        bodies,
        [
            json!({
                "sort": "EXPECTED_START_TIME_DESC",
                "flow_runs": { "id": { "any_": [ID] }, "state": { "type": { "any_": ["CANCELLING"] } } },
                "work_pools": { "name": { "any_": ["p"] } },
                "limit": 7,
                "offset": 0,
            }),
            json!({ "sort": "EXPECTED_START_TIME_DESC", "flow_runs": {}, "limit": 200, "offset": 0 }),
        ]
    );
}

#[tokio::test]
async fn states_are_proposed_and_forced() {
    let answer = json!({ "state": null, "status": "ABORT", "details": { "type": "abort_details", "reason": "late" } });
    let server = TestServer::start(vec![Reply::json(200, &answer); 2]).await;
    let client = server.client();
    let id: FlowRunId = ID.parse().unwrap();
    let state = ProposedState::new(StateType::Cancelled).because("gone");
    let result = client.propose_state(id, &state).await.unwrap();
    assert_eq!(result.details.reason.as_deref(), Some("late"));
    client.force_state(id, &state).await.unwrap();
    let transition = state.state_details.transition_id.unwrap();
    let body = |force: bool| {
        json!({
            "state": {
                "type": "CANCELLED", "name": null, "message": "gone",
                "state_details": { "transition_id": transition },
            },
            "force": force,
        })
    };
    let line = format!("POST /flow_runs/{ID}/set_state");
    assert_eq!(
        calls(&server.asked()),
        [call(&line, body(false)), call(&line, body(true))]
    );
}

#[tokio::test]
async fn labels_infrastructure_and_leases_are_written() {
    let server = TestServer::start([]).await;
    let client = server.client();
    let id: FlowRunId = ID.parse().unwrap();
    client
        .update_labels(id, &object(&json!({ "a": "b" })))
        .await
        .unwrap();
    client.set_infrastructure_id(id, "ns:job").await.unwrap();
    let lease: Uuid = ID.parse().unwrap();
    client
        .renew_lease(lease, Duration::from_mins(5))
        .await
        .unwrap();
    assert_eq!(
        calls(&server.asked()),
        [
            call(
                &format!("PATCH /flow_runs/{ID}/labels"),
                json!({ "a": "b" })
            ),
            call(
                &format!("PATCH /flow_runs/{ID}"),
                json!({ "infrastructure_pid": "ns:job" })
            ),
            call(
                &format!("POST /v2/concurrency_limits/leases/{ID}/renew"),
                json!({ "lease_duration": 300.0 })
            ),
        ]
    );
}

#[tokio::test]
async fn a_github_token_is_asked_of_the_account_and_no_error_quotes_the_answer() {
    let server = TestServer::start([
        Reply::json(200, &json!({ "token": "ghs_canary" })),
        Reply::json(200, &json!({ "tokens": "ghs_canary" })),
    ])
    .await;
    let client = server.client();
    let token = client.create_github_token("owner", "repo").await.unwrap();
    assert_eq!(token.expose(), "ghs_canary");
    assert_eq!(
        calls(&server.asked())[0],
        call(
            "POST /integrations/github/token",
            json!({ "owner": "owner", "repository": "repo" })
        )
    );
    let error = client.create_github_token("owner", "repo").await;
    let error = error.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
}

#[tokio::test]
async fn a_lease_that_has_ended_is_not_found() {
    let server = TestServer::start([Reply::detail(410, "Lease not found")]).await;
    let lease = server
        .client()
        .renew_lease(Uuid::nil(), Duration::from_mins(5))
        .await;
    assert!(lease.unwrap_err().is_not_found());
}

#[tokio::test]
async fn flows_and_deployments_are_made_and_read() {
    let flow = json!({ "id": ID, "name": "f" });
    let deployment = json!({ "id": ID, "name": "d", "flow_id": ID });
    let server = TestServer::start([
        Reply::json(201, &flow),
        Reply::json(200, &flow),
        Reply::json(201, &deployment),
        Reply::json(200, &deployment),
        Reply::json(200, &deployment),
    ])
    .await;
    let client = server.client();
    let id = client.create_flow("f").await.unwrap().id;
    client.read_flow(id).await.unwrap();
    let id = client.create_deployment(&deployment).await.unwrap().id;
    client.read_deployment(id).await.unwrap();
    client
        .read_deployment_by_name("my flow", "d/1")
        .await
        .unwrap();
    assert_eq!(
        calls(&server.asked()),
        [
            call("POST /flows/", json!({ "name": "f" })),
            call(&format!("GET /flows/{ID}"), Value::Null),
            call("POST /deployments/", deployment),
            call(&format!("GET /deployments/{ID}"), Value::Null),
            call("GET /deployments/name/my%20flow/d%2F1", Value::Null),
        ]
    );
}

#[tokio::test]
async fn a_flow_run_is_made_once_even_if_the_answer_is_lost() {
    let server = TestServer::start([Reply::Truncated, Reply::json(200, &flow_run("r"))]).await;
    let variables = object(&json!({ "env": {} }));
    let client = server.client();
    let run = client.create_flow_run(
        ID.parse::<DeploymentId>().unwrap(),
        object(&json!({ "x": 1 })),
        Some(variables),
        Some("r".to_owned()),
        vec!["t".to_owned()],
    );
    assert_eq!(run.await.unwrap().name, "r");
    let asked = server.asked();
    let mut bodies: Vec<Value> = asked.iter().map(Asked::json).collect();
    assert_eq!(bodies[0], bodies[1]);
    let key = bodies[0].as_object_mut().unwrap().remove("idempotency_key");
    assert!(key.is_some());
    let rest = json!({
        "state": { "type": "SCHEDULED" }, "parameters": { "x": 1 }, "tags": ["t"],
        "job_variables": { "env": {} }, "name": "r",
    });
    assert_eq!(bodies[0], rest);
    assert_eq!(
        asked[0].path,
        format!("/api/deployments/{ID}/create_flow_run")
    );
}

#[tokio::test]
async fn logs_are_sent_and_read_the_oldest_first() {
    let stored = json!([{
        "id": ID, "created": null, "name": "n", "level": 20, "message": "m",
        "timestamp": "2026-11-21T03:22:58.099703Z", "flow_run_id": ID, "task_run_id": null,
    }]);
    let server = TestServer::start([Reply::status(201), Reply::json(200, &stored)]).await;
    let client = server.client();
    let id: FlowRunId = ID.parse().unwrap();
    let entry = LogEntry {
        name: "n".to_owned(),
        level: LogLevel::INFO,
        message: "m".to_owned(),
        timestamp: "2026-11-21T03:22:58.099703Z".parse().unwrap(),
        flow_run_id: Some(id),
    };
    client.send_logs(&[entry]).await.unwrap();
    assert_eq!(client.read_logs(id, 5, 900).await.unwrap()[0].message, "m");
    assert_eq!(
        calls(&server.asked()),
        [
            call(
                "POST /logs/",
                json!([{
                    "name": "n", "level": 20, "message": "m",
                    "timestamp": "2026-11-21T03:22:58.099703Z", "flow_run_id": ID,
                }])
            ),
            call(
                "POST /logs/filter",
                json!({
                    "logs": { "flow_run_id": { "any_": [ID] } },
                    "sort": "TIMESTAMP_ASC", "offset": 5, "limit": 200,
                })
            ),
        ]
    );
}

#[tokio::test]
async fn blocks_are_read_with_their_secrets() {
    let block = json!({ "id": ID, "name": "b", "data": { "value": "hunter2" } });
    let server = TestServer::start(vec![Reply::json(200, &block); 2]).await;
    let client = server.client();
    let found = client.read_block_document("secret", "my.b").await.unwrap();
    assert_eq!(found.data["value"], "hunter2");
    let id: BlockDocumentId = ID.parse().unwrap();
    client.read_block_document_by_id(id).await.unwrap();
    let by_name = "GET /block_types/slug/secret/block_documents/name/my.b?include_secrets=true";
    let by_id = format!("GET /block_documents/{ID}?include_secrets=true");
    assert_eq!(
        calls(&server.asked()),
        [call(by_name, Value::Null), call(&by_id, Value::Null)]
    );
}

#[tokio::test]
async fn a_block_of_unknown_shape_is_not_quoted() {
    let block = json!({ "id": ID, "name": "b", "data": "hunter2" });
    let server = TestServer::start([Reply::json(200, &block), Reply::text(200, "hunter2")]).await;
    for _ in 0..2 {
        let error = server
            .client()
            .read_block_document("secret", "b")
            .await
            .unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("include_secrets"), "{shown}");
    }
}

#[tokio::test]
async fn a_variable_may_be_missing_but_a_failure_is_told() {
    let variable = json!({ "id": ID, "name": "v", "value": { "a": 1 }, "tags": [] });
    let server = TestServer::start([
        Reply::json(200, &variable),
        Reply::detail(404, "Variable not found"),
        Reply::status(500),
    ])
    .await;
    let client = server.client();
    let found = client.find_variable("v").await.unwrap().unwrap();
    assert_eq!(found.value, json!({ "a": 1 }));
    assert_eq!(client.find_variable("v").await.unwrap(), None);
    assert!(client.find_variable("v").await.unwrap_err().is_transient());
    assert_eq!(server.asked()[0].path, "/api/variables/name/v");
}

#[tokio::test]
async fn the_server_says_its_release_and_that_it_is_there() {
    let server = TestServer::start([
        Reply::json(200, &json!("3.8.8")),
        Reply::json(200, &json!(true)),
        Reply::text(200, "<html>please log in</html>"),
    ])
    .await;
    let client = server.client();
    assert_eq!(client.read_version().await.unwrap(), "3.8.8");
    client.hello().await.unwrap();
    client.hello().await.unwrap_err();
    assert_eq!(server.asked()[1].path, "/api/health");
}
