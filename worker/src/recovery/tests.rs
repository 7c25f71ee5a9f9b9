use serde_json::json;
use worker_config::DriverKind;

use super::*;

fn flow_run(job_variables: &Value) -> FlowRun {
    let id = uuid::Uuid::new_v4();
    serde_json::from_value(json!({
        "id": id, "name": "quiet-owl", "flow_id": id, "job_variables": job_variables,
    }))
    .unwrap()
}

fn deployment(entrypoint: Option<&str>, job_variables: &Value) -> Deployment {
    let id = uuid::Uuid::new_v4();
    serde_json::from_value(json!({
        "id": id, "name": "nightly", "flow_id": id, "entrypoint": entrypoint, "job_variables": job_variables,
    }))
    .unwrap()
}

#[test]
fn a_job_that_was_left_is_a_plain_command_or_not_as_it_was_written() {
    let nothing = json!({});
    let plain = json!({"plain_command": true});
    let failing = json!({"plain_command": true, "exit_state": "failed"});
    let by_default = json!({"variables": {"properties": {"plain_command": {"default": true}}}});
    let engine = Reporter::Engine;
    let worker = |failed| Reporter::Worker { failed };
    for (of_flow_run, entrypoint, of_deployment, template, wanted) in [
        (&nothing, Some("flow.py:main"), &nothing, &nothing, engine),
        (&nothing, None, &nothing, &nothing, worker(false)),
        (
            &nothing,
            Some("flow.py:main"),
            &plain,
            &nothing,
            worker(false),
        ),
        (
            &failing,
            Some("flow.py:main"),
            &plain,
            &nothing,
            worker(true),
        ),
        (
            &json!({"plain_command": false}),
            Some("flow.py:main"),
            &plain,
            &nothing,
            engine,
        ),
        (
            &nothing,
            Some("flow.py:main"),
            &nothing,
            &by_default,
            worker(false),
        ),
    ] {
        let flow_run = flow_run(of_flow_run);
        let deployment = deployment(entrypoint, of_deployment);
        assert_eq!(
            manner(&flow_run, Some(&deployment), template),
            (wanted, wanted != engine),
            "{of_flow_run} {entrypoint:?} {of_deployment} {template}"
        );
    }
}

#[test]
fn a_flow_run_without_a_deployment_is_a_plain_command() {
    let flow_run = flow_run(&Value::Null);
    let wanted = Reporter::Worker { failed: false };
    assert_eq!(manner(&flow_run, None, &Value::Null), (wanted, true));
}

#[test]
fn output_that_was_turned_off_stays_off() {
    let flow_run = flow_run(&json!({"stream_output": false}));
    let deployment = deployment(None, &json!({"stream_output": true}));
    let (_, shown) = manner(&flow_run, Some(&deployment), &Value::Null);
    assert!(!shown);
}

fn ended(attempt: u32) -> Owned {
    Owned {
        handle: Handle {
            kind: DriverKind::Docker,
            version: 1,
            key: RunKey {
                flow_run: uuid::Uuid::nil(),
                attempt,
            },
            infrastructure_id: format!("box {attempt}"),
            state: json!({}),
        },
        phase: Phase::Exited(worker_drivers::Outcome::Exited {
            code: 1,
            reported: false,
        }),
    }
}

/// A flow run that has run so often, and names the first attempt's job, of this worker or of another.
fn run_of(worker: &str, run_count: u32) -> FlowRun {
    let id = uuid::Uuid::nil();
    serde_json::from_value(json!({
        "id": id, "name": "quiet-owl", "flow_id": id, "run_count": run_count,
        "infrastructure_pid": "box 1", "labels": {"prefect.worker.name": worker},
    }))
    .unwrap()
}

fn since(runs_since: u32) -> Last {
    Last {
        transition: None,
        runs_since,
        claimed_before: false,
    }
}

#[test]
fn the_end_of_the_last_attempt_is_told_whatever_the_flow_run_names() {
    // While it waits, when it has begun, and after a retry inside of it.
    for (worker, run_count, runs_since) in [
        ("us", 1, 0),
        ("us", 2, 1),
        ("them", 1, 0),
        ("them", 2, 1),
        ("us", 3, 2),
    ] {
        let beside = |orphans| Beside {
            worker: "us",
            known: None,
            orphans,
            last: since(runs_since),
        };
        let (first, second) = (ended(1), ended(2));
        let both = [first.clone(), second.clone()];
        let flow_run = run_of(worker, run_count);
        let seen = format!("{worker} {run_count} {runs_since}");
        for orphans in [&both[1..], &both] {
            assert!(
                !beside(orphans).is_left_behind(&second.handle, &flow_run),
                "{seen}"
            );
        }
        assert!(
            beside(&both[..1]).is_left_behind(&first.handle, &flow_run),
            "{seen}"
        );
    }
}

#[test]
fn the_end_of_an_attempt_that_was_reported_is_not_told_again() {
    let beside = |known| Beside {
        worker: "us",
        known,
        orphans: &[],
        last: since(0),
    };
    let (one, run) = (ended(2), run_of("us", 0));
    assert!(beside(Some(2)).is_left_behind(&one.handle, &run));
    assert!(beside(Some(3)).is_left_behind(&one.handle, &run));
    assert!(!beside(Some(1)).is_left_behind(&one.handle, &run));
    assert!(!beside(None).is_left_behind(&one.handle, &run));
}

#[test]
fn of_attempts_that_never_ran_the_newest_or_the_named_one_is_the_last() {
    let both = [ended(1), ended(2)];
    let beside = |orphans, claimed_before| Beside {
        worker: "us",
        known: None,
        orphans,
        last: Last {
            claimed_before,
            ..since(0)
        },
    };
    let run = run_of("them", 0);
    assert!(beside(&both, false).is_left_behind(&both[0].handle, &run));
    let second = &both[1].handle;
    assert!(beside(&[], true).is_left_behind(second, &run));
    assert!(!beside(&[], false).is_left_behind(second, &run));
}
