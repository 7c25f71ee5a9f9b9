//! Several work pools served by one process.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::{http::Api, wait};

use crate::{
    scene::{BOUND, Scene, text, wait_for_status, wait_to_hear},
    stage::POOL,
};

#[test]
fn each_pool_has_its_own_limit_heartbeats_and_part_of_the_status() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    let program = scene.worker();
    let worker = program.start(&[
        "--pool",
        POOL,
        "--pool",
        "second",
        "--limit",
        "4",
        "--limit",
        "second=1",
        "--with-healthcheck",
        "--status-port",
        "0",
    ]);
    let mut runs = scene.runs(2, &scene.deploy_command("true"));
    let second = deploy_to(&scene, "second");
    runs.extend(scene.runs(2, &second));
    scene.wait_for_all(&runs, "Completed", &worker);

    for pool in [POOL, "second"] {
        let path = format!("/work_pools/{pool}/workers/filter");
        let workers = scene.api().post(&path, &json!({}));
        let name = text(&workers[0]["name"]);
        assert!(name.ends_with(&format!("-{pool}")), "{workers}");
    }
    let status = wait_for_status(&worker);
    let pools = status.get("/status")["pools"].clone();
    let names: Vec<String> = pools
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| text(&one["pool"]))
        .collect();
    assert_eq!(names, [POOL, "second"]);
    let metrics = text(&status.get("/metrics"));
    for (pool, limit) in [(POOL, 4), ("second", 1)] {
        let found = metrics.lines().any(|line| {
            line.starts_with("worker_slots_limit{")
                && line.contains(&format!("pool=\"{pool}\""))
                && line.ends_with(&format!(" {limit}"))
        });
        assert!(found, "no limit {limit} of {pool} in {metrics}");
    }
    assert_eq!(text(&status.get("/readyz")), "demo: ok\nsecond: ok\n");
    let page = text(&status.get("/"));
    assert!(page.contains("in 2 pools"), "{page}");
    worker.signal(Signal::SIGTERM);
    let ended = worker.finish().expect_code(0);
    assert_eq!(ended.stderr.matches("stopped!").count(), 2, "{ended}");
}

#[test]
fn a_pool_that_cannot_be_served_does_not_stop_the_others() {
    let scene = Scene::set();
    scene.create_pool("boxes", "docker");
    scene.create_pool("halted", "process");
    let halted = "/work_pools/halted";
    scene.api().patch(halted, &json!({"is_paused": true}));
    let program = scene.worker();
    let worker = program.start(&[
        "--pool",
        "boxes",
        "--pool",
        "nowhere",
        "--pool",
        "halted",
        "--pool",
        POOL,
        "--no-create-pool-if-not-found",
        "--type",
        "boxes=process",
        "--with-healthcheck",
        "--status-port",
        "0",
    ]);
    wait_to_hear(&worker, "work pool 'nowhere' does not exist");
    wait_to_hear(
        &worker,
        "work pool 'boxes' is of type 'docker', and this worker serves 'process'",
    );
    wait_to_hear(&worker, "work pool 'halted' is paused");
    let run = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&run, "Completed", &worker);
    let status = wait_for_status(&worker);
    assert_eq!(because(&status, POOL), Value::Null);
    for (pool, reason) in [
        ("boxes", "is of type 'docker'"),
        ("nowhere", "does not exist"),
        ("halted", "is paused"),
    ] {
        let said = text(&because(&status, pool));
        assert!(said.contains(reason), "{pool}: {said}");
    }
    // It is ready for one of them, and says what is the matter with the others.
    let ready = text(&status.get("/readyz"));
    assert!(
        ready.contains("nowhere: work pool 'nowhere' does not exist"),
        "{ready}"
    );
}

