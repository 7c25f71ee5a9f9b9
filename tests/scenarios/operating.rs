//! What an operator does beside running a worker: look at the job that a deployment would become, change work pools.

use serde_json::{Value, json};
use worker_tests::program::Finished;

use crate::{scene::Scene, stage::POOL};

#[test]
fn a_job_is_shown_as_it_would_be_without_its_secrets_and_beside_another() {
    let scene = Scene::set();
    scene.create_secret_block("pass", "canary-of-a-block");
    let deploy = |name: &str, variables: Value| {
        let fields = json!({"entrypoint": "flow.py:main", "job_variables": variables});
        scene.deploy(name, &fields)
    };
    deploy(
        "nightly",
        json!({"env": {"STAGE": "production", "PASS": "{{ prefect.blocks.secret.pass }}"}}),
    );
    deploy("daily", json!({"env": {"STAGE": "test"}}));
    let program = scene.worker().with("PREFECT_API_KEY", "canary-of-the-key");
    let render = |arguments: &[&str]| program.run(&[&["render"], arguments].concat());

    let shown = render(&["scene/nightly"]).expect_code(0);
    for said in ["prefect.engine", "STAGE: production", "PASS: \"********\""] {
        assert!(shown.stdout.contains(said), "no {said}: {shown}");
    }
    assert!(!format!("{shown}").contains("canary"), "{shown}");

    let same = render(&["scene/nightly", "--against", "scene/nightly"]).expect_code(0);
    assert_eq!(same.stdout.trim(), "", "{same}");
    let differ = render(&["scene/nightly", "--against", "scene/daily"]).expect_code(1);
    for said in ["-  STAGE: test", "+  STAGE: production"] {
        assert!(differ.stdout.contains(said), "no {said}: {differ}");
    }
    assert!(
        shown.stdout.contains("PATH: (inherited from the worker)\n"),
        "{shown}"
    );
    let own = render(&[
        "scene/daily",
        "--job-variable",
        "env={\"PATH\": \"/opt/bin\"}",
    ]);
    assert!(own.stdout.contains("PATH: /opt/bin\n"), "{own}");
    let variable = render(&["scene/daily", "--job-variable", "command=echo hi"]).expect_code(0);
    assert!(variable.stdout.contains("- echo\n"), "{variable}");
    let unknown = render(&["scene/weekly"]).expect_code(1);
    assert_eq!(
        unknown.stderr.trim(),
        "error: no deployment is named 'scene/weekly'"
    );
}

#[test]
fn a_work_pool_is_made_changed_paused_and_removed() {
    let scene = Scene::set();
    let program = scene.worker();
    let pool = |arguments: &[&str]| -> Finished {
        program.run(&[&["--json", "pool"], arguments].concat())
    };
    let made = document(&pool(&["create", "box", "--type", "docker"]).expect_code(0));
    let begins = document(&pool(&["template", "--type", "docker"]).expect_code(0));
    assert_eq!(made["base_job_template"], begins);
    let paused = document(&pool(&["pause", "box"]).expect_code(0));
    assert_eq!(paused["is_paused"], true);
    let resumed = document(&pool(&["resume", "box"]).expect_code(0));
    assert_eq!(resumed["is_paused"], false);
    let limited = document(&pool(&["update", "box", "--concurrency-limit", "3"]).expect_code(0));
    assert_eq!(limited["concurrency_limit"], 3);
    let lifted = document(&pool(&["update", "box", "--concurrency-limit", "none"]).expect_code(0));
    assert_eq!(lifted["concurrency_limit"], Value::Null);
    let vague = pool(&["update", "box"]).expect_code(2);
    assert!(vague.stderr.contains("nothing is to be changed"), "{vague}");
    let unasked = pool(&["rm", "box"]).expect_code(2);
    assert!(unasked.stderr.contains("give --yes"), "{unasked}");
    drop(pool(&["inspect", "box"]).expect_code(0));
    drop(pool(&["rm", "box", "--yes"]).expect_code(0));
    let gone = program.run(&["pool", "inspect", "box"]).expect_code(1);
    assert_eq!(
        gone.stderr.trim(),
        "error: no work pool is named 'box'; `worker pool ls` lists them"
    );
    let twice = program.run(&["pool", "create", POOL, "--type", "process"]);
    assert!(twice.stderr.contains("exists already"), "{twice}");
    drop(pool(&["inspect", POOL]).expect_code(0));
}

#[test]
fn what_is_not_there_ends_with_1_and_what_nobody_can_mean_with_2() {
    const ID: &str = "00000000-0000-0000-0000-000000000001";
    let scene = Scene::set();
    let deployment = scene.deploy_command("true");
    scene.runs(2, &deployment);
    let program = scene.worker();
    let said = |command: &str, code: i32| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let finished = program.run(&words).expect_code(code);
        assert!(finished.stderr.starts_with("error: "), "{finished}");
    };
    for command in [
        "logs",
        "cancel",
        "run",
        "render",
        "pull --into . --deployment",
    ] {
        said(&format!("{command} {ID}"), 1);
    }
    for command in ["run", "render", "pull --into . --deployment"] {
        said(&format!("{command} scene/nope"), 1);
        said(&format!("{command} nope"), 2);
    }
    for command in ["logs", "cancel", "pause --pool", "resume --pool"] {
        said(&format!("{command} nope"), 1);
    }
    for command in [
        "inspect",
        "update --description x",
        "pause",
        "resume",
        "rm --yes",
        "template",
    ] {
        said(&format!("pool {command} nope"), 1);
    }
    said(&format!("pool create {POOL} --type process"), 1);
    said("pool create nope --type steam", 2);
    // Each id begins with something, so the empty beginning is that of two.
    let vague = program.run(&["logs", ""]).expect_code(2);
    assert!(vague.stderr.contains("more than one"), "{vague}");
}

// === functions ===

fn document(finished: &Finished) -> Value {
    finished.json().into_iter().next().expect("a document")
}
