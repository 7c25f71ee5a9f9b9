//! What the server's feed hears of pods, a restart of the worker included.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::{kubelet::Step, wait};

use crate::stage::{BOUND, POOL, Stage, text};

/// What was told of the pods of a flow run, in the order in which it happened: the name of each event, and what else its pod says.
fn told(stage: &Stage, run: &str) -> Vec<(String, String)> {
    let filter = json!({
        "occurred": {"since": "2026-01-01T00:00:00Z"},
        "event": {"prefix": ["prefect.kubernetes.pod."]},
        "any_resource": {"id": [format!("prefect.flow-run.{run}")]},
        "order": "ASC",
    });
    let found = stage
        .api()
        .post("/events/filter", &json!({"filter": filter}));
    let events = found["events"].as_array().cloned().unwrap_or_default();
    let row = |event: &Value| {
        let name = text(&event["event"]).replace("prefect.kubernetes.pod.", "");
        let more = ["kubernetes.diagnosis", "kubernetes.reason"];
        let more = more.map(|label| text(&event["resource"][label]));
        (name, more.join(" ").trim().to_owned())
    };
    events.iter().map(row).collect()
}

#[track_caller]
fn wait_until_told(stage: &Stage, run: &str, expected: &[(&str, &str)]) {
    let mut seen = Vec::new();
    let is_told = || {
        seen = told(stage, run);
        let seen = seen
            .iter()
            .map(|(name, more)| (name.as_str(), more.as_str()));
        // Two of them may have the same second.
        let mut seen: Vec<_> = seen.collect();
        let mut expected = expected.to_vec();
        seen.sort_unstable();
        expected.sort_unstable();
        seen == expected
    };
    let holds = wait::holds(BOUND, is_told);
    assert!(holds, "{seen:?} in the place of {expected:?}");
}

#[test]
fn pods_are_told_of_once_whoever_watches_them() {
    let stage = Stage::set();
    let program = stage.worker();
    let worker = program.start(&["--pool", POOL, "--name", "one"]);
    // A list has pods as they are by then; who watches before they are made hears of each step.
    let is_watching = || stage.way.open_requests("watch pods") > 0;
    assert!(wait::holds(BOUND, is_watching), "{}", worker.stderr());
    let lasting = stage.run("start", &json!({}));
    let failing = stage.run("start exit:3", &json!({}));
    let unplaced = stage.run("unschedulable", &json!({}));
    stage.wait_for_end_within(BOUND, &failing, &worker);
    stage.wait_until_runs(&lasting, &worker);
    let begun = [("pending", ""), ("running", "")];
    wait_until_told(&stage, &lasting, &begun);
    let ended = [begun[0], begun[1], ("evicted", "Error")];
    wait_until_told(&stage, &failing, &ended);
    let waits = [
        ("pending", ""),
        ("pending", "Unschedulable.InsufficientResources"),
    ];
    wait_until_told(&stage, &unplaced, &waits);
    worker.signal(Signal::SIGTERM);
    worker.finish();
    stage.kubelet.play(&unplaced, &Step::Start);
    let worker = program.start(&["--pool", POOL, "--name", "one"]);
    // What happened while nobody looked is told now, what was told before is not.
    wait_until_told(&stage, &unplaced, &[waits[0], waits[1], begun[1]]);
    for run in [&lasting, &unplaced] {
        stage.kubelet.play(run, &Step::Exit(0));
        stage.wait_for_end_within(BOUND, run, &worker);
    }
    let well = ("succeeded", "");
    wait_until_told(&stage, &lasting, &[begun[0], begun[1], well]);
    wait_until_told(&stage, &unplaced, &[waits[0], waits[1], begun[1], well]);
    worker.signal(Signal::SIGTERM);
    worker.finish();
}

#[test]
fn pods_are_not_told_of_where_the_observer_of_the_reference_is_turned_off() {
    let stage = Stage::set();
    let run = stage.run("start exit:0", &json!({}));
    let off = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_REPLICATE_POD_EVENTS";
    let program = stage.worker().with(off, "False");
    let worker = program.start(&["--pool", POOL]);
    stage.wait_for_end_within(BOUND, &run, &worker);
    worker.signal(Signal::SIGTERM);
    // It leaves when the server has all that it told.
    worker.finish();
    assert_eq!(told(&stage, &run), []);
}
