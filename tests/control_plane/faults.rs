//! What may happen between a worker and its cluster: every end is seen all the same, soon, and no run has two Jobs.

use std::process::Command;

use serde_json::json;
use worker_tests::{files::root, gateway::Fault, kubelet::Step, program::Running};

use crate::stage::{BOUND, POOL, SEEN, Stage};

/// What a pod comes to, the name of its run's end, and what its message says.
fn ends() -> Vec<(Step, &'static str, &'static str)> {
    vec![
        (Step::Exit(0), "Completed", ""),
        (Step::Exit(3), "Crashed", "status code 3"),
        (Step::OutOfMemory, "Crashed", "memory"),
        (Step::Fail("Evicted".to_owned()), "Crashed", "evicted"),
    ]
}

/// Runs jobs, lets something happen, and lets them end.
fn every_end_is_seen(happens: impl FnOnce(&Stage, &Running)) {
    every_end_is_seen_on(&Stage::set(), happens);
}

fn every_end_is_seen_on(stage: &Stage, happens: impl FnOnce(&Stage, &Running)) {
    let ends = ends();
    let runs: Vec<String> = ends
        .iter()
        .map(|_| stage.run("start", &json!({})))
        .collect();
    let lasting = stage.run("start", &json!({}));
    let worker = stage.worker();
    let worker = worker.start(&["--pool", POOL]);
    for run in runs.iter().chain([&lasting]) {
        stage.wait_until_runs(run, &worker);
    }
    happens(stage, &worker);
    let late = stage.run("start exit:0", &json!({}));
    for (run, (step, ..)) in runs.iter().zip(&ends) {
        stage.kubelet.play(run, step);
    }
    for (run, (step, name, says)) in runs.iter().zip(&ends) {
        let (ended, message) = stage.wait_for_end_within(SEEN, run, &worker);
        assert_eq!(&ended, name, "{step:?}: {message}");
        assert!(
            message.contains(says),
            "{step:?}: no {says:?} in {message:?}"
        );
    }
    let (ended, message) = stage.wait_for_end_within(BOUND, &late, &worker);
    assert_eq!(ended, "Completed", "{message}");
    assert_eq!(stage.state(&lasting).0, "Running");
    assert_eq!(stage.way.failures_left(), 0, "{:?}", stage.way.counts());
    for run in runs.iter().chain([&late, &lasting]) {
        assert_eq!(stage.kubelet.pods_of(run), 1, "more than one Job for {run}");
    }
    stage.cancel(&lasting);
    let (ended, message) = stage.wait_for_end_within(BOUND, &lasting, &worker);
    assert_eq!(ended, "Cancelled", "{message}");
}

#[test]
fn a_connection_that_is_reset() {
    every_end_is_seen(|stage, _| {
        assert!(stage.way.reset("watch ") >= 2, "{:?}", stage.way.counts());
        stage.way.reset("");
    });
}

#[test]
fn a_watch_that_is_too_old() {
    every_end_is_seen(|stage, _| {
        stage.way.fail("watch ", Fault::Expired, 4);
        assert!(stage.way.reset("watch ") >= 2, "{:?}", stage.way.counts());
    });
}

#[test]
fn a_watch_that_falls_silent() {
    every_end_is_seen(|stage, _| {
        assert!(stage.way.silence("watch ") >= 2, "{:?}", stage.way.counts());
    });
}

#[test]
fn a_cluster_that_has_too_much_to_do() {
    every_end_is_seen(|stage, _| {
        stage.way.fail("", Fault::Answer(429, Some(1)), 12);
        stage.way.reset("");
    });
}

#[test]
fn a_cluster_that_fails() {
    every_end_is_seen(|stage, _| {
        stage.way.fail("", Fault::Answer(500, None), 20);
        stage.way.reset("");
    });
}

#[test]
fn a_token_that_ends_when_its_successor_is_there() {
    let stage = Stage::set();
    let token = stage.token(Some("first"));
    stage.write_token(&token);
    let happens = |stage: &Stage, _: &Running| {
        stage.write_token(&stage.token(Some("second")));
        let first = format!("/api/v1/namespaces/{}/secrets/first", stage.namespace);
        stage.cluster().delete(&first);
        stage.wait_until_refused(&token);
        stage.way.reset("");
    };
    every_end_is_seen_on(&stage, happens);
}

#[test]
fn an_api_that_is_started_again() {
    every_end_is_seen(|_, _| {
        let restarted = Command::new(root().join("tests/kubernetes/cluster"))
            .arg("restart-api")
            .status();
        assert!(restarted.is_ok_and(|status| status.success()));
    });
}
