//! Jobs that cannot run as they were asked for: each ends with a reason that names what is wrong, and the runs beside
//! it do not notice.

use serde_json::{Value, json};
use worker_tests::repository::Repository;

use crate::{
    scene::{Scene, script, wait_to_hear},
    stage::POOL,
};

/// What a state message begins with when the job did not come to be; the words of the reference.
const NOT_STARTED: &str = "Failed to submit flow run to infrastructure: ";

/// Where jobs find their programs, so that messages which name it are the same on every machine.
const SEARCH_PATH: &str = "/usr/bin:/bin";

#[test]
fn a_program_or_directory_that_is_not_there_is_named() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let here = |name: &str| directory.join(name).display().to_string();
    std::fs::write(here("plain.txt"), "echo\n").expect("the directory is writable");
    fail_to_start(
        &scene,
        &[
            (
                command("no-such-program --flag"),
                format!("program 'no-such-program' in PATH {SEARCH_PATH} not found"),
            ),
            (
                command(&here("gone.sh")),
                format!("program {} not found", here("gone.sh")),
            ),
            (
                command(&here("plain.txt")),
                format!(
                    "program {}: it is not an executable file",
                    here("plain.txt")
                ),
            ),
            (
                json!({"job_variables": {"command": "true", "working_dir": here("nowhere")}}),
                format!(
                    "working_dir: {} does not exist on this machine",
                    here("nowhere")
                ),
            ),
            (
                json!({"job_variables": {"command": "true", "working_dir": here("plain.txt")}}),
                format!("working_dir: {} is not a directory", here("plain.txt")),
            ),
            (
                json!({"path": here("moved"), "job_variables": {"command": "true"}}),
                format!(
                    "the deployment's path {} is not a directory on this machine",
                    here("moved")
                ),
            ),
            (
                json!({"entrypoint": "flow.py:main", "job_variables": {"env": {"PATH": "/nowhere"}}}),
                "a Python interpreter (python3, python) in PATH /nowhere not found".to_owned(),
            ),
        ],
    );
}

#[test]
fn a_job_that_says_nothing_to_run_or_refers_to_nothing_is_told_so() {
    let scene = Scene::set();
    fail_to_start(
        &scene,
        &[
            (
                json!({}),
                "there is nothing to run: the deployment has no entrypoint, and no job variable 'command' is set".to_owned(),
            ),
            (command(" "), "command: it is blank".to_owned()),
            (command("echo 'open"), "command: a quote is not closed".to_owned()),
            (
                json!({"job_variables": {"command": "true", "env": {"TOKEN": "{{ prefect.blocks.secret.nope }}"}}}),
                "work pool 'demo': block not found: 'nope' of type 'secret'; the deployment or the work pool refers to it, create it or correct the reference".to_owned(),
            ),
        ],
    );
}

#[test]
fn job_variables_of_a_wrong_type_are_named_without_their_values() {
    let scene = Scene::set();
    scene.forget_types();
    let cases = [
        (
            "labels",
            json!(1),
            "work pool 'demo': labels: must be an object",
        ),
        (
            "labels",
            json!({"size": 1}),
            "work pool 'demo': labels.size: must be a text; put it in quotes",
        ),
        (
            "env",
            json!(["SECRET=1"]),
            "work pool 'demo': env: must be an object",
        ),
        (
            "command",
            json!(["true"]),
            "work pool 'demo': command: must be a text",
        ),
        ("name", json!(7), "work pool 'demo': name: must be a text"),
        (
            "working_dir",
            json!(7),
            "working_dir: must be a text or null, and is a number",
        ),
        (
            "stream_output",
            json!("maybe"),
            "stream_output: must be true or false, and is another text",
        ),
    ]
    .map(|(variable, value, reason)| {
        let mut variables = json!({"command": "true"});
        variables[variable] = value;
        (json!({"job_variables": variables}), reason.to_owned())
    });
    fail_to_start(&scene, &cases);
}

#[test]
fn code_that_cannot_be_had_is_named_with_the_step_that_wanted_it() {
    let scene = Scene::set();
    let repository = Repository::create(&scene.directory("code"));
    repository.write("hello.sh", "#!/bin/sh\n");
    repository.commit("first");
    let there = repository.directory().display().to_string();
    let gone = scene.directory("gone").join("repository");
    let gone = gone.display().to_string();
    let clone = |inputs: Value| pull("prefect.deployments.steps.git_clone", &inputs);
    fail_to_start(
        &scene,
        &[
            (
                clone(json!({"repository": gone})),
                format!(
                    "pull step git_clone failed: there is no repository at {gone} on this machine"
                ),
            ),
            (
                clone(json!({"repository": there, "branch": "nope"})),
                format!(
                    "pull step git_clone failed: {there} has no branch, tag or commit 'nope'"
                ),
            ),
            (
                clone(json!({"repository": there, "branch": "main", "commit_sha": "0123456"})),
                "pull step git_clone failed: give either 'branch' or 'commit_sha', not both".to_owned(),
            ),
            (
                pull(
                    "prefect.deployments.steps.set_working_directory",
                    &json!({"directory": gone}),
                ),
                format!(
                    "pull step set_working_directory failed: directory {gone} does not exist on this machine"
                ),
            ),
            (
                pull("my_package.steps.fetch", &json!({})),
                "this worker cannot get the code of the deployment, and in a plain command nobody else does: this worker does not know the step my_package.steps.fetch".to_owned(),
            ),
        ],
    );
}

