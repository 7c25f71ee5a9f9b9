//! A worker that is killed at every request to the engine, on its way out and on its way back: the next one finishes, and there is one container.

use std::{fs, thread, time::SystemTime};

use serde_json::json;
use worker_tests::wait;

use crate::{
    gate::Gate,
    stage::{BOUND, POOL, Stage, containers_of, docker, host},
};

/// How many points there are at least, so that a test that kills nobody does not pass: a look, a create, a look, a copy and a start have two each.
const AT_LEAST: usize = 10;

/// How many points are played at the same time.
const TOGETHER: usize = 4;

/// What came of a worker that was to die at a point.
enum Fate {
    /// It died there; what it was about to do.
    Died(String),
    /// It was finished before it came to it.
    Finished,
}

#[test]
fn a_worker_killed_at_any_step_leaves_one_container_that_runs_once() {
    let mut deaths = Vec::new();
    for first in (0..).step_by(TOGETHER) {
        let fates: Vec<Fate> = thread::scope(|scope| {
            let plays = (first..first + TOGETHER).map(|point| scope.spawn(move || play(point)));
            let plays: Vec<_> = plays.collect();
            let ends = plays.into_iter().map(thread::ScopedJoinHandle::join);
            ends.map(|end| end.expect("the reason is above")).collect()
        });
        let before = deaths.len();
        deaths.extend(fates.into_iter().filter_map(|fate| match fate {
            Fate::Died(at) => Some(at),
            Fate::Finished => None,
        }));
        if deaths.len() < before + TOGETHER {
            break;
        }
    }
    println!("died {} times: {deaths:#?}", deaths.len());
    assert!(deaths.len() >= AT_LEAST, "{deaths:#?}");
    for step in ["create", "archive", "start"] {
        for way in ["before", "after"] {
            let there = |at: &String| at.starts_with(way) && at.ends_with(step);
            assert!(deaths.iter().any(there), "never {way} {step}: {deaths:#?}");
        }
    }
}

/// One flow run, one worker that dies at a point, one that follows it.
fn play(point: usize) -> Fate {
    let stage = Stage::set();
    let folder = tempfile::tempdir().expect("there is room");
    let volume = format!("{}:/out", folder.path().display());
    let command = "sh -c 'echo ran >> /out/ran; sleep 1'";
    let run = stage.run(command, &json!({"volumes": [volume]}));
    let since = seconds();
    let gate = Gate::open(&host(), &run, point);
    let worker = stage
        .worker()
        .with("DOCKER_HOST", gate.host())
        .with("WORKER_DOCKER_HIDE_ENVIRONMENT", "true");
    let first = worker.start(&["--pool", POOL, "--name", "ada"]);
    gate.aim(first.pid());
    let is_gone = || containers_of(&run, true).is_empty() && stage.state(&run).0 == "Completed";
    let fate = wait::until("it dies or finishes", BOUND, || {
        if let Some(at) = gate.died_at() {
            return Ok(Fate::Died(at));
        }
        if is_gone() {
            return Ok(Fate::Finished);
        }
        Err(first.stderr())
    });
    if let Fate::Died(at) = &fate {
        first.finish();
        let second = worker.start(&["--pool", POOL, "--name", "ada"]);
        let (ended, message) = stage.wait_for_end(&run, &second);
        assert_eq!(ended, "Completed", "killed {at}: {message}");
        let removed = || containers_of(&run, true).is_empty();
        assert!(wait::holds(BOUND, removed), "killed {at}: it is left");
    }
    let ran = fs::read_to_string(folder.path().join("ran")).expect("it has run");
    assert_eq!(ran, "ran\n");
    let most = most_at_once(&run, since);
    assert_eq!(most, 1, "containers at once");
    fate
}

/// How many containers a flow run ever had at the same time, by the engine's own record.
fn most_at_once(run: &str, since: u64) -> usize {
    let label = format!("label=io.prefect.flow-run-id={run}");
    let (since, until) = (since.to_string(), (seconds() + 1).to_string());
    let record = docker(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        &label,
        "--format",
        "{{.Action}}",
    ]);
    let (mut now, mut most) = (0_usize, 0);
    for action in record.lines() {
        match action {
            "create" => now += 1,
            "destroy" => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is later than 1970").as_secs()
}
