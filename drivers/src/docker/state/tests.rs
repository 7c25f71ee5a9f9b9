use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};

use super::{Circumstances, Outage, phase, removed};
use crate::job::{Outcome, Phase};

const STARTED: &str = "2026-11-21T15:30:13.1Z";

fn container(state: &Value) -> ContainerInspectResponse {
    serde_json::from_value(json!({
        "State": state,
        "HostConfig": {"Memory": 64 << 20},
    }))
    .unwrap()
}

fn ended(code: i64, oom: bool) -> Phase {
    let state = json!({"Status": "exited", "Running": false, "ExitCode": code, "OOMKilled": oom, "StartedAt": STARTED});
    phase(&container(&state), Circumstances::default())
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let exited = |code| {
        Phase::Exited(Outcome::Exited {
            code,
            reported: false,
        })
    };
    assert_eq!(ended(0, false), exited(0));
    assert_eq!(ended(3, false), exited(3));
    assert_eq!(ended(128, false), exited(128));
    assert_eq!(ended(255, false), exited(255));
    let signalled = Outcome::Signalled {
        signal: 9,
        by_us: false,
    };
    assert_eq!(ended(137, false), Phase::Exited(signalled));
}

#[test]
fn a_kill_for_memory_counts_if_it_ended_the_job() {
    let out = Outcome::OutOfMemory {
        limit: Some(64 << 20),
    };
    assert_eq!(ended(137, true), Phase::Exited(out));
    let exited = Outcome::Exited {
        code: 0,
        reported: false,
    };
    assert_eq!(ended(0, true), Phase::Exited(exited));
}

#[test]
fn what_was_made_only_is_pending_with_what_the_engine_said() {
    let state = json!({"Status": "created", "Running": false, "Error": "no such network", "StartedAt": "0001-01-01T00:00:00Z"});
    let pending = Phase::Pending(Some("no such network".to_owned()));
    assert_eq!(phase(&container(&state), Circumstances::default()), pending);
}

#[test]
fn what_is_paused_has_not_ended() {
    for status in ["running", "paused", "restarting"] {
        let state = json!({"Status": status, "Running": true, "StartedAt": STARTED});
        assert_eq!(
            phase(&container(&state), Circumstances::default()),
            Phase::Running,
            "{status}"
        );
    }
}

#[test]
fn a_removal_before_the_start_is_no_exit() {
    let state = json!({"Status": "removing", "Running": false, "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"});
    let phase = phase(&container(&state), Circumstances::default());
    assert!(
        matches!(phase, Phase::Exited(Outcome::NeverStarted { .. })),
        "{phase:?}"
    );
}

#[test]
fn a_container_that_is_taken_away_while_it_runs_was_not_just_killed() {
    let state =
        json!({"Status": "removing", "Running": false, "ExitCode": 137, "StartedAt": STARTED});
    let known = Circumstances::default();
    assert_eq!(phase(&container(&state), known), Phase::Exited(removed()));
    let by_us = Circumstances {
        by_us: true,
        outage: None,
    };
    let signalled = Outcome::Signalled {
        signal: 9,
        by_us: true,
    };
    assert_eq!(phase(&container(&state), by_us), Phase::Exited(signalled));
    let over = json!({"Status": "removing", "Running": false, "ExitCode": 3, "StartedAt": STARTED});
    let exited = Outcome::Exited {
        code: 3,
        reported: false,
    };
    assert_eq!(phase(&container(&over), known), Phase::Exited(exited));
}

#[test]
fn a_signal_while_the_engine_was_away_is_told_as_the_engines() {
    let at = |text: &str| text.parse().unwrap();
    let known = Circumstances {
        by_us: false,
        outage: Some(Outage {
            from: at("2026-11-21T15:40:00Z"),
            to: Some(at("2026-11-21T15:41:00Z")),
        }),
    };
    let ended = |finished: &str, code: i32| {
        let state = json!({"Status": "exited", "Running": false, "ExitCode": code, "StartedAt": STARTED, "FinishedAt": finished});
        phase(&container(&state), known)
    };
    let Phase::Exited(Outcome::Lost { reason }) = ended("2026-11-21T15:40:30.5Z", 143) else {
        panic!("it was in the outage");
    };
    assert!(
        reason.contains("143") && reason.contains("restarted"),
        "{reason}"
    );
    assert!(matches!(
        ended("2026-11-21T15:42:00Z", 143),
        Phase::Exited(Outcome::Signalled { signal: 15, .. })
    ));
    assert!(matches!(
        ended("2026-11-21T15:40:30Z", 3),
        Phase::Exited(Outcome::Exited { code: 3, .. })
    ));
}
