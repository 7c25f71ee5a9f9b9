//! Pools that cannot be served, and what the program says about them.

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_server::Fault;
use worker_tests::{program::Program, wait};

use crate::{
    scene::{BOUND, Scene, wait_to_hear},
    stage::POOL,
};

#[test]
fn a_pool_that_must_be_there_and_is_not_is_named_with_what_to_do() {
    let scene = Scene::without_pool();
    // With and without a type that says what the pool would be.
    for kind in [&["--type", "process"][..], &[]] {
        let mut arguments = vec!["--pool", "nowhere", "--no-create-pool-if-not-found"];
        arguments.extend(kind);
        let finished = scene.worker().run(&arguments).expect_code(78);
        assert_eq!(
            finished.stderr.lines().last(),
            Some(
                "error: work pool 'nowhere' does not exist; create it with `worker pool create nowhere`, or start without --no-create-pool-if-not-found"
            ),
            "{finished}"
        );
    }
    let pools = scene.api().post("/work_pools/filter", &json!({}));
    assert_eq!(pools, json!([]), "nothing was created");
}

#[test]
fn a_pool_of_another_type_is_named_with_both_types() {
    let scene = Scene::without_pool();
    scene.create_pool("boxes", "docker");
    let finished = scene
        .worker()
        .run(&["--pool", "boxes", "--type", "process"])
        .expect_code(78);
    assert_eq!(
        finished.stderr.lines().last(),
        Some("error: work pool 'boxes' is of type 'docker', and this worker serves 'process'"),
        "{finished}"
    );
}

#[test]
fn types_that_are_not_served_are_named_with_those_that_are() {
    let scene = Scene::without_pool();
    for (pool, kind, said) in [
        (
            "agents",
            "prefect-agent",
            "error: work pool 'agents': work pool type 'prefect-agent' is not served by this worker; it serves process, docker and kubernetes",
        ),
        (
            "clouds",
            "vertex-ai",
            "error: work pool 'clouds': work pool type 'vertex-ai' is not served by this worker; it serves process, docker and kubernetes",
        ),
    ] {
        scene.create_pool(pool, kind);
        let finished = scene.worker().run(&["--pool", pool]).expect_code(78);
        assert_eq!(finished.stderr.lines().last(), Some(said), "{finished}");
    }
}

#[test]
fn a_type_that_nobody_knows_is_wrong_before_anybody_is_asked() {
    let scene = Scene::without_pool();
    scene.requests().clear();
    let finished = scene
        .worker()
        .run(&["--pool", "x", "--type", "submarine"])
        .expect_code(78);
    for expected in ["submarine", "--type", "process"] {
        assert!(
            finished.stderr.contains(expected),
            "no {expected}: {finished}"
        );
    }
    assert_eq!(scene.requests().total(), 0);
}

#[test]
fn a_paused_pool_keeps_its_runs_until_it_is_resumed() {
    let scene = Scene::set();
    let pool = format!("/work_pools/{POOL}");
    scene.api().patch(&pool, &json!({"is_paused": true}));
    let run = scene.run(&scene.deploy_command("true"));
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    wait_to_hear(
        &worker,
        "claiming nothing reason=\"work pool 'demo' is paused\"",
    );
    assert_eq!(scene.state(&run), "Scheduled");
    scene.api().patch(&pool, &json!({"is_paused": false}));
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn a_template_without_a_job_configuration_closes_the_pool_until_it_is_mended() {
    let scene = Scene::set();
    let run = scene.run(&scene.deploy_command("true"));
    let mut broken = scene.api().get(&format!("/work_pools/{POOL}"));
    broken["base_job_template"] = json!({"variables": {"properties": {}}});
    answer_with(&scene, &broken);
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    wait_to_hear(
        &worker,
        "the base job template has no 'job_configuration'; it must have both 'job_configuration' and 'variables'",
    );
    assert_eq!(scene.state(&run), "Scheduled", "{}", worker.stderr());
    scene.faults().clear();
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn a_template_that_breaks_under_a_working_worker_closes_the_pool_until_it_is_mended() {
    let scene = Scene::set();
    let deployment = scene.deploy_command("true");
    let program = without_sockets(&scene);
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&scene.run(&deployment), "Completed", &worker);
    let mut broken = scene.api().get(&format!("/work_pools/{POOL}"));
    broken["base_job_template"] = json!({"variables": {"properties": {}}});
    answer_with(&scene, &broken);
    wait_to_hear(
        &worker,
        "claiming nothing reason=\"work pool 'demo': the base job template has no 'job_configuration'",
    );
    let run = scene.run(&deployment);
    // It goes on polling nothing and looking at the pool.
    wait::until("the pool is looked at again", BOUND, || {
        let left = scene.faults().remaining();
        if left < PLENTY - 2 { Ok(()) } else { Err(left) }
    });
    assert_eq!(scene.state(&run), "Scheduled", "{}", worker.stderr());
    scene.faults().clear();
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn a_placeholder_that_no_variable_fills_is_named_in_the_log_of_a_run_that_goes_on() {
    let scene = Scene::set();
    let run = scene.run(&scene.deploy_command("true"));
    let mut pool = scene.api().get(&format!("/work_pools/{POOL}"));
    pool["base_job_template"]["job_configuration"]["colour"] = json!("{{ paint }}");
    answer_with(&scene, &pool);
    let program = without_sockets(&scene);
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Completed", &worker);
    wait::until("the log names the placeholder", BOUND, || {
        let log = scene.log(&run);
        let said = "The base job template of work pool 'demo' uses {{ paint }}, which is not among its variables.";
        if log.contains(said) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_pool_that_exists_gets_the_template_of_a_worker_that_is_told_to_sync_it() {
    let scene = Scene::set();
    let pool = format!("/work_pools/{POOL}");
    let before = scene.api().get(&pool)["base_job_template"].clone();
    let mut ours = before.clone();
    ours["variables"]["description"] = json!("as it is kept in a repository");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("template.json");
    std::fs::write(&file, ours.to_string()).expect("a file can be written");
    let program = scene
        .worker()
        .with("WORKER_BASE_JOB_TEMPLATE", file.display().to_string());
    let run = scene.run(&scene.deploy_command("true"));
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Completed", &worker);
    assert_eq!(scene.api().get(&pool)["base_job_template"], before);
    worker.signal(Signal::SIGTERM);
    worker.finish();

    let program = program.with("WORKER_SYNC_BASE_JOB_TEMPLATE", "true");
    let run = scene.run(&scene.deploy_command("true"));
    let worker = program.start(&["--pool", POOL]);
    wait_to_hear(&worker, "has the base job template of this worker now");
    assert_eq!(scene.api().get(&pool)["base_job_template"], ours);
    scene.wait_for(&run, "Completed", &worker);
}

/// A worker that sees the pool only by the requests whose answers a test gives.
fn without_sockets(scene: &Scene) -> Program {
    scene.worker().with("WORKER_API_WEBSOCKETS", "false")
}

/// How many answers there are before the pool would be shown as it is: more than a test asks for.
const PLENTY: usize = 1_000;

/// Lets the API show the pool as a server would that takes such templates, which this one does not.
fn answer_with(scene: &Scene, pool: &Value) {
    let body = Fault::Body(pool.to_string());
    scene
        .faults()
        .times(PLENTY, Method::GET, "/work_pools/{name}", body);
}
