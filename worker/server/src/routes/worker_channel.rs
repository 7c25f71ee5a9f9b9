//! `/work_pools/{pool}/workers/connect`: the worker channel, on which a worker says that it lives and hears how its pool
//! is (3.8.8).
//!
//! It does what the REST routes do as well, so that a worker without it loses nothing. Cleanup messages are not offered;
//! a worker is told so when it asks.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
    routing::any,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use uuid::Uuid;

use super::{
    App,
    socket::{PING, accept, close, hear, introduce},
};
use crate::{
    body::Params,
    error::Error,
    events::Event,
    store::{
        Tx, now,
        pools::{self, PoolCreate, PoolUpdate, PoolView},
        queues::{self, QueueView},
        value::Micros,
        workers::{self, Heartbeat},
    },
};

/// What a worker may say. One unknown key, and the socket is closed, as the reference does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame<T> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "id")]
    _id: Uuid,
    #[serde(rename = "sent_at")]
    _sent_at: String,
    payload: T,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    consumer_id: Uuid,
    worker_name: String,
    worker_type: String,
    heartbeat_interval_seconds: u32,
    supported_channel_versions: Vec<String>,
    requested_capabilities: Vec<String>,
    #[serde(default)]
    work_queue_names: Vec<String>,
    #[serde(default, rename = "handled_cleanup_kinds")]
    _handled_cleanup_kinds: Vec<String>,
    #[serde(default, rename = "max_cleanup_concurrency")]
    _max_cleanup_concurrency: u32,
    #[serde(default)]
    create_pool_if_not_found: bool,
    #[serde(default)]
    default_base_job_template: Map<String, Value>,
    #[serde(default, rename = "worker_metadata")]
    _worker_metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    consumer_id: Uuid,
    worker_name: String,
    heartbeat_interval_seconds: u32,
}

/// A connection whose worker was told that it may stay.
struct Channel<'a> {
    app: &'a App,
    socket: &'a mut WebSocket,
    pool_name: String,
    pool_id: String,
    hello: Hello,
    /// The version of the pool that was sent last.
    sent: Micros,
    sequence: u32,
}

/// Why a channel is closed, in the words its clients decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The pool or a queue is not there, or may not be made.
    Authorization,
    /// There is no version that both speak.
    Version,
    /// What was said is no frame of the channel.
    Protocol,
    /// The heartbeat was not stored.
    Heartbeat,
    /// Something went wrong here.
    Transient,
}

/// The version of the channel that is spoken here.
const VERSION: &str = "work_pool_worker_channel.v1";
/// What a channel does; every worker has to ask for it.
const CAPABILITIES: [&str; 2] = ["worker_heartbeat.v1", "work_pool_snapshot.v1"];

pub(super) fn routes() -> Router<App> {
    Router::new().route("/work_pools/{name}/workers/connect", any(connect))
}

async fn connect(
    State(app): State<App>,
    Params(pool): Params<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            if introduce(&app, &mut socket, "authentication_failed")
                .await
                .is_none()
            {
                return;
            }
            if let Err(refusal) = serve(&app, pool, &mut socket).await {
                tracing::debug!(?refusal, "worker channel closed");
                close(&mut socket, refusal.code(), refusal.reason()).await;
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

/// Serves one worker, until it goes away or is sent away.
async fn serve(app: &App, pool_name: String, socket: &mut WebSocket) -> Result<(), Refusal> {
    let Some(frame) = hear::<Value>(socket).await else {
        return Err(Refusal::Protocol);
    };
    let hello = Hello::read(frame)?;
    // Listening comes first, so that no change of the pool falls between.
    let mut changes = app.hub.subscribe();
    let (name, greeting) = (pool_name.clone(), hello.clone());
    let entered = app.store.run(move |tx| greeting.enter(tx, &name)).await;
    let (pool, queues) = entered.map_err(|error| Refusal::from(&error))?;
    let ready = hello.ready(&pool, &queues);
    let mut channel = Channel {
        app,
        socket,
        pool_name,
        sent: pool.updated,
        pool_id: pool.id,
        hello,
        sequence: 1,
    };
    channel.say("worker.ready.v1", ready).await?;
    channel.stay(&mut changes).await
}

// === impl Channel ===

impl Channel<'_> {
    async fn stay(&mut self, changes: &mut broadcast::Receiver<Arc<Event>>) -> Result<(), Refusal> {
        let mut ping = tokio::time::interval(PING);
        let about = format!("prefect.work-pool.{}", self.pool_id);
        loop {
            // Each branch is cancel-safe: a broadcast, a tick, or a message of the socket's own buffer.
            tokio::select! {
                event = changes.recv() => match event {
                    Ok(event) if event.is_about(&about) => self.reconcile("work_pool_updated").await?,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.reconcile("work_pool_updated").await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = ping.tick() => {
                    if self.socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return Ok(());
                    }
                }
                message = self.socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                    Some(Ok(Message::Text(text))) => {
                        self.beat(&text).await?;
                        self.reconcile("heartbeat_reconciliation").await?;
                    }
                    Some(Ok(_)) => {}
                },
            }
        }
    }

    /// Stores a heartbeat; a worker may say nothing else.
    async fn beat(&mut self, text: &str) -> Result<(), Refusal> {
        let frame: Frame<Beat> = serde_json::from_str(text).map_err(|_| Refusal::Protocol)?;
        let beat = frame.payload;
        let own = beat.consumer_id == self.hello.consumer_id
            && beat.worker_name == self.hello.worker_name;
        if frame.kind != "worker.heartbeat.v1" || !own || beat.heartbeat_interval_seconds == 0 {
            return Err(Refusal::Protocol);
        }
        let pool = self.pool_name.clone();
        let heartbeat = Heartbeat::of(beat.worker_name, beat.heartbeat_interval_seconds);
        let stored = self
            .app
            .store
            .run(move |tx| workers::heartbeat(tx, &pool, &heartbeat))
            .await;
        stored.map_err(|error| match error {
            Error::NotFound(_) => Refusal::Authorization,
            _ => Refusal::Heartbeat,
        })
    }

    /// Sends the pool when it is another than the one that was sent last.
    async fn reconcile(&mut self, reason: &str) -> Result<(), Refusal> {
        let name = self.pool_name.clone();
        let pool = self.app.store.run(move |tx| pools::read(tx, &name)).await;
        let pool = pool.map_err(|error| Refusal::from(&error))?;
        if pool.id != self.pool_id {
            // The pool was deleted, and there is another of its name.
            return Err(Refusal::Authorization);
        }
        if pool.updated == self.sent {
            return Ok(());
        }
        self.sent = pool.updated;
        self.sequence += 1;
        let snapshot = snapshot(self.sequence, reason, &pool);
        self.say("work_pool.snapshot.v1", snapshot).await
    }

    async fn say(&mut self, kind: &str, payload: Value) -> Result<(), Refusal> {
        let frame =
            json!({ "type": kind, "id": Uuid::now_v7(), "sent_at": now(), "payload": payload });
        let sent = self.socket.send(Message::text(frame.to_string())).await;
        sent.map_err(|_| Refusal::Transient)
    }
}

