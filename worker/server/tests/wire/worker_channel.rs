//! The worker channel, over a socket.

use axum::http::Method;
use serde_json::{Value, json};
use worker_server::{Server, ServerOptions};

use crate::{
    client::{Api, id},
    events::{Socket, connect, hear, hear_close, open, say},
};

const CONSUMER: &str = "0198f0c5-0000-7000-8000-000000000009";

fn frame(kind: &str, payload: &Value) -> Value {
    json!({ "type": kind, "id": "0198f0c5-0000-7000-8000-000000000001", "sent_at": "2026-01-01T00:00:00Z", "payload": payload })
}

fn hello(more: &Value) -> Value {
    let mut payload = json!({
        "consumer_id": CONSUMER, "worker_name": "w", "worker_type": "process", "heartbeat_interval_seconds": 30,
        "supported_channel_versions": ["work_pool_worker_channel.v1"],
        "requested_capabilities": ["worker_heartbeat.v1", "work_pool_snapshot.v1"],
        "work_queue_names": [], "handled_cleanup_kinds": [], "max_cleanup_concurrency": 0,
        "create_pool_if_not_found": true, "default_base_job_template": { "job_configuration": { "command": null }, "variables": { "type": "object" } },
        "worker_metadata": null,
    });
    let more = more.as_object().cloned().unwrap_or_default();
    payload.as_object_mut().expect("an object").extend(more);
    frame("worker.hello.v1", &payload)
}

fn beat(worker: &str) -> Value {
    let payload =
        json!({ "consumer_id": CONSUMER, "worker_name": worker, "heartbeat_interval_seconds": 30 });
    frame("worker.heartbeat.v1", &payload)
}

async fn enter(api: &Api, more: Value) -> Socket {
    let mut socket = connect(api, "/work_pools/p/workers/connect").await;
    say(&mut socket, hello(&more)).await;
    socket
}

#[tokio::test]
async fn a_worker_that_says_hello_finds_its_pool_made_and_itself_online() {
    let api = Api::start().await;
    let mut socket = enter(
        &api,
        json!({ "requested_capabilities":
        ["worker_heartbeat.v1", "work_pool_snapshot.v1", "cleanup_delivery.v1"] }),
    )
    .await;
    let ready = hear(&mut socket).await.expect("a frame");
    assert_eq!(ready["type"], "worker.ready.v1");
    let payload = &ready["payload"];
    assert_eq!(
        payload["rejected_capabilities"],
        json!(["cleanup_delivery.v1"])
    );
    assert_eq!(payload["resolved_work_queues"][0]["name"], "default");
    let snapshot = &payload["initial_snapshot"];
    assert_eq!(
        (&snapshot["snapshot_sequence"], &snapshot["reason"]),
        (&json!(1), &json!("initial"))
    );
    assert_eq!(snapshot["work_pool"], api.get("/work_pools/p").await);
    assert_eq!(snapshot["work_pool"]["status"], "READY");
    assert_eq!(snapshot["work_pool"]["type"], "process");
    let workers = api.post("/work_pools/p/workers/filter", json!({})).await;
    assert_eq!(
        (&workers[0]["name"], &workers[0]["status"]),
        (&json!("w"), &json!("ONLINE"))
    );
}

#[tokio::test]
async fn a_worker_hears_of_each_change_of_its_pool_and_of_no_other() {
    let api = Api::start().await;
    api.pool().await;
    let mut socket = enter(&api, json!({})).await;
    // The worker's own template became the pool's, which had none.
    let ready = hear(&mut socket).await.expect("a frame");
    assert_eq!(
        ready["payload"]["initial_snapshot"]["work_pool"]["base_job_template"]["variables"],
        json!({ "type": "object" })
    );
    api.post(
        "/work_pools/",
        json!({ "name": "other", "type": "process" }),
    )
    .await;
    api.patch("/work_pools/p", json!({ "is_paused": true }))
        .await;
    let changed = hear(&mut socket).await.expect("a frame");
    assert_eq!(changed["type"], "work_pool.snapshot.v1");
    assert_eq!(changed["payload"]["snapshot_sequence"], 2);
    assert_eq!(changed["payload"]["work_pool"]["is_paused"], true);
    say(&mut socket, beat("w")).await;
    api.patch("/work_pools/p", json!({ "concurrency_limit": 5 }))
        .await;
    let changed = hear(&mut socket).await.expect("a frame");
    assert_eq!(changed["payload"]["snapshot_sequence"], 3);
    assert_eq!(changed["payload"]["work_pool"]["concurrency_limit"], 5);
}

