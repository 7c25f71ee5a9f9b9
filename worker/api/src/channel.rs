//! The worker channel: one socket on which a worker lives, sees its pool change, and is asked to clean up (3.8.8).
//!
//! It takes the place of the heartbeats and reads of the pool by REST while it is there. Servers before it answer with 404 or 403.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use uuid::Uuid;

use crate::{
    Client, SocketError,
    request::Call,
    socket::{Introduction, Socket},
    types::{FlowRunId, WorkPool, WorkerId},
};

/// How a worker introduces itself.
#[derive(Clone, Debug)]
pub struct WorkerHello {
    /// The pool.
    pub pool: String,
    /// The worker's name.
    pub worker: String,
    /// The type it serves, such as `process`.
    pub kind: String,
    /// Its queues; empty means all.
    pub work_queues: Vec<String>,
    /// Time between its heartbeats.
    pub heartbeat_interval: Duration,
    /// The template that a pool gets which has none.
    pub template: Value,
    /// Names this process, however often it connects.
    pub consumer: Uuid,
}

/// A worker's open channel.
#[derive(Debug)]
pub struct WorkerChannel {
    socket: Socket,
    hello: WorkerHello,
    beat: Interval,
    /// The server's count of the pool's pictures on this connection.
    sequence: u64,
    cleans_up: bool,
}

/// What happens on a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelEvent {
    /// A heartbeat was sent.
    Beat,
    /// The pool has changed.
    Pool(Box<WorkPool>),
    /// Infrastructure may be left of a flow run that has been over for the server since a while.
    Cleanup(Cleanup),
}

/// One flow run to clean up after. It is this worker's to answer for half a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    /// Names the request.
    #[serde(rename = "message_id")]
    pub id: Uuid,
    /// Shows that it was given to us.
    pub reservation_token: String,
    /// What is to be done; `cancelling_timeout_teardown.v1` is the only kind there is.
    pub kind: String,
    /// What it is about.
    pub target: CleanupTarget,
}

/// What to clean up after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupTarget {
    /// The flow run.
    pub flow_run_id: FlowRunId,
    /// Its infrastructure, in the reference's format.
    #[serde(default)]
    pub infrastructure_pid: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ready {
    #[serde(default)]
    worker_id: Option<WorkerId>,
    #[serde(default)]
    effective_heartbeat_interval_seconds: Option<u64>,
    #[serde(default)]
    accepted_capabilities: Vec<String>,
    initial_snapshot: Snapshot,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    snapshot_sequence: u64,
    work_pool: WorkPool,
}

const VERSION: &str = "work_pool_worker_channel.v1";
const HEARTBEAT: &str = "worker_heartbeat.v1";
const SNAPSHOT: &str = "work_pool_snapshot.v1";
const CLEANUP: &str = "cleanup_delivery.v1";

/// The one kind of cleanup that a server of 3.8.8 asks for: the run was CANCELLING for too long, and is CANCELLED now.
const TEARDOWN: &str = "cancelling_timeout_teardown.v1";

// === impl Client ===

