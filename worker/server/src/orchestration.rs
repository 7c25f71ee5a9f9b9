//! What becomes of a proposed state: the rules of Prefect's flow run orchestration, without a database or a clock.
//!
//! Rules and their order were read in, and compared with, Prefect 3.8.8; `tests/transitions.rs` keeps what a real
//! server answered. Storing the decision, taking the slot and telling subscribers is left to [`crate::store`].

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use worker_api::types::{
    FlowRunId, OrchestrationDetails, OrchestrationStatus, ProposedState, State, StateDetails,
    StateId, StateType,
};

mod rules;

/// Everything a decision depends on, besides the two states.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// The time of the decision.
    pub(crate) now: Timestamp,
    /// The id a new state gets.
    pub(crate) state_id: StateId,
    /// The id a new lease gets.
    pub(crate) lease_id: Uuid,
    /// Whether the proposal asks to skip nearly all rules.
    pub(crate) force: bool,
    /// The flow run.
    pub(crate) flow_run_id: FlowRunId,
    /// Whether it was made from a deployment.
    pub(crate) has_deployment: bool,
    /// Whether something was recorded as its infrastructure.
    pub(crate) has_infrastructure: bool,
    /// The task run of the parent flow that stands for it, if it is a subflow.
    pub(crate) parent_task_run_id: Option<Uuid>,
    /// What is kept about the flow run as a whole.
    pub(crate) record: &'a Record,
    /// The slots of its deployment.
    pub(crate) slots: Slots,
}

/// What is kept about a flow run as a whole, beside its present state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// How many times it has entered RUNNING.
    pub(crate) run_count: u32,
    /// When it first entered RUNNING, or ended without having done so.
    pub(crate) start_time: Option<Timestamp>,
    /// When it entered the final state it is in.
    pub(crate) end_time: Option<Timestamp>,
    /// How long it has been in RUNNING, over all attempts.
    pub(crate) total_run_time: SignedDuration,
    /// When it was first meant to start.
    pub(crate) expected_start_time: Option<Timestamp>,
    /// When it is due, while it is SCHEDULED.
    pub(crate) next_scheduled_start_time: Option<Timestamp>,
    /// Retries and pauses.
    pub(crate) policy: RunPolicy,
}

/// Retries and pauses of a flow run; on the wire its `empirical_policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunPolicy {
    /// How many times a failed run is tried again.
    pub(crate) retries: Option<u32>,
    /// Seconds before it is.
    pub(crate) retry_delay: Option<f64>,
    /// The pauses that have been used up.
    pub(crate) pause_keys: BTreeSet<String>,
    /// Whether it is on its way out of a pause, so that it is not counted as another run.
    pub(crate) resuming: Option<bool>,
    /// `in_process` when the engine itself waits for the retry, `reschedule` when a worker has to take it.
    pub(crate) retry_type: Option<String>,
    /// Everything else, kept as it came.
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// How many flow runs of a deployment may be in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slots {
    /// As many as there are.
    Unlimited,
    /// The flow run names a deployment that is no more.
    DeploymentGone,
    /// So many.
    Limited(Limit),
}

/// A deployment's concurrency limit at the time of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How many slots there are.
    pub(crate) slots: u32,
    /// How many are taken by leases that have not run out.
    pub(crate) taken: u32,
    /// Whether a run that finds no slot is cancelled; otherwise it waits.
    pub(crate) cancel_new: bool,
    /// How long a lease lasts unless it is renewed.
    pub(crate) grace: SignedDuration,
    /// Whether the lease named by the present state has not run out.
    pub(crate) lease_alive: bool,
}

/// What becomes of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// A state is stored: the proposed one, or another in its place.
    Store(Box<Stored>),
    /// No state is stored.
    Keep {
        /// What the proposer is told.
        status: OrchestrationStatus,
        /// Why.
        details: OrchestrationDetails,
        /// What is kept of retries and pauses from now on, where a refusal changes that (3.8.8).
        policy: Option<Box<RunPolicy>>,
    },
}

