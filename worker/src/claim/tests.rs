//! Which answers make a flow run ours.

use super::*;

fn state(kind: StateType, transition: TransitionId) -> State {
    State {
        id: worker_api::types::StateId::random(),
        kind,
        name: None,
        timestamp: Timestamp::UNIX_EPOCH,
        message: None,
        state_details: worker_api::types::StateDetails {
            transition_id: Some(transition),
            ..Default::default()
        },
        data: None,
    }
}

#[test]
fn an_accepted_claim_is_ours() {
    let ours = TransitionId::random();
    let stored = state(StateType::Pending, ours);
    assert!(is_ours(OrchestrationStatus::Accept, Some(&stored), ours));
}

#[test]
fn the_rejection_of_a_repeated_claim_is_ours_when_the_stored_state_is_our_own() {
    let ours = TransitionId::random();
    let stored = state(StateType::Pending, ours);
    assert!(is_ours(OrchestrationStatus::Reject, Some(&stored), ours));
    assert!(!is_ours(
        OrchestrationStatus::Reject,
        Some(&stored),
        TransitionId::random()
    ));
}

#[test]
fn no_other_answer_is_ours() {
    let ours = TransitionId::random();
    let scheduled = state(StateType::Scheduled, ours);
    assert!(!is_ours(
        OrchestrationStatus::Reject,
        Some(&scheduled),
        ours
    ));
    assert!(!is_ours(
        OrchestrationStatus::Accept,
        Some(&scheduled),
        ours
    ));
    assert!(!is_ours(OrchestrationStatus::Abort, None, ours));
    assert!(!is_ours(OrchestrationStatus::Wait, None, ours));
}

#[test]
fn an_end_that_a_late_claim_has_come_over_is_found() {
    let (theirs, ours) = (TransitionId::random(), TransitionId::random());
    let scheduled = state(StateType::Scheduled, theirs);
    let pending = state(StateType::Pending, theirs);
    let completed = state(StateType::Completed, theirs);
    let claim = state(StateType::Pending, ours);
    let late = [
        scheduled.clone(),
        pending.clone(),
        completed.clone(),
        claim.clone(),
    ];
    assert_eq!(end_before(&late, ours), Some(&completed));
    // A flow run that is run again is scheduled again first.
    let again = [pending, completed, scheduled.clone(), claim.clone()];
    assert_eq!(end_before(&again, ours), None);
    assert_eq!(end_before(&[scheduled, claim], ours), None);
    assert_eq!(end_before(&late, TransitionId::random()), None);
}

#[test]
fn a_history_tells_how_often_a_flow_run_ran_since_its_last_claim() {
    use StateType::{Paused, Pending, Running, Scheduled};
    for (history, runs_since, claimed_before) in [
        (&[Scheduled][..], 0, false),
        (&[Scheduled, Pending, Pending, Running], 1, false),
        // A retry inside of the job.
        (&[Scheduled, Pending, Running, Scheduled, Running], 2, false),
        (
            &[Scheduled, Pending, Running, Scheduled, Pending, Pending],
            0,
            false,
        ),
        (
            &[Scheduled, Pending, Running, Scheduled, Pending, Running],
            1,
            false,
        ),
        // A word that came too late.
        (&[Scheduled, Pending, Running, Pending], 1, false),
        (
            &[Scheduled, Pending, StateType::Crashed, Scheduled, Pending],
            0,
            true,
        ),
        (
            &[
                Scheduled, Pending, Running, Paused, Scheduled, Pending, Running,
            ],
            0,
            false,
        ),
    ] {
        let states: Vec<State> = history
            .iter()
            .map(|kind| state(kind.clone(), TransitionId::random()))
            .collect();
        let last = last_in(&states);
        let seen = (last.runs_since, last.claimed_before);
        assert_eq!(seen, (runs_since, claimed_before), "{history:?}");
    }
    let claim = state(StateType::Pending, TransitionId::random());
    let submitting = state(
        StateType::Pending,
        submitting(claim.state_details.transition_id.unwrap()),
    );
    let last = last_in(&[claim.clone(), submitting]);
    assert_eq!(last.transition, claim.state_details.transition_id);
}
