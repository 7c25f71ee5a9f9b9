//! What an end means for a flow run.

use serde_json::json;

use super::*;

const COMMAND: Reporter = Reporter::Worker { failed: false };

fn verdict(reporter: Reporter, end: &End, flow_run: &FlowRun) -> Verdict {
    super::verdict(DriverKind::Process, reporter, end, flow_run)
}

fn flow_run(state: &str) -> FlowRun {
    let id = uuid::Uuid::nil();
    serde_json::from_value(json!({"id": id, "name": "run", "flow_id": id, "state_type": state}))
        .expect("a flow run")
}

fn job(outcome: Outcome) -> End {
    End::Job {
        outcome,
        tail: vec!["first".to_owned(), "last words".to_owned(), " ".to_owned()],
        stopped: Stopped::No,
    }
}

fn exited(code: i32) -> End {
    job(Outcome::Exited {
        code,
        reported: false,
    })
}

fn proposed(verdict: Verdict) -> (StateType, String) {
    match verdict {
        Verdict::Propose(state) => (state.kind, state.message.unwrap_or_default()),
        other => panic!("not proposed: {other:?}"),
    }
}

#[test]
fn a_final_state_is_never_touched() {
    for state in ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"] {
        for end in [exited(0), exited(3), End::NotStarted(NotStarted::Cancelled)] {
            for reporter in [Reporter::Engine, COMMAND] {
                assert_eq!(verdict(reporter, &end, &flow_run(state)), Verdict::Leave);
            }
        }
    }
}

#[test]
fn a_plain_command_completes_on_exit_0_and_crashes_on_any_other_with_its_last_words() {
    let (kind, _) = proposed(verdict(COMMAND, &exited(0), &flow_run("RUNNING")));
    assert_eq!(kind, StateType::Completed);
    let (kind, message) = proposed(verdict(COMMAND, &exited(3), &flow_run("RUNNING")));
    assert_eq!(kind, StateType::Crashed);
    assert_eq!(
        message,
        "Process exited with status code: 3. Last output: last words"
    );
}

#[test]
fn a_pool_may_ask_for_failed_instead_but_a_signal_stays_a_crash() {
    let asked = Reporter::Worker { failed: true };
    let (kind, _) = proposed(verdict(asked, &exited(3), &flow_run("RUNNING")));
    assert_eq!(kind, StateType::Failed);
    let killed = job(Outcome::Signalled {
        signal: 9,
        by_us: false,
    });
    let (kind, message) = proposed(verdict(asked, &killed, &flow_run("RUNNING")));
    assert_eq!(kind, StateType::Crashed);
    assert!(
        message.starts_with("Process exited with status code: -9. It was ended by SIGKILL"),
        "{message}"
    );
}

#[test]
fn an_engine_that_left_without_a_word_did_not_succeed() {
    let (kind, message) = proposed(verdict(Reporter::Engine, &exited(0), &flow_run("PENDING")));
    assert_eq!(kind, StateType::Crashed);
    assert!(message.contains("left in state PENDING"), "{message}");
}

#[test]
fn a_suspended_or_rescheduled_flow_run_is_left_alone() {
    for state in ["PAUSED", "SCHEDULED"] {
        assert_eq!(
            verdict(Reporter::Engine, &exited(0), &flow_run(state)),
            Verdict::Leave
        );
    }
}

#[test]
fn a_cancelling_flow_run_becomes_cancelled_and_nothing_else() {
    for end in [
        exited(0),
        exited(1),
        End::NotStarted(NotStarted::Failed("no".to_owned())),
    ] {
        let (kind, _) = proposed(verdict(Reporter::Engine, &end, &flow_run("CANCELLING")));
        assert_eq!(kind, StateType::Cancelled);
    }
}

#[test]
fn what_never_started_says_why_and_what_was_given_back_is_due_again() {
    let failed = End::NotStarted(NotStarted::Failed("program x not found".to_owned()));
    let (kind, message) = proposed(verdict(COMMAND, &failed, &flow_run("PENDING")));
    assert_eq!(kind, StateType::Crashed);
    assert_eq!(
        message,
        "Failed to submit flow run to infrastructure: program x not found"
    );
    let back = End::NotStarted(NotStarted::PutBack(
        "the worker was told to stop".to_owned(),
    ));
    let (kind, _) = proposed(verdict(COMMAND, &back, &flow_run("PENDING")));
    assert_eq!(kind, StateType::Scheduled);
}

#[test]
fn running_out_of_memory_is_named_with_its_limit() {
    let end = job(Outcome::OutOfMemory {
        limit: Some(64 << 20),
    });
    let (_, message) = proposed(verdict(COMMAND, &end, &flow_run("RUNNING")));
    assert!(
        message.contains("OOM") && message.contains("64 MiB"),
        "{message}"
    );
}

#[test]
fn a_confirmed_report_needs_no_other() {
    let told = job(Outcome::Exited {
        code: 0,
        reported: true,
    });
    assert!(is_told(&told));
    assert!(!is_told(&exited(0)));
    let cancelled = End::Job {
        outcome: Outcome::Exited {
            code: 0,
            reported: true,
        },
        tail: vec![],
        stopped: Stopped::Cancelled,
    };
    assert!(
        !is_told(&cancelled),
        "what was cancelled is looked at again"
    );
}

#[test]
fn a_container_is_spoken_of_in_the_words_of_its_reference() {
    let said = |outcome| {
        let end = job(outcome);
        let verdict = super::verdict(
            DriverKind::Docker,
            Reporter::Engine,
            &end,
            &flow_run("RUNNING"),
        );
        proposed(verdict).1
    };
    let exited = said(Outcome::Exited {
        code: 3,
        reported: false,
    });
    assert_eq!(
        exited,
        "Flow run infrastructure exited with non-zero status code 3. Last output: last words"
    );
    let killed = said(Outcome::Signalled {
        signal: 9,
        by_us: false,
    });
    assert!(
        killed.starts_with(
            "Flow run infrastructure exited with non-zero status code 137. It was ended by SIGKILL"
        ),
        "{killed}"
    );
}

#[test]
fn a_python_without_prefect_is_told_of_with_what_to_do() {
    let said = |kind, last: &str| {
        let end = End::Job {
            outcome: Outcome::Exited {
                code: 1,
                reported: false,
            },
            tail: vec![last.to_owned(), String::new()],
            stopped: Stopped::No,
        };
        proposed(super::verdict(
            kind,
            Reporter::Engine,
            &end,
            &flow_run("PENDING"),
        ))
        .1
    };
    for last in [
        "ModuleNotFoundError: No module named 'prefect'",
        "/usr/bin/python3: Error while finding module specification for 'prefect.engine' (ModuleNotFoundError: No module named 'prefect')",
        "/usr/bin/python3: No module named prefect",
    ] {
        let process = said(DriverKind::Process, last);
        assert!(
            process.contains(last) && process.contains("or give --python;"),
            "{process}"
        );
        let container = said(DriverKind::Docker, last);
        assert!(
            container.contains("give the job variable image one that has it"),
            "{container}"
        );
    }
    for last in [
        "ModuleNotFoundError: No module named 'prefect_aws'",
        "ModuleNotFoundError: No module named 'pandas'",
    ] {
        let other = said(DriverKind::Process, last);
        assert!(other.ends_with(last), "{other}");
    }
}
