//! `/events`: what clients tell, and what they want to be told.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::Response,
    routing::{any, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::App;
use crate::{
    body::Body,
    error::Error,
    events::{Event, EventFilter},
    store::{now, task_runs},
};

/// The first thing a subscriber says after it said who it is.
#[derive(Debug, Deserialize)]
struct FilterFrame {
    #[serde(rename = "type")]
    kind: String,
    filter: EventFilter,
    #[serde(default)]
    backfill: Option<bool>,
}

/// How long a client may take to say who it is and what it wants.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a silent subscriber is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// The largest event; the reference's largest is 1.5 MB.
const FRAME: usize = 2 * 1024 * 1024;
/// The subprotocol by which Prefect's clients announce that they will say who they are.
const PROTOCOL: &str = "prefect";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/events", post(create))
        .route("/events/in", any(stream_in))
        .route("/events/out", any(stream_out))
}

async fn create(
    State(app): State<App>,
    Body(events): Body<Vec<Value>>,
) -> Result<StatusCode, Error> {
    for event in events {
        take_in(&app, event).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn stream_in(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            if introduce(&app, &mut socket).await.is_none() {
                return;
            }
            // Events are taken one by one, so that a client that sends faster than they are stored has to wait.
            while let Some(Ok(message)) = socket.recv().await {
                let Message::Text(text) = message else {
                    continue;
                };
                let event = serde_json::from_str(&text).unwrap_or_default();
                if let Err(error) = take_in(&app, event).await {
                    tracing::debug!(%error, "event refused");
                    return close(&mut socket, close_code::PROTOCOL, "not an event").await;
                }
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

async fn stream_out(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            if introduce(&app, &mut socket).await.is_some() {
                tell(&app, &mut socket).await;
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

fn accept(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(FRAME)
        .max_frame_size(FRAME)
}

/// Stores what an event says about a task run, and tells it to subscribers.
async fn take_in(app: &App, body: Value) -> Result<(), Error> {
    let event = Event::parse(&body, now()).ok_or_else(|| {
        Error::field(
            &["event"],
            "not an event: it needs an event, an occurred and a resource",
        )
    })?;
    if event.name.starts_with("prefect.task-run.") {
        app.store
            .run(move |tx| task_runs::observe(tx, &body))
            .await?;
    }
    app.hub.publish(event);
    Ok(())
}

/// Hears who a client is. The socket is closed when it may not be here.
async fn introduce(app: &App, socket: &mut WebSocket) -> Option<()> {
    let frame: Value = hear(socket).await?;
    let token = frame.get("token").and_then(Value::as_str);
    if frame.get("type") != Some(&"auth".into()) || !app.gate.opens_for(token) {
        close(socket, close_code::POLICY, "authentication failed").await;
        return None;
    }
    let welcome = json!({ "type": "auth_success" }).to_string();
    socket.send(Message::text(welcome)).await.ok()
}

/// Sends a subscriber what it wants, for as long as it is there.
async fn tell(app: &App, socket: &mut WebSocket) {
    let Some(frame) = hear::<Value>(socket).await else {
        return;
    };
    let frame: FilterFrame = match serde_json::from_value(frame) {
        Ok(frame) => frame,
        Err(error) => {
            return close(
                socket,
                close_code::PROTOCOL,
                &format!("Invalid filter: {error}"),
            )
            .await;
        }
    };
    if frame.kind != "filter" {
        return close(socket, close_code::PROTOCOL, "Expected 'filter' message").await;
    }
    let (mut live, backlog) = app.hub.subscribe(&frame.filter);
    let mut told = Vec::new();
    if frame.backfill.unwrap_or(true) {
        for event in backlog {
            told.push(event.id);
            if socket.send(Message::Text(event.frame())).await.is_err() {
                return;
            }
        }
    }
    let mut ping = tokio::time::interval(PING);
    loop {
        // Each branch is cancel-safe: a broadcast, a tick, or a message of the socket's own buffer.
        tokio::select! {
            event = live.recv() => {
                let event: Arc<Event> = match event {
                    Ok(event) => event,
                    // A subscriber that cannot keep up is sent away, so that it comes back and asks for what it missed.
                    Err(RecvError::Lagged(_)) => return close(socket, close_code::AGAIN, "too slow").await,
                    Err(RecvError::Closed) => return,
                };
                let is_new = !told.contains(&event.id);
                if is_new && frame.filter.wants(&event) && socket.send(Message::Text(event.frame())).await.is_err() {
                    return;
                }
            }
            _ = ping.tick() => {
                if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                if matches!(message, None | Some(Err(_) | Ok(Message::Close(_)))) {
                    return;
                }
            }
        }
    }
}

/// The next JSON a client says, if it says any in time.
async fn hear<T: serde::de::DeserializeOwned>(socket: &mut WebSocket) -> Option<T> {
    let hearing = async {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).ok();
            }
        }
        None
    };
    tokio::time::timeout(HANDSHAKE, hearing)
        .await
        .ok()
        .flatten()
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    if let Err(error) = socket.send(Message::Close(Some(frame))).await {
        tracing::debug!(%error, "subscriber was gone already");
    }
}