#[tokio::test]
async fn a_worker_that_may_not_stay_is_told_why() {
    let api = Api::start().await;
    api.pool().await;
    let authorization = (1008, "authorization_failed".to_owned());
    let protocol = (1002, "protocol_error".to_owned());
    let cases = [
        (
            "/work_pools/none/workers/connect",
            hello(&json!({ "create_pool_if_not_found": false })),
            &authorization,
        ),
        (
            "/work_pools/prefect-x/workers/connect",
            hello(&json!({})),
            &authorization,
        ),
        (
            "/work_pools/p/workers/connect",
            hello(&json!({ "work_queue_names": ["none"] })),
            &authorization,
        ),
        (
            "/work_pools/p/workers/connect",
            hello(&json!({ "supported_channel_versions": ["v9"] })),
            &(1008, "unsupported_version".to_owned()),
        ),
        (
            "/work_pools/p/workers/connect",
            hello(&json!({ "requested_capabilities": [] })),
            &protocol,
        ),
        (
            "/work_pools/p/workers/connect",
            hello(&json!({ "colour": "red" })),
            &protocol,
        ),
        ("/work_pools/p/workers/connect", beat("w"), &protocol),
    ];
    for (path, frame, expected) in cases {
        let mut socket = connect(&api, path).await;
        say(&mut socket, frame.clone()).await;
        assert_eq!(&hear_close(&mut socket).await, expected, "{frame}");
    }
    let mut socket = enter(&api, json!({})).await;
    hear(&mut socket).await.expect("it is ready");
    say(&mut socket, beat("somebody else")).await;
    assert_eq!(hear_close(&mut socket).await, protocol);
}

#[tokio::test]
async fn a_worker_is_sent_away_when_its_pool_is_deleted() {
    let api = Api::start().await;
    api.pool().await;
    let mut socket = enter(&api, json!({})).await;
    hear(&mut socket).await.expect("it is ready");
    api.send(Method::DELETE, "/work_pools/p", None).await;
    assert_eq!(
        hear_close(&mut socket).await,
        (1008, "authorization_failed".to_owned())
    );
}

#[tokio::test]
async fn a_worker_says_the_token_in_its_first_frame() {
    let options = ServerOptions {
        token: Some(worker_config::Secret::new("t")),
        ..ServerOptions::default()
    };
    let server = Server::start(options).await.expect("a server starts");
    for (token, accepted) in [
        (json!("t"), true),
        (json!("x"), false),
        (Value::Null, false),
    ] {
        let mut socket = open(server.address(), "/work_pools/p/workers/connect").await;
        say(&mut socket, json!({ "type": "auth", "token": token })).await;
        if accepted {
            assert_eq!(
                hear(&mut socket).await,
                Some(json!({ "type": "auth_success" }))
            );
        } else {
            assert_eq!(
                hear_close(&mut socket).await,
                (1008, "authentication_failed".to_owned())
            );
        }
    }
}

#[tokio::test]
async fn a_pool_and_what_becomes_of_it_is_told_in_events() {
    let api = Api::start().await;
    let pool = id(&api.pool().await);
    api.deployment(json!({})).await;
    api.post("/work_pools/p/workers/heartbeat", json!({ "name": "w" }))
        .await;
    api.poll(json!({})).await;
    api.patch("/work_pools/p", json!({ "concurrency_limit": 2 }))
        .await;
    api.patch("/work_pools/p", json!({ "is_paused": true }))
        .await;
    api.send(Method::DELETE, "/work_pools/p", None).await;
    let filter = json!({ "filter": { "any_resource": { "id": [format!("prefect.work-pool.{pool}")] }, "order": "ASC" } });
    let found = api.post("/events/filter", filter).await;
    let names: Vec<&str> = found["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["event"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "prefect.work-queue.created",
            "prefect.work-pool.created",
            "prefect.work-pool.not-ready",
            "prefect.deployment.created",
            "prefect.work-pool.ready",
            "prefect.work-queue.ready",
            "prefect.deployment.ready",
            "prefect.work-pool.updated",
            "prefect.work-pool.paused",
            "prefect.work-queue.deleted",
            "prefect.work-pool.deleted",
        ]
    );
    let updated = &found["events"][7];
    assert_eq!(
        updated["payload"],
        json!({ "updated_fields": ["concurrency_limit"],
        "updates": { "concurrency_limit": { "from": null, "to": 2 } } })
    );
    assert_eq!(updated["resource"]["prefect.work-pool.type"], "process");
}
