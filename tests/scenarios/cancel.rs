//! Cancelling: before there is a job, while it runs, when it does not want to, and by those who set the end directly.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::json;
use worker_tests::{program::Running, wait};

use crate::{
    scene::{BOUND, Scene, lines_of, script},
    stage::POOL,
};

/// A job that says what happens to it, with a child in the background that has no reason of its own to end soon.
struct Stubborn {
    said: PathBuf,
    command: String,
}

#[test]
fn a_run_that_is_cancelled_before_anybody_takes_it_never_runs() {
    let scene = Scene::set();
    let marker = scene.directory("jobs").join("ran");
    let deployment = scene.deploy_command(&format!("touch {}", marker.display()));
    let run = scene.run(&deployment);
    let finished = scene.worker().run(&["cancel", &run]).expect_code(0);
    assert!(finished.stdout.contains("is cancelled"), "{finished}");
    let next = scene.run(&scene.deploy_command("true"));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&next, "Completed", &worker);
    assert_eq!(scene.state(&run), "Cancelled");
    assert!(!marker.exists(), "it has run");
}

#[test]
fn a_job_is_asked_to_end_and_everything_it_started_ends_with_it() {
    let scene = Scene::set();
    let job = Stubborn::new(&scene.directory("jobs"), "echo term >>$said; exit 0");
    let run = scene.run(&scene.deploy_command(&job.command));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "1"]);
    let child = job.wait_for_child(&worker);
    let finished = scene.worker().run(&["cancel", &run]).expect_code(0);
    assert!(finished.stdout.contains("is being cancelled"), "{finished}");
    scene.wait_for(&run, "Cancelled", &worker);
    assert_eq!(
        scene.message(&run),
        "Cancelled; the process exited with code 0."
    );
    assert_eq!(lines_of(&job.said).last().map(String::as_str), Some("term"));
    assert!(is_gone(&child), "the child is still there");
    let next = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&next, "Completed", &worker);
}

#[test]
fn a_job_that_does_not_want_to_end_is_killed_after_its_grace() {
    let scene = Scene::set();
    let job = Stubborn::new(&scene.directory("jobs"), "echo term >>$said");
    let run = scene.run(&scene.deploy_command(&job.command));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--stop-grace", "1s"]);
    let child = job.wait_for_child(&worker);
    let finished = scene.worker().run(&["cancel", &run]).expect_code(0);
    assert!(finished.stdout.contains("is being cancelled"), "{finished}");
    scene.wait_for(&run, "Cancelled", &worker);
    assert_eq!(
        scene.message(&run),
        "Cancelled; the process was ended by this worker with SIGKILL."
    );
    assert_eq!(lines_of(&job.said).last().map(String::as_str), Some("term"));
    assert!(is_gone(&child), "the child is still there");
}

#[test]
fn a_run_that_somebody_sets_to_cancelled_has_its_job_ended_and_its_state_left_alone() {
    let scene = Scene::set();
    let job = Stubborn::new(&scene.directory("jobs"), "echo term >>$said; exit 0");
    let run = scene.run(&scene.deploy_command(&job.command));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "1"]);
    let child = job.wait_for_child(&worker);
    scene.wait_for(&run, "Running", &worker);
    let state = json!({"type": "CANCELLED", "message": "by hand"});
    let path = format!("/flow_runs/{run}/set_state");
    scene
        .api()
        .post(&path, &json!({"state": state, "force": true}));
    let next = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&next, "Completed", &worker);
    assert_eq!(scene.state(&run), "Cancelled");
    assert_eq!(scene.message(&run), "by hand");
    assert!(is_gone(&child), "the child is still there");
}

#[test]
fn a_run_that_is_cancelled_while_its_code_is_pulled_never_runs() {
    let scene = Scene::set();
    let marker = scene.directory("jobs").join("ran");
    // A server for repositories that takes every connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = silent.local_addr().expect("it is bound");
    let clone = json!({"repository": format!("http://{address}/code.git")});
    let run = scene.run(&scene.deploy(
        "slow",
        &json!({
            "pull_steps": [{"prefect.deployments.steps.git_clone": clone}],
            "job_variables": {"command": format!("touch {}", marker.display())},
        }),
    ));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "1"]);
    scene.wait_for(&run, "Pending", &worker);
    let (_connection, _) = silent.accept().expect("the worker asks for the code");
    let path = format!("/flow_runs/{run}/set_state");
    scene
        .api()
        .post(&path, &json!({"state": {"type": "CANCELLING"}}));
    scene.wait_for(&run, "Cancelled", &worker);
    assert_eq!(
        scene.message(&run),
        "Cancelled before its infrastructure was started."
    );
    let next = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&next, "Completed", &worker);
    assert!(!marker.exists(), "it has run");
}

// === impl Stubborn ===

impl Stubborn {
    /// A job that does this when it is asked to end. It ends by itself after a minute.
    fn new(directory: &Path, when_asked: &str) -> Self {
        let said = directory.join("said");
        let lines = format!(
            "said={}\ntrap '{when_asked}' TERM\nsleep 60 &\necho $! >>$said\nfor _ in $(seq 600); do sleep 0.1; done\n",
            said.display()
        );
        let command = script(directory, "stubborn.sh", &lines);
        Self { said, command }
    }

    /// Waits until the job has started its child; the child's process id.
    fn wait_for_child(&self, worker: &Running) -> String {
        wait::until("the job has started its child", BOUND, || {
            let first = lines_of(&self.said).into_iter().next();
            first.ok_or_else(|| worker.stderr())
        })
    }
}

// === functions ===

/// Whether a process has ended, be it that nobody has collected it yet.
fn is_gone(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state is the first word after the name, which is in parentheses.
    let state = status
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
