//! Both ends of a socket: ours, and one that a test plays.

use std::future::Future;

use axum::{
    Router,
    extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade},
    response::IntoResponse,
    routing::any,
};
use jiff::Timestamp;
use tokio::{net::TcpListener, task::JoinSet};
use uuid::Uuid;
use worker_config::Secret;

use super::*;
use crate::{
    ClientOptions,
    channel::{ChannelEvent, WorkerHello},
    types::{Event, EventFilter},
};

/// The other end; it is gone when it is dropped.
struct Peer {
    client: Client,
    _tasks: JoinSet<()>,
}

/// Serves every path with this router.
async fn serve(router: Router) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut options = ClientOptions::new(url.parse().unwrap());
    options.auth_string = Some(Secret::new("user:word"));
    Peer {
        client: Client::new(options).unwrap(),
        _tasks: tasks,
    }
}

/// A peer that plays one part with each socket.
async fn play<F, P>(part: P) -> Peer
where
    F: Future<Output = ()> + Send + 'static,
    P: Fn(WebSocket) -> F + Clone + Send + Sync + 'static,
{
    let take =
        any(async move |upgrade: WebSocketUpgrade| upgrade.protocols(["prefect"]).on_upgrade(part));
    serve(Router::new().fallback(take)).await
}