/// A state to store, and what goes with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    /// The state.
    pub(crate) state: State,
    /// The flow run's record from now on.
    pub(crate) record: Record,
    /// What happens to its slot.
    pub(crate) slot: Slot,
    /// What the proposer is told.
    pub(crate) status: OrchestrationStatus,
    /// Why.
    pub(crate) details: OrchestrationDetails,
}

/// What happens to a flow run's slot of its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing.
    Unchanged,
    /// A lease of this id is made.
    Take {
        /// Its id.
        lease: Uuid,
        /// How long it lasts.
        grace: SignedDuration,
    },
    /// The lease of the flow run starts anew.
    Renew {
        /// How long it lasts.
        grace: SignedDuration,
    },
    /// The lease of the flow run ends.
    Free,
}

/// A proposal on its way through the rules.
struct Weighing<'a> {
    current: Option<&'a State>,
    draft: Draft,
    facts: &'a Facts<'a>,
    policy: RunPolicy,
    /// What the policy becomes once the state is stored, where the bookkeeping must still see the old one.
    policy_after: Option<RunPolicy>,
    slot: Slot,
}

/// A state that has no identity yet.
#[derive(Clone)]
struct Draft {
    kind: StateType,
    name: String,
    message: Option<String>,
    details: StateDetails,
    data: Option<Value>,
}

/// What a rule says.
enum Verdict {
    Pass,
    Replace(Box<Draft>, &'static str),
    Keep(OrchestrationStatus, OrchestrationDetails),
}

/// Decides what becomes of a proposed state.
pub(crate) fn decide(
    current: Option<&State>,
    proposed: &ProposedState,
    facts: &Facts<'_>,
) -> Decision {
    let mut weighing = Weighing {
        current,
        draft: Draft::new(proposed, facts.now),
        facts,
        policy: facts.record.policy.clone(),
        policy_after: None,
        slot: Slot::Unchanged,
    };
    let rules = if facts.force {
        rules::FORCED
    } else {
        weighing.keep_lease();
        rules::ALL
    };
    let mut status = OrchestrationStatus::Accept;
    let mut reason = None;
    for rule in rules {
        match rule(&mut weighing) {
            Verdict::Pass => {}
            Verdict::Keep(status, details) => {
                let policy = weighing.policy_after.map(Box::new);
                return Decision::Keep {
                    status,
                    details,
                    policy,
                };
            }
            Verdict::Replace(draft, why) => {
                // No later rule speaks about a state that a rule has put there.
                weighing.draft = *draft;
                status = OrchestrationStatus::Reject;
                reason = Some(why);
                break;
            }
        }
    }
    Decision::Store(Box::new(weighing.store(status, reason)))
}

// === impl Weighing ===

impl Weighing<'_> {
    fn from(&self) -> Option<&StateType> {
        self.current.map(|state| &state.kind)
    }

    /// Clients send no lease, or an explicit null; the one the run has is carried on (3.8.8).
    fn keep_lease(&mut self) {
        let kept = self
            .current
            .and_then(|state| state.state_details.deployment_concurrency_lease_id);
        let lease = &mut self.draft.details.deployment_concurrency_lease_id;
        *lease = lease.or(kept);
    }

    fn store(self, status: OrchestrationStatus, reason: Option<&str>) -> Stored {
        let Draft {
            kind,
            name,
            message,
            mut details,
            data,
        } = self.draft;
        details.flow_run_id = Some(self.facts.flow_run_id);
        if let Some(task_run_id) = self.facts.parent_task_run_id {
            details
                .other
                .insert("task_run_id".to_owned(), task_run_id.to_string().into());
        }
        let state = State {
            id: self.facts.state_id,
            kind,
            name: Some(name),
            timestamp: after(self.current, self.facts.now),
            message,
            state_details: details,
            data,
        };
        let mut record = self.facts.record.clone();
        record.policy = self.policy;
        record.enter(self.current, &state);
        if let Some(policy) = self.policy_after {
            record.policy = policy;
        }
        let slot = if leaves_slot(self.current, &state, status) {
            Slot::Free
        } else {
            self.slot
        };
        Stored {
            state,
            record,
            slot,
            status,
            details: details_of(status, reason),
        }
    }
}