impl Client {
    /// Opens the worker channel of a pool; gives it with the pool as the server has it now.
    ///
    /// The server takes it as the first heartbeat. It closes the socket with 1008 when the pool or a queue is missing.
    pub async fn open_worker_channel(
        &self,
        hello: WorkerHello,
    ) -> Result<(WorkerChannel, WorkPool), SocketError> {
        let call = Call::get(&["work_pools", &hello.pool, "workers", "connect"]);
        let mut socket = self.open_socket(call, Introduction::Frame).await?;
        socket
            .send(&frame("worker.hello.v1", hello.payload()))
            .await?;
        let mut answer = socket.receive().await?;
        if answer["type"] != "worker.ready.v1" {
            return Err(socket.unexpected("expected worker.ready.v1"));
        }
        let ready: Ready = serde_json::from_value(answer["payload"].take())
            .map_err(|error| socket.unexpected(format!("worker.ready.v1: {error}")))?;
        if let Some(id) = ready.worker_id {
            self.caller.id.get_or_init(|| id);
        }
        let seconds = ready.effective_heartbeat_interval_seconds;
        let interval = seconds.map_or(hello.heartbeat_interval, |seconds| {
            Duration::from_secs(seconds.max(1))
        });
        let mut beat = interval_at(Instant::now() + interval, interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let channel = WorkerChannel {
            socket,
            hello,
            beat,
            sequence: ready.initial_snapshot.snapshot_sequence,
            cleans_up: ready.accepted_capabilities.iter().any(|one| one == CLEANUP),
        };
        Ok((channel, ready.initial_snapshot.work_pool))
    }
}

// === impl WorkerHello ===

impl WorkerHello {
    fn payload(&self) -> Value {
        json!({
            "consumer_id": self.consumer,
            "worker_name": self.worker,
            "worker_type": self.kind,
            "heartbeat_interval_seconds": self.heartbeat_interval.as_secs().max(1),
            "supported_channel_versions": [VERSION],
            "requested_capabilities": [HEARTBEAT, SNAPSHOT, CLEANUP],
            "work_queue_names": self.work_queues,
            "handled_cleanup_kinds": [TEARDOWN],
            "max_cleanup_concurrency": 1,
            // A pool is created by REST, where a failure says why.
            "create_pool_if_not_found": false,
            "default_base_job_template": self.template,
            "worker_metadata": metadata(),
        })
    }
}

// === impl WorkerChannel ===

impl WorkerChannel {
    /// Sends heartbeats when they are due, and waits for what the server has to say. Dropping the future loses nothing but, at worst, one
    /// heartbeat. Frames of kinds that this release does not know are left out.
    pub async fn next(&mut self) -> Result<ChannelEvent, SocketError> {
        loop {
            let mut said = tokio::select! {
                _ = self.beat.tick() => {
                    self.socket.send(&self.heartbeat()).await?;
                    return Ok(ChannelEvent::Beat);
                }
                said = self.socket.receive() => said?,
            };
            let payload = said["payload"].take();
            match said["type"].as_str() {
                Some("work_pool.snapshot.v1") => {
                    if let Some(pool) = self.newer(payload)? {
                        return Ok(ChannelEvent::Pool(Box::new(pool)));
                    }
                }
                Some("cleanup.message.v1") if self.cleans_up => {
                    if let Ok(cleanup) = serde_json::from_value(payload) {
                        return Ok(ChannelEvent::Cleanup(cleanup));
                    }
                }
                other => tracing::debug!(frame = other, "left out a frame of the worker channel"),
            }
        }
    }

    /// Says that nothing is left to clean up, or that it is in safe hands.
    pub async fn acknowledge(&mut self, cleanup: &Cleanup) -> Result<(), SocketError> {
        let payload = json!({
            "message_id": cleanup.id,
            "reservation_token": cleanup.reservation_token,
        });
        self.socket.send(&frame("cleanup.ack.v1", payload)).await
    }

    /// Says that another worker has to clean up.
    pub async fn release(&mut self, cleanup: &Cleanup) -> Result<(), SocketError> {
        let reason = if cleanup.kind == TEARDOWN {
            "infrastructure_not_available"
        } else {
            "unsupported_cleanup_kind"
        };
        let payload = json!({
            "message_id": cleanup.id,
            "reservation_token": cleanup.reservation_token,
            "reason": reason,
        });
        self.socket
            .send(&frame("cleanup.release.v1", payload))
            .await
    }

    fn heartbeat(&self) -> Value {
        let payload = json!({
            "consumer_id": self.hello.consumer,
            "worker_name": self.hello.worker,
            "heartbeat_interval_seconds": self.beat.period().as_secs(),
        });
        frame("worker.heartbeat.v1", payload)
    }

    /// The pool of a snapshot that is newer than the last one.
    fn newer(&mut self, payload: Value) -> Result<Option<WorkPool>, SocketError> {
        let snapshot: Snapshot = serde_json::from_value(payload)
            .map_err(|error| self.socket.unexpected(format!("snapshot: {error}")))?;
        if snapshot.snapshot_sequence <= self.sequence {
            return Ok(None);
        }
        self.sequence = snapshot.snapshot_sequence;
        Ok(Some(snapshot.work_pool))
    }
}

// === impl Cleanup ===

impl Cleanup {
    /// Whether it asks for infrastructure to be removed, which is all that this release knows.
    pub fn is_teardown(&self) -> bool {
        self.kind == TEARDOWN
    }
}

/// What Cloud shows of a worker beside its name.
pub(crate) fn metadata() -> Value {
    json!({ "integrations": [{ "name": "worker", "version": env!("CARGO_PKG_VERSION") }] })
}

fn frame(kind: &str, payload: Value) -> Value {
    Value::Object(Map::from_iter([
        ("type".to_owned(), kind.into()),
        ("id".to_owned(), Uuid::now_v7().to_string().into()),
        ("sent_at".to_owned(), Timestamp::now().to_string().into()),
        ("payload".to_owned(), payload),
    ]))
}
