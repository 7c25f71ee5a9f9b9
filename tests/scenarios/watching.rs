//! What an operator sees of a worker: its page, the same as JSON, its log.

use serde_json::{Value, json};
use worker_tests::wait;

use crate::{
    scene::{BOUND, Scene, wait_for_status},
    stage::POOL,
};

#[test]
fn the_page_shows_what_runs_and_how_the_last_runs_ended() {
    let scene = Scene::set();
    let deploy = |name: &str, command: &str| {
        scene.deploy(name, &json!({"job_variables": {"command": command}}))
    };
    let fails = scene.run(&deploy("fails", "sh -c 'exit 3'"));
    let stays = scene.run(&deploy("stays", "sleep 600"));
    let worker = scene.worker();
    let mut arguments = vec!["--pool", POOL, "--limit", "1", "--stop-grace", "1s"];
    arguments.extend(["--with-healthcheck", "--status-port", "0"]);
    let worker = worker.start(&arguments);
    let status = wait_for_status(&worker);
    let seen = wait::until("one run has ended and one runs", BOUND, || {
        let seen = status.get("/status");
        let (held, ended) = (&seen["held"][&stays], &seen["ended"][0]);
        if held["phase"] == "running" && ended["id"] == *fails {
            Ok(seen)
        } else {
            Err(format!("{seen}\n{}", worker.stderr()))
        }
    });
    assert_eq!(seen["ended"][0]["how"], "exit code 3", "{seen}");
    assert_eq!(
        seen["claims_nothing_because"], "all slots are taken",
        "{seen}"
    );
    let page = status.get("/");
    let page = page.as_str().expect("it is a page");
    for said in [&*stays, &*fails, "exit code 3", "all slots are taken", POOL] {
        assert!(page.contains(said), "no {said:?} in {page}");
    }
}

#[test]
fn a_paused_pool_is_why_nothing_is_taken() {
    let scene = Scene::set();
    let worker = scene.worker();
    let worker = worker.start(&["--pool", POOL, "--with-healthcheck", "--status-port", "0"]);
    let status = wait_for_status(&worker);
    let wait_for = |said: &Value| {
        wait::until("the page says so", BOUND, || {
            let seen = status.get("/status");
            let polled = seen["poll"]["ever_succeeded"] == true;
            if polled && seen["claims_nothing_because"] == *said {
                Ok(())
            } else {
                Err(seen)
            }
        });
    };
    wait_for(&Value::Null);
    let pool = format!("/work_pools/{POOL}");
    scene.api().patch(&pool, &json!({"is_paused": true}));
    wait_for(&format!("work pool '{POOL}' is paused").into());
    scene.api().patch(&pool, &json!({"is_paused": false}));
    wait_for(&Value::Null);
}

#[test]
fn a_line_about_a_flow_run_says_which_as_json() {
    let scene = Scene::set();
    let run = scene.run(&scene.deploy_command("false"));
    let program = scene.worker();
    let finished = program
        .run(&["--pool", POOL, "--run-once", "--log-json"])
        .expect_code(0);
    // What is said to a person before the worker is at work is no part of its log.
    let lines = finished.stderr.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let reported = lines
        .iter()
        .find(|line| line["message"] == "reported")
        .unwrap_or_else(|| panic!("no such line: {finished}"));
    assert_eq!(reported["state"], "CRASHED", "{reported}");
    assert_eq!(reported["span"]["flow_run_id"], *run, "{reported}");
    let name = reported["span"]["flow_run_name"].as_str();
    assert!(name.is_some_and(|name| !name.is_empty()), "{reported}");
}