// === impl Hello ===

impl Hello {
    fn read(frame: Value) -> Result<Self, Refusal> {
        let frame: Frame<Self> = serde_json::from_value(frame).map_err(|_| Refusal::Protocol)?;
        let hello = frame.payload;
        let asks = |capability: &&str| {
            hello
                .requested_capabilities
                .iter()
                .any(|asked| asked == capability)
        };
        if frame.kind != "worker.hello.v1"
            || hello.worker_name.is_empty()
            || hello.heartbeat_interval_seconds == 0
            || !CAPABILITIES.iter().all(asks)
        {
            return Err(Refusal::Protocol);
        }
        if !hello
            .supported_channel_versions
            .iter()
            .any(|version| version == VERSION)
        {
            return Err(Refusal::Version);
        }
        Ok(hello)
    }

    /// Makes what is missing of the pool, as far as the worker may, and notes that the worker lives.
    fn enter(&self, tx: &Tx<'_>, pool: &str) -> Result<(PoolView, Vec<QueueView>), Error> {
        let template = &self.default_base_job_template;
        match pools::read(tx, pool) {
            Ok(found) if found.is_template_empty() && !template.is_empty() => {
                pools::update(tx, pool, &PoolUpdate::template(template.clone()))?;
            }
            Ok(_) => {}
            Err(Error::NotFound(_)) if self.create_pool_if_not_found => {
                let new = PoolCreate::new(pool, &self.worker_type, template.clone());
                pools::create(tx, &new)?;
            }
            Err(error) => return Err(error),
        }
        let heartbeat = Heartbeat::of(self.worker_name.clone(), self.heartbeat_interval_seconds);
        workers::heartbeat(tx, pool, &heartbeat)?;
        let view = pools::read(tx, pool)?;
        let queues = if self.work_queue_names.is_empty() {
            queues::of_pool(tx, &view.id)?
        } else {
            let named = self.work_queue_names.iter();
            named
                .map(|queue| queues::read(tx, pool, queue))
                .collect::<Result<_, _>>()?
        };
        Ok((view, queues))
    }

    fn ready(&self, pool: &PoolView, queues: &[QueueView]) -> Value {
        let asked = self.requested_capabilities.iter();
        let rejected: Vec<&String> = asked
            .filter(|capability| !CAPABILITIES.contains(&capability.as_str()))
            .collect();
        let queues: Vec<Value> = queues
            .iter()
            .map(|queue| json!({ "id": queue.id, "name": queue.name }))
            .collect();
        json!({
            "consumer_id": self.consumer_id,
            // The open-source reference gives none either.
            "worker_id": null,
            "selected_channel_version": VERSION,
            "effective_heartbeat_interval_seconds": self.heartbeat_interval_seconds,
            "accepted_capabilities": CAPABILITIES,
            "rejected_capabilities": rejected,
            "effective_max_cleanup_concurrency": 0,
            "resolved_work_queues": queues,
            "initial_snapshot": snapshot(1, "initial", pool),
        })
    }
}

// === impl Refusal ===

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Authorization => "authorization_failed",
            Self::Version => "unsupported_version",
            Self::Protocol => "protocol_error",
            Self::Heartbeat => "heartbeat_persistence_failed",
            Self::Transient => "transient_server_error",
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Authorization | Self::Version => close_code::POLICY,
            Self::Protocol => close_code::PROTOCOL,
            Self::Heartbeat | Self::Transient => close_code::ERROR,
        }
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotFound(_) | Error::Forbidden(_) => Self::Authorization,
            Error::Unprocessable(_) | Error::Body { .. } => Self::Protocol,
            _ => Self::Transient,
        }
    }
}

fn snapshot(sequence: u32, reason: &str, pool: &PoolView) -> Value {
    json!({ "snapshot_sequence": sequence, "reason": reason, "work_pool": pool })
}
