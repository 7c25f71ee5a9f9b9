//! The rules row by row, as pure questions and answers.

use serde_json::json;
use worker_api::types::TransitionId;

use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// A state that was entered a minute ago, such as `PENDING Submitting`.
fn state(text: &str) -> State {
    let (kind, name) = split(text);
    State {
        id: StateId::random(),
        kind,
        name: Some(name),
        timestamp: at(-60),
        message: None,
        state_details: StateDetails::default(),
        data: None,
    }
}

fn propose(text: &str) -> ProposedState {
    let (kind, name) = split(text);
    ProposedState::new(kind).named(&name)
}

fn split(text: &str) -> (StateType, String) {
    let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
    let kind = StateType::from(kind.to_owned());
    let name = if name.is_empty() {
        kind.default_name()
    } else {
        name.to_owned()
    };
    (kind, name)
}

fn facts(record: &Record) -> Facts<'_> {
    Facts {
        now: now(),
        state_id: StateId::random(),
        lease_id: Uuid::from_u128(7),
        force: false,
        flow_run_id: FlowRunId::random(),
        has_deployment: true,
        has_infrastructure: true,
        parent_task_run_id: None,
        record,
        slots: Slots::Unlimited,
    }
}

/// The answer in a line: status, the state that is stored if one is, and the reason.
fn line(decision: &Decision) -> String {
    let (status, details, state) = match decision {
        Decision::Store(stored) => (stored.status, &stored.details, Some(&stored.state)),
        Decision::Keep {
            status, details, ..
        } => (*status, details, None),
    };
    let state = state.map_or_else(String::new, |state| {
        format!(" {} {}", state.kind, state.name.as_deref().unwrap_or("-"))
    });
    let reason = details
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{status:?}{state}{reason}")
}

