//! Work pools, their queues, and the workers that poll them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{WorkPoolId, WorkQueueId, WorkerId};

/// The named channel a worker polls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkPool {
    /// Names it for the server.
    pub id: WorkPoolId,
    /// Names it for people.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub description: Option<String>,
    /// `process`, `docker`, `kubernetes`, or a type this worker does not serve.
    #[serde(rename = "type")]
    pub kind: String,
    /// The base job template as it is stored; `{}` when nobody has filled it in.
    #[serde(default)]
    pub base_job_template: Value,
    /// Whether it hands out no flow runs at present.
    #[serde(default)]
    pub is_paused: bool,
    /// How many of its flow runs may be pending or running at once.
    #[serde(default)]
    pub concurrency_limit: Option<u32>,
    /// What the server thinks of it.
    #[serde(default)]
    pub status: Option<WorkPoolStatus>,
    /// The queue that flow runs go to when nobody names one.
    #[serde(default)]
    pub default_queue_id: Option<WorkQueueId>,
}

/// What the server thinks of a pool or queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkPoolStatus {
    /// A worker polls it.
    Ready,
    /// No worker polls it.
    NotReady,
    /// It is paused.
    Paused,
    /// A status this release does not know.
    #[serde(other)]
    Other,
}

/// What is sent to create a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkPoolCreate {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The base job template; the first worker fills it in when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_job_template: Option<Value>,
    /// Whether it starts paused.
    #[serde(default)]
    pub is_paused: bool,
    /// How many of its flow runs may be pending or running at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<u32>,
}

/// A lane of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkQueue {
    /// Names it for the server.
    pub id: WorkQueueId,
    /// Names it for people, within its pool.
    pub name: String,
    /// 1 is served first.
    #[serde(default)]
    pub priority: Option<u32>,
    /// How many of its flow runs may be pending or running at once.
    #[serde(default)]
    pub concurrency_limit: Option<u32>,
    /// Whether it hands out no flow runs at present.
    #[serde(default)]
    pub is_paused: bool,
}

/// A worker as the server sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Names it for the server.
    pub id: WorkerId,
    /// Names it for people.
    pub name: String,
    /// The pool it polls.
    pub work_pool_id: WorkPoolId,
    /// When it last said that it lives.
    #[serde(default)]
    pub last_heartbeat_time: Option<Timestamp>,
    /// Seconds between its heartbeats.
    #[serde(default)]
    pub heartbeat_interval_seconds: Option<u32>,
    /// `ONLINE` or `OFFLINE`.
    #[serde(default)]
    pub status: Option<String>,
}
