//! Events, over a socket each way.

use std::net::SocketAddr;

use axum::http::Method;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::client::{Api, PATIENCE, id};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a socket and says nothing yet.
pub(crate) async fn open(address: SocketAddr, path: &str) -> Socket {
    let url = format!("ws://{address}/api{path}");
    let mut request = url.into_client_request().expect("a request");
    let protocol = HeaderValue::from_static("prefect");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let (socket, answer) = connect_async(request).await.expect("a socket");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "prefect");
    socket
}

/// Opens a socket and says who it is.
pub(crate) async fn connect(api: &Api, path: &str) -> Socket {
    let mut socket = open(api.server.address(), path).await;
    say(&mut socket, json!({ "type": "auth", "token": null })).await;
    assert_eq!(
        hear(&mut socket).await,
        Some(json!({ "type": "auth_success" }))
    );
    socket
}

pub(crate) async fn say(socket: &mut Socket, value: Value) {
    let message = Message::text(value.to_string());
    socket.send(message).await.expect("the socket is open");
}

/// The code and the reason with which the server closes.
pub(crate) async fn hear_close(socket: &mut Socket) -> (u16, String) {
    let hearing = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
        panic!("the server went away without a word");
    };
    tokio::time::timeout(PATIENCE, hearing)
        .await
        .expect("a close in time")
}

/// The next frame of text, or none when the server closed.
pub(crate) async fn hear(socket: &mut Socket) -> Option<Value> {
    let hearing = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).ok();
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, hearing)
        .await
        .expect("a frame in time")
}

async fn subscribe(api: &Api, filter: Value) -> Socket {
    let mut socket = connect(api, "/events/out").await;
    say(&mut socket, json!({ "type": "filter", "filter": filter })).await;
    socket
}

#[tokio::test]
async fn a_subscriber_hears_of_the_runs_of_its_pool() {
    let api = Api::start().await;
    let pool = api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let resource = format!("prefect.work-pool.{}", id(&pool));
    let filter = json!({ "event": { "name": ["prefect.flow-run.Scheduled", "prefect.flow-run.Cancelling"] },
        "any_resource": { "id": [resource] }, "occurred": { "since": "2020-01-01T00:00:00Z", "until": null } });
    let mut socket = subscribe(&api, filter).await;
    let run = api.run(&deployment).await;
    let event = hear(&mut socket).await.expect("an event");
    assert_eq!(event["type"], "event");
    let event = &event["event"];
    assert_eq!(event["event"], "prefect.flow-run.Scheduled");
    assert_eq!(
        event["resource"]["prefect.resource.id"],
        format!("prefect.flow-run.{run}")
    );
    assert_eq!(event["resource"]["prefect.state-type"], "SCHEDULED");
    let related = event["related"].as_array().expect("a list");
    let of = |role: &str| {
        related
            .iter()
            .find(|entry| entry["prefect.resource.role"] == role)
            .expect("it is related")
    };
    assert_eq!(of("work-pool")["prefect.work-pool.type"], "process");
    assert_eq!(of("work-queue")["prefect.resource.name"], "default");
    assert_eq!(
        of("deployment")["prefect.resource.id"],
        format!("prefect.deployment.{deployment}")
    );
    for kind in ["PENDING", "RUNNING", "CANCELLING"] {
        api.propose(&run, kind).await;
    }
    let next = hear(&mut socket).await.expect("an event");
    assert_eq!(next["event"]["event"], "prefect.flow-run.Cancelling");
    assert_eq!(
        next["event"]["payload"]["intended"],
        json!({ "from": "RUNNING", "to": "CANCELLING" })
    );
}

#[tokio::test]
async fn a_subscriber_that_comes_back_hears_what_it_missed() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    api.propose(&run, "PENDING").await;
    let filter = json!({ "event": { "prefix": ["prefect.flow-run."] }, "resource": { "id": [format!("prefect.flow-run.{run}")] } });
    let mut socket = subscribe(&api, filter).await;
    let mut heard = Vec::new();
    for _ in 0..2 {
        let event = hear(&mut socket).await.expect("an event");
        heard.push(event["event"]["event"].as_str().expect("a name").to_owned());
    }
    assert_eq!(
        heard,
        ["prefect.flow-run.Scheduled", "prefect.flow-run.Pending"]
    );
}