async fn hear(socket: &mut WebSocket) -> Value {
    match socket.recv().await {
        Some(Ok(Frame::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("expected text, got {other:?}"),
    }
}

async fn say(socket: &mut WebSocket, frame: Value) {
    socket.send(Frame::text(frame.to_string())).await.unwrap();
}

/// Plays the beginning of every socket.
async fn welcome(socket: &mut WebSocket) {
    let auth = json!({ "type": "auth", "token": "user:word" });
    assert_eq!(hear(socket).await, auth);
    say(socket, json!({ "type": "auth_success" })).await;
}

/// Keeps a socket open until the other side is gone.
async fn linger(mut socket: WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

fn filter() -> EventFilter {
    EventFilter {
        names: vec!["prefect.flow-run.Scheduled".to_owned()],
        resource: "prefect.work-pool.x".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn happening(id: u128) -> Value {
    json!({ "type": "event", "event": {
        "id": Uuid::from_u128(id), "event": "prefect.flow-run.Scheduled",
        "resource": { "prefect.resource.id": "prefect.flow-run.x" },
    }})
}

#[tokio::test]
async fn a_subscriber_says_who_it_is_and_what_it_wants_and_hears_each_event_once() {
    let peer = play(async |mut socket: WebSocket| {
        welcome(&mut socket).await;
        let wanted = hear(&mut socket).await;
        assert_eq!(wanted["type"], "filter");
        assert_eq!(
            wanted["filter"]["event"]["name"],
            json!(["prefect.flow-run.Scheduled"])
        );
        for frame in [
            happening(1),
            happening(1),
            json!({ "type": "event", "event": { "id": "of another time" } }),
            json!({ "type": "something new" }),
            happening(2),
        ] {
            say(&mut socket, frame).await;
        }
        linger(socket).await;
    })
    .await;
    let mut events = peer.client.subscribe(&filter()).await.unwrap();
    for id in [1, 2] {
        assert_eq!(events.next().await.unwrap().id, Uuid::from_u128(id));
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_tried_again_soon_and_not_repeated_in_the_error() {
    let peer = play(async |mut socket: WebSocket| {
        hear(&mut socket).await;
        let refusal = CloseFrame {
            code: 1008,
            reason: "authentication_failed".into(),
        };
        socket.send(Frame::Close(Some(refusal))).await.unwrap();
    })
    .await;
    let error = peer.client.subscribe(&filter()).await.unwrap_err();
    assert!(!error.may_pass(), "{error}");
    let text = error.to_string();
    assert!(text.contains("1008: authentication_failed"), "{text}");
    assert!(!text.contains("word"), "{text}");
}

#[tokio::test]
async fn a_server_that_knows_no_sockets_and_one_that_is_away_are_told_apart() {
    for (status, may_pass) in [(404, false), (403, false), (503, true)] {
        let answer = any(async move || {
            let status = StatusCode::from_u16(status).unwrap();
            (status, json!({ "detail": "no" }).to_string()).into_response()
        });
        let peer = serve(Router::new().fallback(answer)).await;
        let error = peer.client.subscribe(&filter()).await.unwrap_err();
        assert!(matches!(error, SocketError::Refused(_)), "{error}");
        assert_eq!(error.may_pass(), may_pass, "{error}");
    }
}

#[tokio::test]
async fn a_socket_that_breaks_may_be_opened_anew() {
    let peer = play(async |mut socket: WebSocket| welcome(&mut socket).await).await;
    let mut events = peer.client.subscribe(&filter()).await.unwrap();
    let error = events.next().await.unwrap_err();
    assert!(error.may_pass(), "{error}");
}

#[tokio::test]
async fn events_are_told_when_the_server_has_answered_after_them() {
    let peer = play(async |mut socket: WebSocket| {
        welcome(&mut socket).await;
        assert_eq!(hear(&mut socket).await["event"], "prefect.worker.started");
        // It may say something in between.
        say(&mut socket, json!({ "type": "something new" })).await;
        linger(socket).await;
    })
    .await;
    let mut sink = peer.client.open_event_sink().await.unwrap();
    let event = Event {
        id: Uuid::from_u128(1),
        occurred: Timestamp::UNIX_EPOCH,
        name: "prefect.worker.started".to_owned(),
        resource: [("prefect.resource.id".to_owned(), "x".to_owned())].into(),
        related: Vec::new(),
        payload: serde_json::Map::new(),
        follows: None,
    };
    sink.send(&[event]).await.unwrap();
}

fn hello() -> WorkerHello {
    WorkerHello {
        pool: "a pool".to_owned(),
        worker: "w".to_owned(),
        kind: "process".to_owned(),
        work_queues: Vec::new(),
        heartbeat_interval: Duration::from_secs(30),
        template: json!({}),
        consumer: Uuid::from_u128(1),
    }
}

fn pool(paused: bool, sequence: u64) -> Value {
    json!({ "snapshot_sequence": sequence, "reason": "r", "work_pool": {
        "id": Uuid::from_u128(2), "name": "a pool", "type": "process", "is_paused": paused, "of": "later",
    }})
}

async fn make_ready(socket: &mut WebSocket, interval: u64) {
    welcome(socket).await;
    let hello = hear(socket).await;
    assert_eq!(hello["type"], "worker.hello.v1");
    let payload = json!({
        "consumer_id": hello["payload"]["consumer_id"], "worker_id": null,
        "effective_heartbeat_interval_seconds": interval,
        "accepted_capabilities": ["worker_heartbeat.v1", "cleanup_delivery.v1"],
        "initial_snapshot": pool(false, 1),
    });
    say(
        socket,
        json!({ "type": "worker.ready.v1", "payload": payload }),
    )
    .await;
}

#[tokio::test]
async fn a_channel_shows_the_pool_as_it_changes_and_nothing_older() {
    let peer = play(async |mut socket: WebSocket| {
        make_ready(&mut socket, 30).await;
        for (paused, sequence) in [(true, 1), (true, 2), (false, 2), (false, 3)] {
            let payload = pool(paused, sequence);
            say(
                &mut socket,
                json!({ "type": "work_pool.snapshot.v1", "payload": payload }),
            )
            .await;
            say(&mut socket, json!({ "type": "something.new.v9" })).await;
        }
        linger(socket).await;
    })
    .await;
    let (mut channel, first) = peer.client.open_worker_channel(hello()).await.unwrap();
    assert!(!first.is_paused);
    for paused in [true, false] {
        match channel.next().await.unwrap() {
            ChannelEvent::Pool(pool) => assert_eq!(pool.is_paused, paused),
            other => panic!("expected the pool, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_channel_sends_heartbeats_as_often_as_the_server_wants() {
    let peer = play(async |mut socket: WebSocket| {
        make_ready(&mut socket, 1).await;
        let heartbeat = hear(&mut socket).await;
        assert_eq!(heartbeat["type"], "worker.heartbeat.v1");
        assert_eq!(heartbeat["payload"]["heartbeat_interval_seconds"], 1);
        linger(socket).await;
    })
    .await;
    let (mut channel, _) = peer.client.open_worker_channel(hello()).await.unwrap();
    assert_eq!(channel.next().await.unwrap(), ChannelEvent::Beat);
}

#[tokio::test]
async fn what_is_another_workers_to_clean_up_is_released() {
    let peer = play(async |mut socket: WebSocket| {
        make_ready(&mut socket, 30).await;
        let payload = json!({
            "message_id": Uuid::from_u128(3), "reservation_token": "t", "kind": "cancelling_timeout_teardown.v1",
            "target": { "flow_run_id": Uuid::from_u128(4), "infrastructure_pid": "12" }, "delivery_count": 1,
        });
        say(&mut socket, json!({ "type": "cleanup.message.v1", "payload": payload })).await;
        let answer = hear(&mut socket).await;
        assert_eq!(answer["type"], "cleanup.release.v1");
        assert_eq!(answer["payload"]["reason"], "infrastructure_not_available");
        assert_eq!(answer["payload"]["reservation_token"], "t");
        say(&mut socket, json!({ "type": "work_pool.snapshot.v1", "payload": pool(true, 2) })).await;
        linger(socket).await;
    })
    .await;
    let (mut channel, _) = peer.client.open_worker_channel(hello()).await.unwrap();
    match channel.next().await.unwrap() {
        ChannelEvent::Cleanup(cleanup) => {
            assert!(cleanup.is_teardown());
            channel.release(&cleanup).await.unwrap();
        }
        other => panic!("expected a cleanup, got {other:?}"),
    }
    // The answer was right, or the other end would be gone.
    assert!(matches!(
        channel.next().await.unwrap(),
        ChannelEvent::Pool(_)
    ));
}