fn ask(from: &str, to: &str, change: impl FnOnce(&mut Facts<'_>)) -> String {
    let record = Record::default();
    let mut facts = facts(&record);
    change(&mut facts);
    line(&decide(Some(&state(from)), &propose(to), &facts))
}

fn stored(decision: Decision) -> Stored {
    match decision {
        Decision::Store(stored) => *stored,
        Decision::Keep { .. } => panic!("nothing is stored: {}", line(&decision)),
    }
}

/// What is in which state, what is proposed, and the answer.
const TABLE: &[(&str, &str, &str)] = &[
    ("SCHEDULED", "PENDING", "Accept PENDING Pending"),
    (
        "PENDING",
        "PENDING",
        "Abort: This run is in a PENDING state and cannot transition to a PENDING state.",
    ),
    ("PENDING", "PENDING Submitting", "Accept PENDING Submitting"),
    (
        "PENDING Submitting",
        "PENDING Submitting",
        "Abort: This run is in a PENDING state and cannot transition to a PENDING state.",
    ),
    (
        "PENDING Submitting",
        "PENDING",
        "Abort: This run is in a PENDING state and cannot transition to a PENDING state.",
    ),
    (
        "PENDING Submitting",
        "PENDING InfrastructurePending",
        "Accept PENDING InfrastructurePending",
    ),
    (
        "RUNNING",
        "PENDING",
        "Abort: This run is in a RUNNING state and cannot transition to a PENDING state.",
    ),
    (
        "CANCELLED",
        "PENDING",
        "Abort: This run is in a CANCELLED state and cannot transition to a PENDING state.",
    ),
    ("COMPLETED", "PENDING", "Accept PENDING Pending"),
    ("FAILED", "PENDING", "Accept PENDING Pending"),
    ("CRASHED", "PENDING", "Accept PENDING Pending"),
    ("CRASHED", "COMPLETED", "Accept COMPLETED Completed"),
    (
        "COMPLETED",
        "CRASHED",
        "Abort: Run is already in terminal state COMPLETED.",
    ),
    (
        "FAILED",
        "CANCELLING",
        "Abort: Run is already in terminal state FAILED.",
    ),
    (
        "CANCELLED",
        "PAUSED",
        "Abort: Run is already in terminal state CANCELLED.",
    ),
    ("CANCELLING", "CANCELLED", "Accept CANCELLED Cancelled"),
    ("SCHEDULED", "CANCELLING", "Accept CANCELLING Cancelling"),
    ("SCHEDULED", "CRASHED", "Accept CRASHED Crashed"),
    ("PAUSED", "CRASHED", "Accept CRASHED Crashed"),
    ("PENDING", "CANCELLING", "Accept CANCELLING Cancelling"),
    (
        "RUNNING",
        "SCHEDULED AwaitingRetry",
        "Accept SCHEDULED AwaitingRetry",
    ),
    ("RUNNING", "RUNNING", "Accept RUNNING Running"),
    ("SCHEDULED", "SCHEDULED Late", "Accept SCHEDULED Late"),
    (
        "SCHEDULED Late",
        "SCHEDULED Late",
        "Reject: This flow run is already marked late.",
    ),
    (
        "PENDING",
        "SCHEDULED Late",
        "Reject: Only scheduled flows can be marked late.",
    ),
    (
        "PENDING",
        "PAUSED",
        "Reject: Cannot pause flows that are not currently running.",
    ),
];

#[test]
fn each_row_of_the_table_is_answered() {
    for (from, to, expected) in TABLE {
        assert_eq!(ask(from, to, |_| {}), *expected, "{from} -> {to}");
    }
}

#[test]
fn from_cancelling_there_is_one_way_out_unless_it_is_forced() {
    for to in [
        "PENDING",
        "RUNNING",
        "CRASHED",
        "COMPLETED",
        "SCHEDULED",
        "CANCELLING",
    ] {
        let refused =
            "Reject: Cannot transition flows that are cancelling to a state other than Cancelled.";
        assert_eq!(ask("CANCELLING", to, |_| {}), refused, "{to}");
    }
    let forced = ask("CANCELLING", "CRASHED", |facts| facts.force = true);
    assert_eq!(forced, "Accept CRASHED Crashed");
}

#[test]
fn without_infrastructure_there_is_nothing_to_cancel() {
    let expected =
        "Reject CANCELLED Cancelled: Scheduled flow run has no infrastructure to terminate.";
    for force in [false, true] {
        let found = ask("SCHEDULED", "CANCELLING", |facts| {
            facts.has_infrastructure = false;
            facts.force = force;
        });
        assert_eq!(found, expected);
    }
    assert_eq!(ask("SCHEDULED Resuming", "CANCELLING", |_| {}), expected);
}

#[test]
fn a_run_without_a_deployment_is_not_scheduled_again() {
    let found = ask("FAILED", "SCHEDULED", |facts| facts.has_deployment = false);
    assert_eq!(
        found,
        "Abort: Cannot reschedule a run without an associated deployment."
    );
    assert_eq!(
        ask("FAILED", "SCHEDULED", |_| {}),
        "Accept SCHEDULED Scheduled"
    );
}

#[test]
fn a_result_is_not_thrown_away() {
    let record = Record::default();
    let mut facts = facts(&record);
    let mut current = state("COMPLETED");
    current.data = Some(json!({ "type": "reference" }));
    let again = decide(Some(&current), &propose("PENDING"), &facts);
    assert_eq!(line(&again), "Reject: Run is already COMPLETED.");
    facts.force = true;
    let forced = decide(Some(&current), &propose("COMPLETED"), &facts);
    assert!(
        line(&forced).starts_with("Reject: Cannot overwrite"),
        "{}",
        line(&forced)
    );
    current.data = Some(json!({ "type": "unpersisted" }));
    facts.force = false;
    let again = decide(Some(&current), &propose("PENDING"), &facts);
    assert_eq!(line(&again), "Accept PENDING Pending");
}

#[test]
fn a_transition_that_was_made_is_not_made_again() {
    let record = Record::default();
    let facts = facts(&record);
    let mut current = state("PENDING");
    let proposed = propose("RUNNING");
    current.state_details.transition_id = proposed.state_details.transition_id;
    let found = decide(Some(&current), &proposed, &facts);
    assert_eq!(
        line(&found),
        "Reject: This run has already made this state transition."
    );
    current.state_details.transition_id = Some(TransitionId::random());
    assert_eq!(
        line(&decide(Some(&current), &proposed, &facts)),
        "Accept RUNNING Running"
    );
}

#[test]
fn a_claim_remembers_when_the_run_is_due_and_the_start_waits_for_it() {
    let record = Record::default();
    let facts = facts(&record);
    let mut current = state("SCHEDULED");
    current.state_details.scheduled_time = Some(at(30));
    let claimed = stored(decide(Some(&current), &propose("PENDING"), &facts)).state;
    assert_eq!(claimed.state_details.scheduled_time, Some(at(30)));
    let Decision::Keep {
        status, details, ..
    } = decide(Some(&claimed), &propose("RUNNING"), &facts)
    else {
        panic!("the run does not start");
    };
    assert_eq!(
        (status, details.delay_seconds),
        (OrchestrationStatus::Wait, Some(30.0))
    );
    let mut due = facts.clone();
    due.now = at(30);
    assert_eq!(
        line(&decide(Some(&claimed), &propose("RUNNING"), &due)),
        "Accept RUNNING Running"
    );
}

fn limit(slots: u32, taken: u32) -> Limit {
    Limit {
        slots,
        taken,
        cancel_new: false,
        grace: SignedDuration::from_secs(300),
        lease_alive: false,
    }
}

#[test]
fn a_claim_takes_a_slot_or_waits_for_one() {
    let record = Record::default();
    let mut facts = facts(&record);
    facts.slots = Slots::Limited(limit(2, 1));
    let claimed = stored(decide(
        Some(&state("SCHEDULED")),
        &propose("PENDING"),
        &facts,
    ));
    let lease = facts.lease_id;
    assert_eq!(
        claimed.slot,
        Slot::Take {
            lease,
            grace: SignedDuration::from_secs(300)
        }
    );
    assert_eq!(
        claimed.state.state_details.deployment_concurrency_lease_id,
        Some(lease)
    );
    facts.slots = Slots::Limited(limit(2, 2));
    let waits = stored(decide(
        Some(&state("SCHEDULED")),
        &propose("PENDING"),
        &facts,
    ));
    assert_eq!(waits.state.name.as_deref(), Some("AwaitingConcurrencySlot"));
    assert_eq!(waits.state.state_details.scheduled_time, Some(at(30)));
    assert_eq!(
        (waits.status, waits.slot),
        (OrchestrationStatus::Reject, Slot::Unchanged)
    );
}

#[test]
fn a_claim_without_a_slot_ends_as_the_deployment_says() {
    let reached = "Deployment concurrency limit reached.";
    let cases = [
        (Slots::Limited(Limit { cancel_new: true, ..limit(1, 1) }), format!("Reject CANCELLED Cancelled: {reached}")),
        (Slots::Limited(limit(1, 1)), format!("Reject SCHEDULED AwaitingConcurrencySlot: {reached}")),
        (Slots::DeploymentGone, "Abort: Deployment not found.".to_owned()),
        (
            Slots::Limited(limit(0, 0)),
            "Abort: The deployment concurrency limit is 0. The flow will deadlock if submitted again.".to_owned(),
        ),
    ];
    for (slots, expected) in cases {
        let found = ask("SCHEDULED", "PENDING", |facts| facts.slots = slots.clone());
        assert_eq!(found, expected, "{slots:?}");
    }
}

#[test]
fn a_slot_is_kept_renewed_taken_again_or_lost_when_the_run_starts() {
    let record = Record::default();
    let mut facts = facts(&record);
    let mut current = state("PENDING");
    current.state_details.deployment_concurrency_lease_id = Some(Uuid::from_u128(1));
    facts.slots = Slots::Limited(Limit {
        lease_alive: true,
        ..limit(1, 1)
    });
    let renewed = stored(decide(Some(&current), &propose("RUNNING"), &facts));
    assert_eq!(
        renewed.slot,
        Slot::Renew {
            grace: SignedDuration::from_secs(300)
        }
    );
    facts.slots = Slots::Limited(limit(1, 0));
    let taken = stored(decide(Some(&current), &propose("RUNNING"), &facts));
    assert_eq!(
        taken.state.state_details.deployment_concurrency_lease_id,
        Some(facts.lease_id)
    );
    facts.slots = Slots::Limited(limit(1, 1));
    let lost = decide(Some(&current), &propose("RUNNING"), &facts);
    assert_eq!(
        line(&lost),
        "Reject CANCELLED Cancelled: Deployment concurrency limit reached after lease expiry."
    );
    assert_eq!(stored(lost).slot, Slot::Free);
}

#[test]
fn the_slot_is_freed_by_leaving_but_not_by_a_retry_in_process() {
    let free = |from: &str, to: &str| {
        let record = Record::default();
        stored(decide(Some(&state(from)), &propose(to), &facts(&record))).slot == Slot::Free
    };
    assert!(free("RUNNING", "COMPLETED"));
    assert!(free("PENDING", "SCHEDULED AwaitingRetry"));
    assert!(free("CANCELLING", "CANCELLED"));
    assert!(free("RUNNING", "PAUSED"));
    assert!(!free("PENDING", "RUNNING"));
    assert!(!free("RUNNING", "CANCELLING"));
    assert!(!free("SCHEDULED", "CRASHED"));
    let record = retrying(1);
    let retry = stored(decide(
        Some(&state("RUNNING")),
        &propose("FAILED"),
        &facts(&record),
    ));
    assert_eq!(retry.slot, Slot::Unchanged);
}

fn retrying(run_count: u32) -> Record {
    Record {
        run_count,
        policy: RunPolicy {
            retries: Some(1),
            retry_delay: Some(5.0),
            ..RunPolicy::default()
        },
        ..Record::default()
    }
}

#[test]
fn a_failed_run_is_retried_until_its_retries_are_used_up() {
    let record = retrying(1);
    let retry = stored(decide(
        Some(&state("RUNNING")),
        &propose("FAILED"),
        &facts(&record),
    ));
    assert_eq!(retry.state.name.as_deref(), Some("AwaitingRetry"));
    assert_eq!(retry.state.state_details.scheduled_time, Some(at(5)));
    assert_eq!(retry.details.reason.as_deref(), Some("Retrying"));
    assert_eq!(
        retry.record.policy.retry_type.as_deref(),
        Some("in_process")
    );
    let record = retrying(2);
    let failed = stored(decide(
        Some(&state("RUNNING")),
        &propose("FAILED"),
        &facts(&record),
    ));
    assert_eq!(
        (failed.state.kind, failed.record.policy.retry_type),
        (StateType::Failed, None)
    );
}

#[test]
fn the_books_are_kept_over_a_whole_life() {
    let mut record = Record::default();
    let mut current: Option<State> = None;
    let mut step = |record: &mut Record, to: &str, seconds: i64| {
        let mut facts = facts(record);
        facts.now = at(seconds);
        facts.force = current.is_none();
        let stored = stored(decide(current.as_ref(), &propose(to), &facts));
        *record = stored.record;
        current = Some(stored.state);
    };
    step(&mut record, "SCHEDULED", 0);
    assert_eq!(
        (record.expected_start_time, record.next_scheduled_start_time),
        (Some(at(0)), Some(at(0)))
    );
    step(&mut record, "PENDING", 1);
    assert_eq!(record.next_scheduled_start_time, None);
    step(&mut record, "RUNNING", 2);
    assert_eq!(
        (record.run_count, record.start_time, record.end_time),
        (1, Some(at(2)), None)
    );
    step(&mut record, "FAILED", 12);
    assert_eq!(
        (record.end_time, record.total_run_time.as_secs()),
        (Some(at(12)), 10)
    );
    step(&mut record, "SCHEDULED", 20);
    assert_eq!(
        (record.end_time, record.policy.retry_type.as_deref()),
        (None, Some("reschedule"))
    );
    step(&mut record, "PENDING", 21);
    step(&mut record, "RUNNING", 22);
    step(&mut record, "COMPLETED", 27);
    assert_eq!(
        (
            record.run_count,
            record.start_time,
            record.total_run_time.as_secs()
        ),
        (2, Some(at(2)), 15)
    );
    assert_eq!(record.expected_start_time, Some(at(0)));
}

#[test]
fn a_run_that_never_ran_starts_and_ends_at_once() {
    let record = Record::default();
    let crashed = stored(decide(
        Some(&state("PENDING")),
        &propose("CRASHED"),
        &facts(&record),
    ))
    .record;
    assert_eq!(
        (crashed.start_time, crashed.end_time, crashed.run_count),
        (Some(now()), Some(now()), 0)
    );
}

#[test]
fn states_never_share_a_time() {
    let record = Record::default();
    let mut current = state("SCHEDULED");
    current.timestamp = at(10);
    let next = stored(decide(Some(&current), &propose("PENDING"), &facts(&record))).state;
    assert!(next.timestamp > current.timestamp);
}

#[test]
fn a_pause_fires_once_and_a_suspended_run_comes_back_through_a_worker() {
    let mut record = Record::default();
    let mut pause = propose("PAUSED Suspended");
    pause.state_details.other = [
        ("pause_key".to_owned(), json!("k")),
        ("pause_reschedule".to_owned(), json!(true)),
        ("pause_timeout".to_owned(), json!(at(60))),
        ("cache_key".to_owned(), json!(null)),
    ]
    .into_iter()
    .collect();
    let paused = stored(decide(Some(&state("RUNNING")), &pause, &facts(&record)));
    assert!(
        !paused.state.state_details.other.contains_key("cache_key"),
        "null says nothing"
    );
    record = paused.record;
    let again = decide(Some(&state("RUNNING")), &pause, &facts(&record));
    assert_eq!(line(&again), "Reject: This suspend has already fired.");
    let resumed = stored(decide(
        Some(&paused.state),
        &propose("SCHEDULED Resuming"),
        &facts(&record),
    ));
    assert_eq!(resumed.record.policy.resuming, Some(true));
    let mut late = facts(&record);
    late.now = at(61);
    let expired = decide(Some(&paused.state), &propose("SCHEDULED Resuming"), &late);
    assert!(
        line(&expired).starts_with("Reject FAILED Failed"),
        "{}",
        line(&expired)
    );
    let cancelled = decide(Some(&paused.state), &propose("CANCELLING"), &facts(&record));
    assert!(
        line(&cancelled).starts_with("Reject CANCELLED Cancelled"),
        "{}",
        line(&cancelled)
    );
}

#[test]
fn a_resumed_run_is_not_counted_twice() {
    let record = Record {
        run_count: 1,
        policy: RunPolicy {
            resuming: Some(true),
            ..RunPolicy::default()
        },
        ..Record::default()
    };
    let running = stored(decide(
        Some(&state("PENDING")),
        &propose("RUNNING"),
        &facts(&record),
    ))
    .record;
    assert_eq!(
        (running.run_count, running.policy.resuming),
        (1, Some(false))
    );
}
