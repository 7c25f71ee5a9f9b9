//! The rules, one function each, in the order they are asked.
//!
//! A rule lets a proposal pass, perhaps changed, or answers in its place. The first answer stands.

use jiff::SignedDuration;
use serde_json::Value;
use worker_api::types::{OrchestrationStatus, State, StateType};

use super::{Draft, Slot, Slots, Verdict, Weighing, details_of};

type Rule = fn(&mut Weighing<'_>) -> Verdict;

/// How long a run without a slot waits before it is handed out again (3.8.8).
const SLOT_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// The rules of an ordinary proposal.
pub(super) const ALL: &[Rule] = &[
    refuse_repetition,
    guard_final,
    hold_cancelling,
    cancel_without_infrastructure,
    refuse_second_claim,
    validate_slot,
    take_slot,
    mark_late_once,
    pause,
    leave_pause,
    copy_scheduled_time,
    wait_for_scheduled_time,
    retry_failed,
];

/// The rules of a forced proposal.
pub(super) const FORCED: &[Rule] = &[keep_result, cancel_without_infrastructure];

/// A retry of a request whose answer was lost is recognised by its transition id.
fn refuse_repetition(weighing: &mut Weighing<'_>) -> Verdict {
    let made = weighing
        .current
        .and_then(|state| state.state_details.transition_id);
    if made.is_some() && made == weighing.draft.details.transition_id {
        return reject("This run has already made this state transition.");
    }
    Verdict::Pass
}

/// What may follow a final state.
fn guard_final(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current.filter(|state| state.kind.is_final()) else {
        return Verdict::Pass;
    };
    let to = &weighing.draft.kind;
    if matches!(
        to,
        StateType::Cancelling | StateType::Paused | StateType::Crashed
    ) {
        return abort(format!(
            "Run is already in terminal state {}.",
            current.kind
        ));
    }
    let has_result = current.kind == StateType::Completed && is_persisted(current.data.as_ref());
    if has_result && !to.is_final() {
        return reject("Run is already COMPLETED.");
    }
    if has_result && *to == StateType::Completed && !is_persisted(weighing.draft.data.as_ref()) {
        return reject(
            "Cannot overwrite a COMPLETED state that carries persisted result data with one that does not.",
        );
    }
    if *to == StateType::Scheduled && !weighing.facts.has_deployment {
        return abort("Cannot reschedule a run without an associated deployment.");
    }
    if !to.is_final() {
        let reschedule = *to == StateType::Scheduled;
        weighing.policy.resuming = Some(false);
        weighing.policy.pause_keys.clear();
        weighing.policy.retry_type = reschedule.then(|| "reschedule".to_owned());
    }
    Verdict::Pass
}

/// From CANCELLING there is one way out.
fn hold_cancelling(weighing: &mut Weighing<'_>) -> Verdict {
    if weighing.from() == Some(&StateType::Cancelling)
        && weighing.draft.kind != StateType::Cancelled
    {
        return reject(
            "Cannot transition flows that are cancelling to a state other than Cancelled.",
        );
    }
    Verdict::Pass
}

/// Where nothing runs there is nothing to stop, so that CANCELLING becomes CANCELLED at once.
fn cancel_without_infrastructure(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current else {
        return Verdict::Pass;
    };
    if weighing.draft.kind != StateType::Cancelling {
        return Verdict::Pass;
    }
    let resuming = current.name.as_deref() == Some("Resuming");
    let reason = match current.kind {
        StateType::Scheduled if !weighing.facts.has_infrastructure || resuming => {
            "Scheduled flow run has no infrastructure to terminate."
        }
        StateType::Paused if flag(current, "pause_reschedule") => {
            "Suspended flow run has no infrastructure to terminate."
        }
        _ => return Verdict::Pass,
    };
    replace(Draft::of(StateType::Cancelled, None), reason)
}

/// Of two workers that claim one run, the second is told so. PENDING may only move on to another name.
fn refuse_second_claim(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current else {
        return Verdict::Pass;
    };
    let taken = matches!(
        current.kind,
        StateType::Pending | StateType::Running | StateType::Cancelled
    );
    if weighing.draft.kind != StateType::Pending || !taken {
        return Verdict::Pass;
    }
    let moves_on = current.kind == StateType::Pending
        && current.name.as_deref() != Some(weighing.draft.name.as_str())
        && weighing.draft.name != "Pending";
    if !moves_on {
        return abort(format!(
            "This run is in a {} state and cannot transition to a PENDING state.",
            current.kind
        ));
    }
    let details = &current.state_details;
    weighing.draft.details.scheduled_time = details.scheduled_time;
    weighing.draft.details.deployment_concurrency_lease_id =
        details.deployment_concurrency_lease_id;
    Verdict::Pass
}

/// A run that took long to start may have lost its slot; it gets one again, or is cancelled.
fn validate_slot(weighing: &mut Weighing<'_>) -> Verdict {
    if weighing.from() != Some(&StateType::Pending) || weighing.draft.kind != StateType::Running {
        return Verdict::Pass;
    }
    let lease = weighing
        .current
        .and_then(|state| state.state_details.deployment_concurrency_lease_id);
    weighing.draft.details.deployment_concurrency_lease_id = lease;
    let (Some(_), Slots::Limited(limit)) = (lease, &weighing.facts.slots) else {
        return Verdict::Pass;
    };
    if limit.lease_alive {
        weighing.slot = Slot::Renew { grace: limit.grace };
    } else if limit.taken < limit.slots {
        take(weighing, limit.grace);
    } else {
        return replace(
            Draft::of(
                StateType::Cancelled,
                Some(
                    "Deployment concurrency slot lost during provisioning - no slots available to continue execution",
                ),
            ),
            "Deployment concurrency limit reached after lease expiry.",
        );
    }
    Verdict::Pass
}

/// A claim takes one of the deployment's slots.
fn take_slot(weighing: &mut Weighing<'_>) -> Verdict {
    let holds_one = matches!(
        weighing.from(),
        Some(StateType::Pending | StateType::Running | StateType::Cancelling)
    );
    if weighing.draft.kind != StateType::Pending || holds_one {
        return Verdict::Pass;
    }
    let limit = match &weighing.facts.slots {
        Slots::Unlimited => return Verdict::Pass,
        Slots::DeploymentGone => return abort("Deployment not found."),
        Slots::Limited(limit) => limit,
    };
    if limit.slots == 0 {
        return abort(
            "The deployment concurrency limit is 0. The flow will deadlock if submitted again.",
        );
    }
    if limit.taken < limit.slots {
        take(weighing, limit.grace);
        return Verdict::Pass;
    }
    let reason = "Deployment concurrency limit reached.";
    // What an earlier rule changed belonged to a transition that does not happen.
    weighing.policy = weighing.facts.record.policy.clone();
    if limit.cancel_new {
        return replace(Draft::of(StateType::Cancelled, Some(reason)), reason);
    }
    let mut wait = Draft::of(StateType::Scheduled, None);
    "AwaitingConcurrencySlot".clone_into(&mut wait.name);
    wait.details.scheduled_time = weighing.facts.now.checked_add(SLOT_WAIT).ok();
    replace(wait, reason)
}

/// Only what is scheduled can be late, and only once.
fn mark_late_once(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current else {
        return Verdict::Pass;
    };
    if weighing.draft.kind != StateType::Scheduled || weighing.draft.name != "Late" {
        return Verdict::Pass;
    }
    if current.kind != StateType::Scheduled {
        return reject("Only scheduled flows can be marked late.");
    }
    if current.name.as_deref() == Some("Late") {
        return reject("This flow run is already marked late.");
    }
    Verdict::Pass
}

/// Only what runs can be paused, and each pause only once.
fn pause(weighing: &mut Weighing<'_>) -> Verdict {
    if weighing.draft.kind != StateType::Paused {
        return Verdict::Pass;
    }
    let suspends = weighing.draft.name == "Suspended";
    let verb = if suspends { "suspend" } else { "pause" };
    let Some(current) = weighing.current else {
        return abort(format!("Cannot {verb} flows with no state."));
    };
    if current.kind != StateType::Running {
        return reject(format!(
            "Cannot {verb} flows that are not currently running."
        ));
    }
    let details = &weighing.draft.details.other;
    let key = match details.get("pause_key").and_then(Value::as_str) {
        Some(key) => key.to_owned(),
        // A pause without a name is like no other.
        None => weighing.facts.state_id.to_string(),
    };
    if weighing.policy.pause_keys.contains(&key) {
        return reject(format!("This {verb} has already fired."));
    }
    if details.get("pause_reschedule") == Some(&Value::Bool(true)) {
        if weighing.facts.parent_task_run_id.is_some() {
            return abort(format!("Cannot {verb} subflows."));
        }
        if !weighing.facts.has_deployment {
            return abort(format!("Cannot {verb} flows without a deployment."));
        }
    }
    weighing.policy.pause_keys.insert(key);
    Verdict::Pass
}

/// What may follow a pause.
fn leave_pause(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing
        .current
        .filter(|state| state.kind == StateType::Paused)
    else {
        return Verdict::Pass;
    };
    // Whoever tries to leave is noted as on the way out, even when it is refused (3.8.8).
    let mut policy = weighing.policy.clone();
    policy.resuming = Some(true);
    weighing.policy_after = Some(policy);
    let to = &weighing.draft.kind;
    if !(to.is_final()
        || matches!(
            to,
            StateType::Running | StateType::Scheduled | StateType::Cancelling
        ))
    {
        return reject(format!(
            "This run cannot transition to the StateType.{to} state from the StateType.{} state.",
            current.kind
        ));
    }
    let name = weighing.draft.name.to_lowercase();
    if flag(current, "pause_reschedule") && !weighing.facts.has_deployment {
        return reject(format!(
            "Cannot reschedule a {name} flow run without a deployment."
        ));
    }
    let deadline = current
        .state_details
        .other
        .get("pause_timeout")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    if *to != StateType::Cancelling && deadline.is_some_and(|time| time < weighing.facts.now) {
        return replace(
            Draft::of(
                StateType::Failed,
                Some(&format!("The flow was {name} and never resumed.")),
            ),
            "The flow run pause has timed out and can no longer resume.",
        );
    }
    Verdict::Pass
}

/// A claimed run remembers when it was due, so that it does not start before.
fn copy_scheduled_time(weighing: &mut Weighing<'_>) -> Verdict {
    if let Some(current) = weighing.current
        && current.kind == StateType::Scheduled
        && weighing.draft.kind == StateType::Pending
    {
        let time = &mut weighing.draft.details.scheduled_time;
        *time = time.or(current.state_details.scheduled_time);
    }
    Verdict::Pass
}

/// A run that was claimed early starts when it is due.
fn wait_for_scheduled_time(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current else {
        return Verdict::Pass;
    };
    let waits = matches!(current.kind, StateType::Scheduled | StateType::Pending);
    let (true, StateType::Running, Some(due)) = (
        waits,
        &weighing.draft.kind,
        current.state_details.scheduled_time,
    ) else {
        return Verdict::Pass;
    };
    let delay = due.duration_since(weighing.facts.now).as_secs_f64().round();
    if delay <= 0.0 {
        return Verdict::Pass;
    }
    let mut details = details_of(
        OrchestrationStatus::Wait,
        Some("Scheduled time is in the future"),
    );
    details.delay_seconds = Some(delay);
    Verdict::Keep(OrchestrationStatus::Wait, details)
}

/// A failed run with retries left waits for the next attempt.
fn retry_failed(weighing: &mut Weighing<'_>) -> Verdict {
    let Some(current) = weighing.current else {
        return Verdict::Pass;
    };
    if current.kind != StateType::Running || weighing.draft.kind != StateType::Failed {
        return Verdict::Pass;
    }
    let retries = weighing.policy.retries;
    if retries.is_none_or(|retries| weighing.facts.record.run_count > retries) {
        weighing.policy.retry_type = None;
        return Verdict::Pass;
    }
    weighing.policy.resuming = Some(false);
    weighing.policy.pause_keys.clear();
    weighing.policy.retry_type = Some("in_process".to_owned());
    let delay = weighing.policy.retry_delay.unwrap_or(0.0);
    let delay = SignedDuration::try_from_secs_f64(delay).unwrap_or_default();
    let mut retry = Draft::of(StateType::Scheduled, weighing.draft.message.as_deref());
    "AwaitingRetry".clone_into(&mut retry.name);
    retry.data.clone_from(&weighing.draft.data);
    retry.details.scheduled_time = weighing.facts.now.checked_add(delay).ok();
    retry.details.deployment_concurrency_lease_id =
        current.state_details.deployment_concurrency_lease_id;
    replace(retry, "Retrying")
}

/// Even a forced proposal does not throw a result away (3.8.8).
fn keep_result(weighing: &mut Weighing<'_>) -> Verdict {
    let loses = weighing.current.is_some_and(|state| {
        state.kind == StateType::Completed && is_persisted(state.data.as_ref())
    });
    if loses
        && weighing.draft.kind == StateType::Completed
        && !is_persisted(weighing.draft.data.as_ref())
    {
        return reject(
            "Cannot overwrite a COMPLETED state that carries persisted result data with one that does not.",
        );
    }
    Verdict::Pass
}

fn take(weighing: &mut Weighing<'_>, grace: SignedDuration) {
    let lease = weighing.facts.lease_id;
    weighing.draft.details.deployment_concurrency_lease_id = Some(lease);
    weighing.slot = Slot::Take { lease, grace };
}

fn replace(draft: Draft, reason: &'static str) -> Verdict {
    Verdict::Replace(Box::new(draft), reason)
}

fn reject(reason: impl AsRef<str>) -> Verdict {
    let status = OrchestrationStatus::Reject;
    Verdict::Keep(status, details_of(status, Some(reason.as_ref())))
}

fn abort(reason: impl AsRef<str>) -> Verdict {
    let status = OrchestrationStatus::Abort;
    Verdict::Keep(status, details_of(status, Some(reason.as_ref())))
}

fn flag(state: &State, name: &str) -> bool {
    state.state_details.other.get(name) == Some(&Value::Bool(true))
}

/// Whether a state's data refers to a result that somebody can still read.
fn is_persisted(data: Option<&Value>) -> bool {
    data.and_then(Value::as_object).is_some_and(|data| {
        !data.is_empty() && data.get("type").and_then(Value::as_str) != Some("unpersisted")
    })
}
