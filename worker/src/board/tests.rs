use super::*;

use worker_api::types::TransitionId;
use worker_drivers::LogCursor;

use crate::journal::Reporter;

fn entry(step: Step) -> Entry {
    Entry {
        key: RunKey {
            flow_run: Uuid::from_u128(7),
            attempt: 2,
        },
        name: "quick-bison".to_owned(),
        transition: TransitionId(Uuid::from_u128(8)),
        step,
        reporter: Reporter::Engine,
        claimed: Timestamp::UNIX_EPOCH,
        handle: None,
        lease: None,
        workspace: None,
        told: None,
        trace: None,
        output: LogCursor::default(),
        shown: true,
    }
}

fn exited(code: i32) -> Step {
    Step::Over(End::Job {
        outcome: Outcome::Exited {
            code,
            reported: false,
        },
        tail: vec!["a secret".to_owned()],
        stopped: Stopped::No,
    })
}

#[test]
fn a_flow_run_is_shown_from_its_first_step_to_its_end() {
    let board = Board::default();
    board.moved(&entry(Step::Claimed));
    let id = Uuid::from_u128(7);
    assert_eq!(board.read().held[&id].phase, "preparing");
    board.moved(&entry(Step::Submitted));
    let waits = Phase::Pending(Some("pulling image 'flows:1'".to_owned()));
    board.observed(entry(Step::Submitted).key, &waits);
    let held = board.read().held[&id].clone();
    assert_eq!(
        (held.phase, held.reason.as_deref()),
        ("pending", Some("pulling image 'flows:1'"))
    );
    board.observed(entry(Step::Submitted).key, &Phase::Running);
    assert_eq!(board.read().held[&id].phase, "running");
    board.left(&entry(exited(3)));
    let lines = board.read();
    assert!(lines.held.is_empty());
    assert_eq!(lines.ended[0].how, "exit code 3");
}

#[test]
fn ends_are_kept_up_to_a_page_the_latest_first() {
    let board = Board::default();
    for code in 0..30 {
        board.left(&entry(exited(code)));
    }
    let ended = board.read().ended;
    assert_eq!(ended.len(), ENDS);
    assert_eq!(ended[0].how, "exit code 29");
}

#[test]
fn what_was_not_ours_leaves_no_end() {
    let board = Board::default();
    board.moved(&entry(Step::Claiming));
    board.left(&entry(Step::Claiming));
    let lines = board.read();
    assert!(lines.held.is_empty() && lines.ended.is_empty());
}
