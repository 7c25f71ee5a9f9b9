//! Real flows in real containers, with a real Prefect server beside them.

use std::time::Duration;

use serde_json::json;
use worker_tests::{
    prefect::{PrefectServer, Python},
    wait,
};

use crate::{
    flow_image,
    stage::{POOL, containers_of, create_pool, docker, run, text, worker},
};

/// How long a cold Python may take to run a flow on a busy machine.
const BOUND: Duration = Duration::from_mins(3);

#[test]
fn a_flow_that_is_baked_into_an_image_runs_and_its_container_is_what_the_reference_makes() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let api = server.api();
    create_pool(&api, POOL, &flow_image::defaults(&python));
    let flow_run = run(
        &api,
        &json!({
            "flow": "sleeps",
            "entrypoint": "flows.py:sleeps",
            "parameters": {"seconds": 5},
            "pull_steps": flow_image::baked_in(),
            "job_variables": {"labels": {"my.org/team": "a"}, "mem_limit": "512m", "container_create_kwargs": {"shm_size": "64m"}},
        }),
    );
    let program = worker(&api);
    let running = program.start(&["--pool", POOL]);
    let container = wait::until("the container runs", BOUND, || {
        containers_of(&flow_run, false)
            .pop()
            .ok_or_else(|| running.stderr())
    });
    let shown: serde_json::Value =
        serde_json::from_str(&docker(&["inspect", &container])).expect("it is JSON");
    let (config, host) = (&shown[0]["Config"], &shown[0]["HostConfig"]);
    assert_eq!(config["Cmd"], json!(["prefect", "flow-run", "execute"]));
    assert_eq!(config["Labels"]["org.my.team"], "a");
    assert_eq!(config["Labels"]["io.prefect.flow-run-id"], flow_run);
    assert_eq!(host["Memory"], 512 << 20);
    assert_eq!(host["ShmSize"], 64 << 20);
    assert_eq!(host["NetworkMode"], "host");
    assert_eq!(
        host["ExtraHosts"],
        json!(["host.docker.internal:host-gateway"])
    );
    assert_eq!(host["AutoRemove"], false);
    let seen = api.get(&format!("/flow_runs/{flow_run}"));
    assert_eq!(shown[0]["Name"], format!("/{}", text(&seen["name"])));
    let seen = wait::until("the flow has completed", BOUND, || {
        let seen = api.get(&format!("/flow_runs/{flow_run}"));
        if text(&seen["state"]["name"]) == "Completed" {
            return Ok(seen);
        }
        Err(format!("{} {}", seen["state"], running.stderr()))
    });
    let id = text(&seen["infrastructure_pid"]);
    assert_eq!(id, format!("http+docker://localhost:{container}"));
}