#[test]
fn credentials_in_the_address_of_a_repository_are_never_repeated() {
    let scene = Scene::set();
    let closed = worker_tests::prefect::free_address().expect("loopback has a free port");
    let address = format!("http://someone:canary-in-url@{closed}/code.git");
    let deployment = scene.deploy(
        "private",
        &pull(
            "prefect.deployments.steps.git_clone",
            &json!({"repository": address}),
        ),
    );
    let run = scene.run(&deployment);
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--log-level", "trace"]);
    scene.wait_for(&run, "Crashed", &worker);
    let message = scene.message(&run);
    assert!(
        message.contains(&format!("http://{closed}/code.git")),
        "{message}"
    );
    for said in [message, scene.log(&run), worker.stderr(), worker.stdout()] {
        assert!(!said.contains("canary-in-url"), "{said}");
    }
}

#[test]
fn an_operator_who_allows_no_commands_has_them_refused_with_a_reason() {
    let scene = Scene::set();
    let marker = scene.directory("jobs").join("ran");
    let run = scene.run(&scene.deploy_command(&format!("touch {}", marker.display())));
    let file = scene.directory("config").join("worker.toml");
    std::fs::write(&file, "[policy]\nallow_command = false\n").expect("the directory is writable");
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--config", &file.display().to_string()]);
    scene.wait_for(&run, "Crashed", &worker);
    assert_eq!(
        scene.message(&run),
        format!("{NOT_STARTED}a command of its own is not allowed by this worker's policy"),
    );
    assert!(!marker.exists());
}

#[test]
fn a_run_whose_deployment_was_deleted_is_cancelled_and_says_so() {
    let scene = Scene::set();
    let deployment = scene.deploy_command("true");
    let run = scene.run(&deployment);
    // Runs that have not begun are deleted with their deployment; one that waits for its next attempt is not.
    let path = format!("/flow_runs/{run}/set_state");
    for (kind, name) in [
        ("PENDING", "Pending"),
        ("RUNNING", "Running"),
        ("SCHEDULED", "AwaitingRetry"),
    ] {
        let state = json!({"type": kind, "name": name});
        scene
            .api()
            .post(&path, &json!({"state": state, "force": true}));
    }
    scene.api().delete(&format!("/deployments/{deployment}"));
    let neighbour = scene.run(&scene.deploy_command("true"));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Cancelled", &worker);
    assert_eq!(
        scene.message(&run),
        format!("Deployment {deployment} no longer exists, cancelled run.")
    );
    scene.wait_for(&neighbour, "Completed", &worker);
}

#[test]
fn a_run_that_is_deleted_while_its_job_runs_is_forgotten_and_its_slot_is_free_again() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let gate = directory.join("gate");
    let wait_for_gate = format!(
        "for _ in $(seq 600); do [ -e {} ] && exit 0; sleep 0.1; done; exit 1\n",
        gate.display()
    );
    let run = scene.run(&scene.deploy_command(&script(&directory, "wait.sh", &wait_for_gate)));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "1"]);
    scene.wait_for(&run, "Running", &worker);
    scene.api().delete(&format!("/flow_runs/{run}"));
    let next = scene.run(&scene.deploy_command("true"));
    std::fs::write(&gate, "").expect("the directory is writable");
    scene.wait_for(&next, "Completed", &worker);
    wait_to_hear(
        &worker,
        "the flow run was deleted; there is nobody to report to",
    );
}

/// A deployment of a plain command.
fn command(line: &str) -> Value {
    json!({"job_variables": {"command": line}})
}

/// A deployment of a command whose code comes from one pull step.
fn pull(step: &str, inputs: &Value) -> Value {
    json!({"pull_steps": [{step: inputs}], "job_variables": {"command": "true"}})
}

/// Runs each deployment beside one that can run, and holds the ends against what is expected of them.
fn fail_to_start(scene: &Scene, cases: &[(Value, String)]) {
    let good = scene.deploy_command("true");
    let runs: Vec<(String, String)> = cases
        .iter()
        .enumerate()
        .map(|(number, (deployment, reason))| {
            let deployment = scene.deploy(&format!("wrong-{number}"), deployment);
            (scene.run(&deployment), reason.clone())
        })
        .collect();
    let neighbours = scene.runs(3, &good);
    let program = scene.worker().with("PATH", SEARCH_PATH);
    // With fewer slots than wrong jobs, each has to give its slot back.
    let worker = program.start(&["--pool", POOL, "--limit", "2"]);
    scene.wait_for_all(&neighbours, "Completed", &worker);
    let mut wrong = Vec::new();
    for (run, reason) in &runs {
        scene.wait_for(run, "Crashed", &worker);
        let message = scene.message(run);
        let expected = format!("{NOT_STARTED}{reason}");
        if message != expected {
            wrong.push(format!("expected {expected:?}\n     got {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
