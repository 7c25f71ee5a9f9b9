//! `worker doctor`: what it says of an API, a pool and an engine that are as they should be, and of those that are not.

use serde_json::Value;
use worker_tests::program::Finished;

use crate::{scene::Scene, stage::POOL};

#[test]
fn a_process_pool_is_looked_at_with_its_python_and_without_other_engines() {
    let scene = Scene::set();
    let program = scene.worker().with_only_commands(&["sh"]);
    let found = program
        .run(&["--json", "doctor", "--pool", POOL])
        .expect_code(0);
    for what in [
        "settings",
        "state",
        "disk of state",
        "API",
        "clock",
        "work pool",
    ] {
        assert_eq!(verdict(&found, what), "ok", "{what}: {found}");
    }
    assert_eq!(verdict(&found, "Python"), "warning", "{found}");
    assert!(!found.stdout.contains("Docker"), "{found}");
    assert!(!found.stdout.contains("Kubernetes"), "{found}");
}

#[test]
fn a_pool_that_is_paused_is_said_with_what_ends_it() {
    let scene = Scene::set();
    let program = scene.worker();
    drop(program.run(&["pool", "pause", POOL]).expect_code(0));
    let found = program.run(&["doctor", "--pool", POOL]).expect_code(0);
    let said = format!("warning  work pool: '{POOL}' is paused");
    assert!(found.stdout.contains(&said), "{found}");
    assert!(found.stdout.contains("worker pool resume"), "{found}");
}

#[test]
fn an_engine_that_is_not_there_is_a_problem_of_its_own_pool_only() {
    let scene = Scene::set();
    scene.create_pool("containers", "docker");
    let program = scene
        .worker()
        .with("DOCKER_HOST", "unix:///nowhere/docker.sock");
    drop(program.run(&["doctor", "--pool", POOL]).expect_code(0));
    let found = program
        .run(&["--json", "doctor", "--pool", "containers"])
        .expect_code(1);
    assert_eq!(verdict(&found, "Docker engine"), "problem", "{found}");
    assert!(found.stdout.contains("DOCKER_HOST"), "{found}");
    assert!(!found.stdout.contains("Python"), "{found}");
}

#[test]
fn several_pools_are_each_looked_at_with_their_engine() {
    let scene = Scene::set();
    scene.create_pool("containers", "docker");
    let program = scene
        .worker()
        .with("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let found = program
        .run(&["--json", "doctor", "--pool", POOL, "--pool", "containers"])
        .expect_code(1);
    assert_eq!(verdict(&found, "Docker engine"), "problem", "{found}");
    assert!(found.stdout.contains("\"cgroups\""), "{found}");
    for pool in [POOL, "containers"] {
        assert!(
            found.stdout.contains(&format!("'{pool}' is of type")),
            "{found}"
        );
    }
}

#[test]
fn a_pool_of_a_type_that_nobody_here_serves_is_a_problem() {
    let scene = Scene::set();
    scene.create_pool("push", "ecs");
    let found = scene
        .worker()
        .run(&["--json", "doctor", "--pool", "push"])
        .expect_code(1);
    assert_eq!(verdict(&found, "work pool"), "problem", "{found}");
}

#[test]
fn an_api_that_is_away_is_a_problem_and_the_machine_is_looked_at_all_the_same() {
    let mut scene = Scene::set();
    scene.take_away();
    let found = scene
        .worker()
        .run(&["--json", "doctor", "--pool", POOL, "--type", "process"])
        .expect_code(1);
    assert_eq!(verdict(&found, "API"), "problem", "{found}");
    assert_eq!(verdict(&found, "state"), "ok", "{found}");
    assert!(found.stdout.contains("cgroups"), "{found}");
}

#[test]
fn a_disk_below_its_floor_is_a_problem() {
    let scene = Scene::set();
    let program = scene.worker().with("WORKER_PULL_DISK_FLOOR", "100%");
    let found = program.run(&["--json", "doctor"]).expect_code(1);
    assert_eq!(verdict(&found, "disk of state"), "problem", "{found}");
}

// === functions ===

/// What was found of something: the worst of it.
fn verdict(found: &Finished, what: &str) -> String {
    let findings = found.json().into_iter();
    let verdicts = findings.filter(|finding| finding["what"] == what);
    let verdicts = verdicts.map(|finding| match &finding["verdict"] {
        Value::String(verdict) => verdict.clone(),
        other => panic!("{other}: {found}"),
    });
    let worst = |verdict: &String| {
        ["ok", "warning", "problem"]
            .iter()
            .position(|it| it == verdict)
    };
    verdicts
        .max_by_key(worst)
        .unwrap_or_else(|| panic!("nothing of {what}: {found}"))
}
