//! An API that is away: before the worker has ever reached it, and while its jobs run.

use nix::sys::signal::Signal;
use worker_tests::wait;

use crate::{
    scene::{BOUND, Scene, lines_of, script, wait_to_hear},
    stage::POOL,
};

#[test]
fn a_worker_that_starts_before_its_api_waits_for_it() {
    let mut scene = Scene::lasting();
    let run = scene.run(&scene.deploy_command("true"));
    scene.take_away();
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    wait_to_hear(&worker, "the work pool cannot be read yet; trying again");
    wait_to_hear(
        &worker,
        &scene.api().url().replace("http://", "").replace("/api", ""),
    );
    scene.bring_back();
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn a_worker_that_waits_for_its_api_ends_at_once_when_it_is_told_to() {
    const TRIES: usize = 3;
    let mut scene = Scene::lasting();
    scene.take_away();
    let (tells_type, asks) = (["--pool", POOL, "--type", "process"], ["--pool", POOL]);
    for arguments in [&tells_type[..], &asks] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let program = scene.worker();
            let worker = program.start(arguments);
            wait::until("the worker tries again and again", BOUND, || {
                let said = worker.stderr();
                if tries(&said) < TRIES {
                    Err(said)
                } else {
                    Ok(())
                }
            });
            worker.signal(signal);
            let ended = worker.finish().expect_code(0);
            // One may have been on its way.
            assert!(tries(&ended.stderr) <= TRIES + 1, "it went on: {ended}");
            assert!(ended.stderr.contains("stopped"), "{ended}");
        }
    }
}

#[test]
fn a_job_outlives_an_outage_and_its_end_is_told_when_the_api_is_back() {
    let mut scene = Scene::lasting();
    let directory = scene.directory("jobs");
    let (ran, gate) = (directory.join("ran"), directory.join("gate"));
    let lines = format!(
        "echo started >>{ran}\nfor _ in $(seq 400); do [ -e {gate} ] && break; sleep 0.1; done\necho ended >>{ran}\n",
        ran = ran.display(),
        gate = gate.display()
    );
    let deployment = scene.deploy_command(&script(&directory, "job.sh", &lines));
    let run = scene.run(&deployment);
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "1"]);
    scene.wait_for(&run, "Running", &worker);
    scene.take_away();
    wait_to_hear(&worker, "heartbeat not sent");
    std::fs::write(&gate, "").expect("the directory is writable");
    wait_to_hear(&worker, "the end is not reported yet");
    scene.bring_back();
    scene.wait_for(&run, "Completed", &worker);
    let next = scene.run(&deployment);
    scene.wait_for(&next, "Completed", &worker);
    assert_eq!(lines_of(&ran), ["started", "ended", "started", "ended"]);
}

#[test]
fn a_worker_that_ends_during_an_outage_leaves_the_news_to_the_next_one() {
    let mut scene = Scene::lasting();
    let directory = scene.directory("jobs");
    let ran = directory.join("ran");
    let lines = format!(
        "echo \"$PREFECT__FLOW_RUN_ID\" >>{}\nexit 3\n",
        ran.display()
    );
    let run = scene.run(&scene.deploy_command(&script(&directory, "job.sh", &lines)));
    let program = scene.worker();
    // The API is gone as soon as the job has run, most often before anything was said of its end.
    let first = program.start(&["--pool", POOL]);
    wait::until("the job has run", BOUND, || {
        let lines = lines_of(&ran);
        if lines.is_empty() {
            Err(first.stderr())
        } else {
            Ok(())
        }
    });
    scene.take_away();
    first.signal(Signal::SIGTERM);
    let first = first.finish().expect_code(0);
    scene.bring_back();
    let second = program.start(&["--pool", POOL]);
    wait::until("the run has ended", BOUND, || {
        let state = scene.state(&run);
        if state == "Crashed" {
            Ok(())
        } else {
            Err(format!("{state}; {first}; {}", second.stderr()))
        }
    });
    assert_eq!(lines_of(&ran), [run]);
}

// === functions ===

/// How often a worker has tried to reach its API.
fn tries(said: &str) -> usize {
    said.matches("the work pool cannot be read yet; trying again")
        .count()
}