#[test]
fn clones_that_hang_in_one_pool_hold_up_no_other() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it listens");
    let repository = format!("http://{address}/code.git");
    let step = json!({"prefect.deployments.steps.git_clone": {"repository": repository}});
    let fields = json!({"pull_steps": [step], "job_variables": {"command": "true"}});
    let waiting = scene.runs(40, &scene.deploy("waiting", &fields));
    let program = scene.worker().with("WORKER_START_CONCURRENCY", "40");
    let worker = program.start(&["--pool", POOL, "--pool", "second"]);
    wait::until("all of them are being prepared", BOUND, || {
        let states = waiting.iter().map(|run| scene.state(run));
        match states.filter(|state| state == "Pending").count() {
            40 => Ok(()),
            other => Err(format!("{other}: {}", worker.stderr())),
        }
    });
    let run = scene.run(&deploy_to(&scene, "second"));
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn each_line_about_one_of_several_pools_names_it() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    let program = scene.worker();
    // At this level the spans of tasks are not written.
    let arguments = ["--pool", POOL, "--pool", "second", "--log-level", "info"];
    let hear = |arguments: &[&str]| {
        let worker = program.start(arguments);
        let run = scene.run(&deploy_to(&scene, "second"));
        scene.wait_for(&run, "Completed", &worker);
        // A task of its own says this.
        drop(program.run(&["pause", "--pool", "second"]).expect_code(0));
        wait_to_hear(&worker, "claiming nothing; what runs goes on");
        worker.signal(Signal::SIGTERM);
        (run, worker.finish().expect_code(0).stderr)
    };
    let (run, said) = hear(&arguments);
    let pause = said.lines().find(|line| line.contains("claiming nothing;"));
    assert!(
        pause.is_some_and(|line| line.contains(" worker{pool=second}:")),
        "{said}"
    );
    let about: Vec<&str> = said.lines().filter(|line| line.contains(&run)).collect();
    assert!(!about.is_empty(), "{said}");
    for line in about {
        assert!(line.contains(" worker{pool=second}:"), "{line}");
    }

    drop(program.run(&["resume"]).expect_code(0));
    let (run, said) = hear(&[&arguments[..], &["--log-json"]].concat());
    let lines = said.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let about = |line: &Value| {
        line["span"]["flow_run_id"] == run.as_str()
            || text(&line["message"]).contains("claiming nothing;")
    };
    let pools: Vec<Value> = lines
        .filter(about)
        .map(|line| line["spans"][0]["pool"].clone())
        .collect();
    assert!(pools.len() > 1, "{said}");
    assert!(pools.iter().all(|pool| pool == "second"), "{said}");

    // One pool needs not be told from others.
    let worker = program.start(&["--pool", "second"]);
    wait_to_hear(&worker, "WARN claiming nothing; what runs goes on");
}

#[test]
fn a_pool_whose_directory_cannot_be_had_does_not_stop_the_others() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    let state = scene.directory("state");
    let program = scene
        .worker()
        .with("WORKER_STATE_DIR", state.display().to_string());
    std::fs::create_dir(state.join("workers")).expect("writable");
    std::fs::write(state.join("workers/second"), "").expect("writable");
    let said = format!("the state directory {}/workers/second/", state.display());
    let alone = program.run(&["--pool", "second"]).expect_code(78);
    assert!(alone.stderr.contains(&said), "{alone}");

    let arguments = ["--pool", "second", "--pool", POOL, "--with-healthcheck"];
    let worker = program.start(&[&arguments[..], &["--status-port", "0"]].concat());
    wait_to_hear(&worker, "the work pool is not served; the others are");
    wait_to_hear(&worker, &said);
    let run = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&run, "Completed", &worker);
    let because = text(&because(&wait_for_status(&worker), "second"));
    assert!(because.contains(&said), "{because}");
}

