//! `/logs`: what flow runs say, stored, listed, and told as it comes in.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::Response,
    routing::{any, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    App,
    socket::{PING, accept, close, hear, introduce},
};
use crate::{
    body::Body,
    error::Error,
    store::{
        filter::{Condition, Page},
        logs::{self, LogCreate, LogFilter, LogView},
    },
};

/// Who follows the logs.
#[derive(Clone, Debug)]
pub(crate) struct Followers(broadcast::Sender<Arc<Vec<LogView>>>);

#[derive(Debug, Deserialize)]
struct LogQuery {
    #[serde(default)]
    logs: Option<Map<String, Value>>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Debug, Deserialize)]
struct FilterFrame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    filter: LogFilter,
}

/// How many batches a follower may be behind before it is sent away. A batch is at most 3 MB, and mostly a few lines.
const BEHIND: usize = 64;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/logs/", post(create))
        .route("/logs/filter", post(filter))
        .route("/logs/out", any(stream_out))
}

// === impl Followers ===

impl Followers {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

async fn create(
    State(app): State<App>,
    Body(entries): Body<Vec<LogCreate>>,
) -> Result<(StatusCode, Json<()>), Error> {
    let stored = app.store.run(move |tx| logs::create(tx, &entries)).await?;
    // There is nobody to hear it, which is as good as told.
    drop(app.followers.0.send(Arc::new(stored)));
    Ok((StatusCode::CREATED, Json(())))
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<LogQuery>,
) -> Result<Json<Vec<LogView>>, Error> {
    let mut condition = Condition::default();
    condition.add("logs", query.logs.as_ref(), logs::FIELDS)?;
    let found = app
        .store
        .run(move |tx| logs::filter(tx, condition, query.sort.as_deref(), query.page))
        .await?;
    Ok(Json(found))
}

async fn stream_out(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            let refusal = "authentication failed";
            if introduce(&app, &mut socket, refusal).await.is_some() {
                tell(&app, &mut socket).await;
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

/// Sends a follower what it wants, for as long as it is there. What was said before, it asks for by request.
async fn tell(app: &App, socket: &mut WebSocket) {
    let mut live = app.followers.0.subscribe();
    let frame = match hear::<Value>(socket).await.map(serde_json::from_value) {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => {
            let reason = format!("Invalid filter: {error}");
            return close(socket, close_code::PROTOCOL, &reason).await;
        }
        None => return,
    };
    let FilterFrame { kind, filter } = frame;
    if kind != "filter" {
        return close(socket, close_code::PROTOCOL, "Expected 'filter' message").await;
    }
    let mut ping = tokio::time::interval(PING);
    loop {
        // Each branch is cancel-safe: a broadcast, a tick, or a message of the socket's own buffer.
        tokio::select! {
            batch = live.recv() => {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(RecvError::Lagged(_)) => return close(socket, close_code::AGAIN, "too slow").await,
                    Err(RecvError::Closed) => return,
                };
                for log in batch.iter().filter(|log| filter.wants(log)) {
                    let frame = json!({ "type": "log", "log": log }).to_string();
                    if socket.send(Message::text(frame)).await.is_err() {
                        return;
                    }
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
