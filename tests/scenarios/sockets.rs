//! The worker's sockets, beside a server that does not open them, or lets go of them. They bring things forward; nothing depends on them.

use http::Method;
use serde_json::json;
use worker_server::Fault;
use worker_tests::wait;

use crate::{
    scene::{BOUND, Scene, wait_to_hear},
    stage::POOL,
};

/// The routes that a worker asks to become sockets.
const SOCKETS: [&str; 3] = [
    "/events/out",
    "/events/in",
    "/work_pools/{name}/workers/connect",
];

/// More than a worker tries in any of these tests.
const ALWAYS: usize = 1_000;

/// A time between polls that no test waits for.
const NEVER: &str = "3600";

/// Has a worker serve a pool on an API where each socket meets a fault, and sees that it lacks nothing.
fn serves_despite(fault: &Fault) {
    let scene = Scene::set();
    for socket in SOCKETS {
        scene
            .faults()
            .times(ALWAYS, Method::GET, socket, fault.clone());
    }
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    let deployment = scene.deploy_command("true");
    let run = scene.run(&deployment);
    scene.wait_for(&run, "Completed", &worker);
    let slow = scene.run(&scene.deploy_command("sleep 600"));
    scene.wait_for(&slow, "Running", &worker);
    scene.api().post(
        &format!("/flow_runs/{slow}/set_state"),
        &json!({"state": {"type": "CANCELLING", "name": "Cancelling"}}),
    );
    scene.wait_for(&slow, "Cancelled", &worker);
    wait::until("each socket was asked for", BOUND, || {
        let requests = scene.requests();
        let forgotten = SOCKETS
            .iter()
            .find(|socket| requests.count(&Method::GET, socket) == 0);
        forgotten.map_or(Ok(()), Err)
    });
    let beats = "/work_pools/{name}/workers/heartbeat";
    wait::until("heartbeats go by request", BOUND, || {
        let beats = scene.requests().count(&Method::POST, beats);
        if beats > 1 { Ok(()) } else { Err(beats) }
    });
    let events = json!({"filter": {"event": {"name": ["prefect.worker.executed-flow-run"]}}});
    wait::until("events go by request", BOUND, || {
        let found = scene.api().post("/events/filter", &events);
        if found["total"] == 2 {
            Ok(())
        } else {
            Err(found.to_string())
        }
    });
}

#[test]
fn a_server_without_sockets_is_served_by_polls_and_requests() {
    serves_despite(&Fault::Status {
        code: 404,
        retry_after: None,
    });
}

#[test]
fn a_server_that_refuses_sockets_is_served_by_polls_and_requests() {
    serves_despite(&Fault::Status {
        code: 403,
        retry_after: None,
    });
}

#[test]
fn a_server_whose_sockets_fail_is_served_by_polls_and_requests() {
    serves_despite(&Fault::Status {
        code: 500,
        retry_after: None,
    });
}

#[test]
fn a_server_that_cuts_its_sockets_is_served_by_polls_and_requests() {
    serves_despite(&Fault::ResetBeforeCommit);
}

#[test]
fn a_server_that_never_answers_for_its_sockets_is_served_by_polls_and_requests() {
    serves_despite(&Fault::Hang);
}

#[test]
fn a_flow_run_is_found_without_a_poll_also_after_the_server_was_away() {
    let mut scene = Scene::lasting();
    let deployment = scene.deploy_command("true");
    let program = scene.worker().with("PREFECT_WORKER_QUERY_SECONDS", NEVER);
    let worker = program.start(&["--pool", POOL]);
    let first = scene.run(&deployment);
    scene.wait_for(&first, "Completed", &worker);
    let second = scene.run(&deployment);
    scene.wait_for(&second, "Completed", &worker);
    scene.take_away();
    wait_to_hear(&worker, "heartbeat not sent");
    scene.bring_back();
    let third = scene.run(&deployment);
    scene.wait_for(&third, "Completed", &worker);
}
