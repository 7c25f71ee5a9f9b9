//! Log entries of a flow run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FlowRunId;

/// One line of a flow run's log. Its fields are exactly those the server accepts: one more, and it refuses the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The logger, such as `prefect.flow_runs.worker`.
    pub name: String,
    /// How important it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The flow run it belongs to.
    pub flow_run_id: Option<FlowRunId>,
}

/// One line of a flow run's log as the server stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredLogEntry {
    /// Names it.
    pub id: Uuid,
    /// The logger, such as `prefect.flow_runs.worker`.
    pub name: String,
    /// How important it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The flow run it belongs to.
    #[serde(default)]
    pub flow_run_id: Option<FlowRunId>,
    /// The task run it belongs to.
    #[serde(default)]
    pub task_run_id: Option<Uuid>,
}

/// How important a line is, by Python's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogLevel(pub u16);

// === impl LogLevel ===

impl LogLevel {
    /// For developers.
    pub const DEBUG: Self = Self(10);
    /// The life of a flow run.
    pub const INFO: Self = Self(20);
    /// Look here first.
    pub const WARNING: Self = Self(30);
    /// A person must act.
    pub const ERROR: Self = Self(40);

    /// The name people know.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            0..20 => "DEBUG",
            20..30 => "INFO",
            30..40 => "WARNING",
            40..50 => "ERROR",
            _ => "CRITICAL",
        }
    }
}
