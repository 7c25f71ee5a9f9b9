//! Canaries: what an engine shows of the environment of jobs, with `WORKER_DOCKER_HIDE_ENVIRONMENT` and without.

use serde_json::json;
use worker_tests::wait;

use crate::stage::{BOUND, POOL, Stage, docker, wait_for_container};

/// One comes from the worker's own settings, one from a job variable.
const CANARIES: [&str; 2] = ["canary-of-the-api-key", "canary-of-the-job"];

/// Everything that an engine shows of a container to whoever may ask, while the job has its environment.
fn shown(hide: bool) -> String {
    let stage = Stage::set();
    let command = "sh -c 'echo key ${#PREFECT_API_KEY}, secret ${#SECRET}; exec sleep 600'";
    let run = stage.run(command, &json!({"env": {"SECRET": CANARIES[1]}}));
    let worker = stage
        .worker()
        .with("PREFECT_API_KEY", CANARIES[0])
        .with("WORKER_DOCKER_HIDE_ENVIRONMENT", hide.to_string());
    let running = worker.start(&["--pool", POOL]);
    let lengths = CANARIES.map(str::len);
    let has = format!("key {}, secret {}", lengths[0], lengths[1]);
    wait::until("the job has its environment", BOUND, || {
        let log = stage.log(&run);
        if log.contains(&has) {
            return Ok(());
        }
        Err(format!("{log}; {}", running.stderr()))
    });
    let container = wait_for_container(&run, &running);
    let filter = format!("container={container}");
    let commands: [&[&str]; 5] = [
        &["inspect", &container],
        &[
            "ps",
            "--all",
            "--no-trunc",
            "--filter",
            &format!("id={container}"),
        ],
        &["top", &container, "-eo", "pid,args"],
        &["logs", &container],
        &[
            "events", "--since", "1h", "--until", "0s", "--filter", &filter,
        ],
    ];
    let shown = commands.map(docker).concat();
    assert!(shown.contains(&container), "{shown}");
    stage.cancel(&run);
    stage.wait_for_end(&run, &running);
    shown
}

#[test]
fn a_hidden_environment_is_in_nothing_that_the_engine_shows() {
    let shown = shown(true);
    for canary in CANARIES {
        assert_eq!(shown.matches(canary).count(), 0, "{canary}");
    }
}

#[test]
fn by_default_whoever_may_inspect_containers_reads_their_environment() {
    let shown = shown(false);
    for canary in CANARIES {
        assert!(
            shown.contains(canary),
            "{canary}: the documents say otherwise"
        );
    }
}