#[tokio::test]
async fn events_of_clients_are_told_and_task_runs_are_read_out_of_them() {
    let api = Api::start().await;
    let flow = id(&api.post("/flows/", json!({ "name": "f" })).await);
    let run = id(&api.post("/flow_runs/", json!({ "flow_id": flow })).await);
    let mut out = subscribe(&api, json!({ "event": { "prefix": ["prefect.task-run"] } })).await;
    let mut incoming = connect(&api, "/events/in").await;
    let task = "0198f0c5-0000-7000-8000-000000000001";
    let event = json!({
        "occurred": "2026-01-01T00:00:00Z", "event": "prefect.task-run.Running", "id": "0198f0c5-0000-7000-8000-000000000002",
        "resource": { "prefect.resource.id": format!("prefect.task-run.{task}") },
        "related": [{ "prefect.resource.id": format!("prefect.flow-run.{run}"), "prefect.resource.role": "flow-run" }],
        "payload": { "task_run": { "task_key": "t", "dynamic_key": "0", "name": "t-0" },
            "validated_state": { "type": "RUNNING", "name": "Running", "message": null } },
    });
    say(&mut incoming, event.clone()).await;
    let heard = hear(&mut out).await.expect("an event");
    assert_eq!(heard["event"]["id"], event["id"]);
    let found = api
        .post(
            "/task_runs/filter",
            json!({ "task_runs": { "flow_run_id": { "any_": [run] } } }),
        )
        .await;
    assert_eq!(
        (&found[0]["id"], &found[0]["state_name"]),
        (&json!(task), &json!("Running"))
    );
    let mut other = event;
    other["id"] = json!("0198f0c5-0000-7000-8000-000000000003");
    let answer = api
        .send(Method::POST, "/events", Some(&json!([other])))
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        hear(&mut out).await.expect("an event")["event"]["id"],
        "0198f0c5-0000-7000-8000-000000000003"
    );
    say(&mut incoming, json!({ "not": "an event" })).await;
    assert_eq!(hear(&mut incoming).await, None, "the socket is closed");
}

#[tokio::test]
async fn a_stopping_server_ends_its_subscriptions() {
    let api = Api::start().await;
    let mut socket = subscribe(&api, json!({})).await;
    api.server.stop().await;
    assert_eq!(hear(&mut socket).await, None);
}

#[tokio::test]
async fn events_are_listed_by_page_and_each_once() {
    let api = Api::start().await;
    let event = |number: usize| {
        json!({ "occurred": format!("2026-01-01T00:00:{number:02}Z"), "event": format!("test.{}", number % 2),
            "id": format!("0198f0c5-0000-7000-8000-0000000000{number:02}"), "resource": { "prefect.resource.id": "r" },
            "related": [{ "prefect.resource.id": format!("n.{number}"), "prefect.resource.role": "number" }] })
    };
    let all: Vec<Value> = (10..17).map(event).collect();
    api.send(Method::POST, "/events", Some(&json!(all))).await;
    // A client that is not sure whether it was heard says it again.
    api.send(Method::POST, "/events", Some(&json!(all))).await;
    let query = json!({ "filter": { "event": { "prefix": ["test."] } }, "limit": 4 });
    let first = api.post("/events/filter", query).await;
    let count = |page: &Value| page["events"].as_array().map(Vec::len);
    assert_eq!((count(&first), &first["total"]), (Some(4), &json!(7)));
    assert_eq!(
        first["events"][0]["related"][0]["prefect.resource.id"], "n.16",
        "the newest comes first"
    );
    let next = first["next_page"].as_str().expect("there is more");
    let path = next
        .strip_prefix("http://api/api")
        .expect("a URL of this API");
    let second = api.get(path).await;
    assert_eq!(
        (count(&second), &second["next_page"]),
        (Some(3), &Value::Null)
    );
    let query = json!({ "filter": { "event": { "name": ["test.1"] }, "related": { "id": ["n.11", "n.12"], "role": ["number"] } } });
    assert_eq!(api.post("/events/filter", query).await["total"], 1);
    let refused = api
        .send(
            Method::POST,
            "/events/filter",
            Some(&json!({ "limit": 51 })),
        )
        .await;
    assert_eq!(refused.status, 422);
    let refused = api
        .send(Method::GET, "/events/filter/next?page-token=x", None)
        .await;
    assert_eq!(refused.status, 403);
}
