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
