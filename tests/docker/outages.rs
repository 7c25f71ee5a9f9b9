//! An engine that is restarted, stopped for a while, or full, and what the run pages say of it.

use std::{
    fs::{self, File},
    time::Duration,
};

use serde_json::json;
use worker_tests::{repository::Repository, wait};

use crate::{
    own_engine::OwnEngine,
    stage::{BOUND, POOL, Stage, WITHIN, containers_at},
};

/// How long an engine that is away stays away.
const AWAY: Duration = Duration::from_mins(1);

#[test]
fn an_engine_that_is_restarted_ends_its_containers_and_the_run_page_says_that_it_was_the_engine() {
    let engine = OwnEngine::start(&[]);
    let stage = Stage::set();
    let run = stage.run("sleep 600", &json!({}));
    let worker = stage.worker().with("DOCKER_HOST", engine.host());
    let running = worker.start(&["--pool", POOL]);
    wait::until("the container runs", BOUND, || {
        containers_at(&engine.host(), &run, false)
            .pop()
            .ok_or_else(|| running.stderr())
    });
    engine.stop();
    engine.start_again();
    let (ended, message) = stage.wait_for_end_within(WITHIN, &run, &running);
    assert_eq!(ended, "Crashed", "{message}");
    assert!(
        message.contains("Docker engine") && message.contains("restarted"),
        "{message}"
    );
    // What is due afterwards runs as if nothing had been.
    let next = stage.run("true", &json!({}));
    let (ended, message) = stage.wait_for_end(&next, &running);
    assert_eq!(ended, "Completed", "{message}");
}

#[test]
fn an_engine_that_is_away_for_a_minute_ends_nothing_that_outlives_it() {
    let engine = OwnEngine::start(&["--live-restore"]);
    let stage = Stage::set();
    let folder = tempfile::tempdir().expect("there is room");
    let volume = format!("{}:/out", folder.path().display());
    let command = "sh -c 'echo up; until [ -e /out/done ]; do sleep 0.2; done; exit 3'";
    let run = stage.run(command, &json!({"volumes": [volume]}));
    let worker = stage.worker().with("DOCKER_HOST", engine.host());
    let running = worker.start(&["--pool", POOL]);
    wait::until("the job is up", BOUND, || {
        let log = stage.log(&run);
        if log.contains("up") {
            return Ok(());
        }
        Err(running.stderr())
    });
    engine.stop();
    let says = |what: &str| {
        let log = stage.log(&run);
        if log.contains(what) {
            return Ok(());
        }
        Err(format!("{log}; {}", running.stderr()))
    };
    wait::until("the run page says so", WITHIN, || {
        says("cannot be watched at present")
    });
    let is_final = || stage.state(&run).0 != "Running";
    assert!(!wait::holds(AWAY, is_final), "{:?}", stage.state(&run));
    engine.start_again();
    wait::until("the run page says so", WITHIN, || says("is watched again"));
    fs::write(folder.path().join("done"), "").expect("there is room");
    let (ended, message) = stage.wait_for_end_within(WITHIN, &run, &running);
    assert_eq!(ended, "Crashed");
    assert!(message.contains("status code 3"), "{message}");
    let log = stage.log(&run);
    let told = log.matches("cannot be watched at present").count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_disk_that_is_full_when_the_code_is_copied_is_told_once_and_tried_until_there_is_room() {
    let engine = OwnEngine::start_small("32m");
    let stage = Stage::set();
    let folder = tempfile::tempdir().expect("there is room");
    let repository = Repository::create(folder.path());
    repository.write("flow.txt", "code\n");
    let big = File::create(folder.path().join("big")).expect("there is room");
    big.set_len(64 << 20).expect("there is room");
    repository.commit("more than the engine has room for");
    let run = stage.run_with(
        "cat flow.txt",
        // The repository is on this machine, and in the container there is none.
        &json!({"pull_mode": "worker"}),
        &json!({"pull_steps": [{"prefect.deployments.steps.git_clone": {
            "repository": folder.path().display().to_string()
        }}]}),
    );
    let worker = stage.worker().with("DOCKER_HOST", engine.host());
    let running = worker.start(&["--pool", POOL]);
    wait::until("the run page says so", BOUND, || {
        let log = stage.log(&run);
        if log.contains("disk is full") {
            return Ok(());
        }
        Err(format!("{log}; {}", running.stderr()))
    });
    assert_eq!(containers_at(&engine.host(), &run, false), [""; 0]);
    engine.make_room("256m");
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message}");
    let log = stage.log(&run);
    assert_eq!(log.matches("disk is full").count(), 1, "{log}");
    assert!(log.contains("code"), "{log}");
}
