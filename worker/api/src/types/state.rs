//! States of a flow run, and how the server answers when one is proposed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FlowRunId, StateId, TransitionId};

/// The kind of a state. The name refines it: `Submitting` is of type `PENDING`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StateType {
    /// Waits for its time.
    Scheduled,
    /// Claimed, not yet running.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Completed,
    /// Ended because the flow's code failed.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Ended because its infrastructure died.
    Crashed,
    /// Waits for a person.
    Paused,
    /// Asked to end, not yet ended.
    Cancelling,
    /// A type this release does not know. Kept as it was written.
    Other(String),
}

/// A state as the server stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Names this state; a new one for each transition.
    pub id: StateId,
    /// The kind.
    #[serde(rename = "type")]
    pub kind: StateType,
    /// The refinement, for people and for filters.
    pub name: Option<String>,
    /// When it was entered.
    pub timestamp: Timestamp,
    /// Why, in words.
    pub message: Option<String>,
    /// Facts the orchestration needs.
    #[serde(default)]
    pub state_details: StateDetails,
    /// The reference to a result, which a worker never looks into.
    #[serde(default)]
    pub data: Option<Value>,
}

/// Facts that orchestration rules attach to a state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StateDetails {
    /// The flow run this state belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_run_id: Option<FlowRunId>,
    /// When a scheduled state is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Timestamp>,
    /// The proposal that made this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition_id: Option<TransitionId>,
    /// The lease on a slot of the deployment's concurrency limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_concurrency_lease_id: Option<uuid::Uuid>,
    /// Everything else, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A state somebody asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProposedState {
    /// The kind.
    #[serde(rename = "type")]
    pub kind: StateType,
    /// The refinement; the server takes the kind's own name when there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// Why, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// Facts, of which a worker sends only the transition id and a due time.
    #[serde(default)]
    pub state_details: StateDetails,
    /// The reference to a result. A worker sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// The server's answer to a proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrchestrationResult {
    /// The state the flow run is in after the proposal; absent when nothing was decided.
    pub state: Option<State>,
    /// What became of the proposal.
    pub status: OrchestrationStatus,
    /// Reason and delay, for the statuses that have them.
    #[serde(default)]
    pub details: OrchestrationDetails,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OrchestrationStatus {
    /// Stored.
    Accept,
    /// Another state was stored or kept.
    Reject,
    /// Nothing was stored, and the one who asked should stop.
    Abort,
    /// Ask again later.
    Wait,
}

/// Reason and delay of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrchestrationDetails {
    /// Which of the details this is, such as `reject_details`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For `WAIT`: seconds until the proposal may be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
}

// === impl StateType ===

impl StateType {
    /// Whether a flow run in such a state has ended for good.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Crashed
        )
    }

    /// The spelling on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Crashed => "CRASHED",
            Self::Paused => "PAUSED",
            Self::Cancelling => "CANCELLING",
            Self::Other(text) => text,
        }
    }

    /// The name a state of this type has when nobody gave it one: `Pending` for `PENDING`.
    pub fn default_name(&self) -> String {
        let mut name = self.as_str().to_lowercase();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        name
    }
}

impl From<String> for StateType {
    fn from(text: String) -> Self {
        match text.as_str() {
            "SCHEDULED" => Self::Scheduled,
            "PENDING" => Self::Pending,
            "RUNNING" => Self::Running,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "CANCELLED" => Self::Cancelled,
            "CRASHED" => Self::Crashed,
            "PAUSED" => Self::Paused,
            "CANCELLING" => Self::Cancelling,
            _ => Self::Other(text),
        }
    }
}

impl From<StateType> for String {
    fn from(kind: StateType) -> Self {
        match kind {
            StateType::Other(text) => text,
            known => known.as_str().to_owned(),
        }
    }
}

impl fmt::Display for StateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ProposedState ===

impl ProposedState {
    /// A proposal with an identity of its own, so that a retry of it is recognised.
    pub fn new(kind: StateType) -> Self {
        Self {
            kind,
            name: None,
            message: None,
            state_details: StateDetails {
                transition_id: Some(TransitionId::random()),
                ..StateDetails::default()
            },
            data: None,
        }
    }

    /// The same proposal with a name that refines its type.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The same proposal with a reason.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}