#[test]
fn a_process_without_a_directory_for_any_of_its_pools_names_each() {
    let scene = Scene::set();
    let state = scene.directory("state");
    let program = scene
        .worker()
        .with("WORKER_STATE_DIR", state.display().to_string());
    let pools = ["first", "second"].map(|pool| state.join("workers").join(pool));
    std::fs::create_dir(state.join("workers")).expect("writable");
    for pool in &pools {
        std::fs::write(pool, "").expect("writable");
    }
    let arguments = ["--pool", "first", "--pool", "second"];
    let ended = program.run(&arguments).expect_code(78);
    for pool in &pools {
        let said = format!("error: the state directory {}/", pool.display());
        assert!(ended.stderr.contains(&said), "{ended}");
    }
}

#[test]
fn a_process_that_polls_once_ends_although_one_of_its_pools_is_away() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    let state = scene.directory("state");
    let program = scene
        .worker()
        .with("WORKER_STATE_DIR", state.display().to_string());
    let arguments = ["--pool", "second", "--pool", POOL, "--run-once"];
    drop(program.run(&arguments).expect_code(0));
    // What is wrong with a journal may be the disk's passing trouble.
    let workers = std::fs::read_dir(state.join("workers/second")).expect("readable");
    for worker in workers {
        let journal = worker.expect("readable").path().join("journal.db");
        std::fs::remove_file(&journal).expect("there is a journal");
        std::fs::create_dir(&journal).expect("writable");
    }
    let run = scene.run(&scene.deploy_command("true"));
    let ended = program.run(&arguments).expect_code(1);
    assert!(
        ended.stderr.contains("a worker has failed pool=second"),
        "{ended}"
    );
    assert_eq!(scene.state(&run), "Completed", "{ended}");
}

#[test]
fn a_process_that_can_serve_none_of_its_pools_ends_with_the_reason() {
    let scene = Scene::without_pool();
    let finished = scene
        .worker()
        .run(&[
            "--pool",
            "nowhere",
            "--pool",
            "elsewhere",
            "--no-create-pool-if-not-found",
        ])
        .expect_code(78);
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: work pool '") && last.contains("does not exist"),
        "{finished}"
    );
}

#[test]
fn what_one_of_several_pools_left_running_is_found_again() {
    let scene = Scene::set();
    scene.create_pool("second", "process");
    let program = scene.worker();
    let arguments = ["--pool", POOL, "--pool", "second"];
    let go = scene.directory("jobs").join("go");
    let command = format!(
        "sh -c 'for n in $(seq 600); do [ -e {} ] && exit 0; sleep 0.1; done; exit 1'",
        go.display()
    );
    let fields = json!({"work_pool_name": "second", "job_variables": {"command": command}});
    let run = scene.run(&scene.deploy("held", &fields));
    let worker = program.start(&arguments);
    scene.wait_for(&run, "Running", &worker);
    worker.signal(Signal::SIGTERM);
    let ended = worker.finish().expect_code(0);
    let left = "Flow runs left to its next start: 1.";
    assert!(ended.stderr.contains(left), "{ended}");
    let worker = program.start(&arguments);
    wait_to_hear(&worker, "started!");
    std::fs::write(go, "").expect("writable");
    scene.wait_for(&run, "Completed", &worker);
    let states: Vec<String> = scene
        .history(&run)
        .iter()
        .map(|state| text(&state["name"]))
        .collect();
    let started = states.iter().filter(|name| *name == "Running").count();
    assert_eq!(started, 1, "{states:?}");
}

// === functions ===

fn deploy_to(scene: &Scene, pool: &str) -> String {
    let fields = json!({"work_pool_name": pool, "job_variables": {"command": "true"}});
    scene.deploy("of another pool", &fields)
}

/// Why a pool's worker claims nothing, once its status says anything of it.
#[track_caller]
fn because(status: &Api, pool: &str) -> Value {
    wait::until(&format!("the status has {pool}"), BOUND, || {
        let pools = status.get("/status")["pools"].clone();
        let found = pools
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["pool"] == pool)
            .map(|one| one["claims_nothing_because"].clone());
        found.ok_or(pools)
    })
}
