//! A worker that dies: what it had started goes on, and whoever comes after it finds it.

use std::{collections::BTreeSet, fs};

use nix::sys::signal::Signal;
use worker_tests::wait;

use crate::{
    scene::wait_to_hear,
    stage::{BOUND, POOL, Stage},
};

#[test]
fn runs_of_a_killed_worker_end_truthfully_and_none_runs_twice() {
    const RUNS: usize = 10;
    let stage = Stage::set();
    let directory = stage.directory("jobs");
    let script = directory.join("job.sh");
    let started = directory.join("started");
    let gate = directory.join("gate");
    // Says that it was started, then waits for the gate, at most a minute so that nothing is left behind.
    let text = format!(
        "echo \"$PREFECT__FLOW_RUN_ID\" >>{started}\nfor _ in $(seq 600); do\n  [ -e {gate} ] && exit 0\n  sleep 0.1\ndone\nexit 1\n",
        started = started.display(),
        gate = gate.display(),
    );
    fs::write(&script, text).expect("the stage's directory is writable");
    let runs = stage.schedule(&format!("sh {}", script.display()), RUNS);
    let read_started = || -> Vec<String> {
        let text = fs::read_to_string(&started).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };

    let worker = stage.worker();
    let first = worker.start(&["--pool", POOL]);
    wait::until("every job has started", BOUND, || {
        let count = read_started().len();
        if count >= RUNS {
            Ok(())
        } else {
            Err(format!("{count} jobs; the worker says: {}", first.stderr()))
        }
    });
    first.signal(Signal::SIGKILL);
    assert_eq!(first.finish().code(), -1);

    let second = worker.start(&["--pool", POOL]);
    fs::write(&gate, "").expect("the stage's directory is writable");
    stage.wait_for_all(&runs, "Completed", &second);
    let ran = read_started();
    assert_eq!(ran.len(), RUNS, "some ran twice: {ran:?}");
    assert_eq!(
        ran.iter().collect::<BTreeSet<_>>(),
        runs.iter().collect::<BTreeSet<_>>()
    );
}

#[test]
fn a_worker_that_is_told_to_end_lets_go_of_its_runs_and_the_next_one_finds_them() {
    let stage = Stage::set();
    let gate = stage.directory("jobs").join("gate");
    let command = format!(
        "sh -c 'for _ in $(seq 600); do [ -e {gate} ] && exit 0; sleep 0.1; done; exit 1'",
        gate = gate.display()
    );
    let runs = stage.schedule(&command, 3);

    let worker = stage.worker();
    let first = worker.start(&["--pool", POOL]);
    stage.wait_for_all(&runs, "Running", &first);
    first.signal(Signal::SIGTERM);
    let first = first.finish();
    assert_eq!(first.code(), 0, "{first}");
    assert_eq!(stage.states(&runs).get("Running"), Some(&3), "{first}");
    let left = "stopped! Flow runs left to its next start: 3.";
    assert!(first.stderr.contains(left), "{first}");

    let second = worker.start(&["--pool", POOL]);
    fs::write(&gate, "").expect("the stage's directory is writable");
    stage.wait_for_all(&runs, "Completed", &second);
    let reported = " reported state=COMPLETED\n";
    wait_to_hear(&second, reported);
}