// === impl Draft ===

impl Draft {
    fn new(proposed: &ProposedState, now: Timestamp) -> Self {
        let mut details = proposed.state_details.clone();
        // The reference client sends each field it knows; what is null says nothing.
        details.other.retain(|_, value| !value.is_null());
        if proposed.kind == StateType::Scheduled {
            details.scheduled_time = details.scheduled_time.or(Some(now));
        }
        Self {
            name: proposed
                .name
                .clone()
                .unwrap_or_else(|| proposed.kind.default_name()),
            kind: proposed.kind.clone(),
            message: proposed.message.clone(),
            details,
            data: proposed.data.clone().filter(|data| !data.is_null()),
        }
    }

    fn of(kind: StateType, message: Option<&str>) -> Self {
        Self {
            name: kind.default_name(),
            kind,
            message: message.map(str::to_owned),
            details: StateDetails::default(),
            data: None,
        }
    }
}

// === impl Record ===

impl Record {
    /// Keeps the books as a flow run enters a state.
    pub(crate) fn enter(&mut self, from: Option<&State>, to: &State) {
        let running = to.kind == StateType::Running;
        if running && self.start_time.is_none() {
            self.start_time = Some(to.timestamp);
        }
        if to.kind.is_final() {
            if self.end_time.is_none() {
                self.start_time = self.start_time.or(Some(to.timestamp));
                self.end_time = Some(to.timestamp);
            }
        } else {
            self.end_time = None;
        }
        if let Some(from) = from {
            if from.kind == StateType::Running {
                self.total_run_time += to.timestamp.duration_since(from.timestamp);
            }
            if from.kind == StateType::Scheduled {
                self.next_scheduled_start_time = None;
            }
        }
        if to.kind == StateType::Scheduled {
            self.next_scheduled_start_time = to.state_details.scheduled_time;
        }
        if self.expected_start_time.is_none() {
            self.expected_start_time = match to.kind {
                StateType::Scheduled => to.state_details.scheduled_time,
                _ => Some(to.timestamp),
            };
        }
        let resuming = self.policy.resuming == Some(true);
        if running && !resuming {
            self.run_count += 1;
        }
        if resuming && (running || to.kind.is_final()) {
            self.policy.resuming = Some(false);
        }
    }
}

/// Reason and delay as they go over the wire.
fn details_of(status: OrchestrationStatus, reason: Option<&str>) -> OrchestrationDetails {
    let kind = match status {
        OrchestrationStatus::Accept => "accept_details",
        OrchestrationStatus::Reject => "reject_details",
        OrchestrationStatus::Abort => "abort_details",
        OrchestrationStatus::Wait => "wait_details",
    };
    OrchestrationDetails {
        kind: Some(kind.to_owned()),
        reason: reason.map(str::to_owned),
        delay_seconds: None,
    }
}

/// The time of a new state: now, but never at or before the state it follows, so that states have one order.
fn after(current: Option<&State>, now: Timestamp) -> Timestamp {
    let step = SignedDuration::from_micros(1);
    match current {
        Some(state) if state.timestamp >= now => {
            state.timestamp.checked_add(step).unwrap_or(state.timestamp)
        }
        _ => now,
    }
}

/// Whether the slot ends with this transition. A retry that the engine itself waits for keeps it.
fn leaves_slot(from: Option<&State>, to: &State, status: OrchestrationStatus) -> bool {
    let holds = |kind: &StateType| {
        matches!(
            kind,
            StateType::Pending | StateType::Running | StateType::Cancelling
        )
    };
    let retries_in_process = status == OrchestrationStatus::Reject
        && to.kind == StateType::Scheduled
        && to.name.as_deref() == Some("AwaitingRetry");
    from.is_some_and(|from| holds(&from.kind)) && !holds(&to.kind) && !retries_in_process
}

#[cfg(test)]
mod tests;
