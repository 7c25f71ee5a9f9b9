//! Containers that nobody looks after: found, dealt with when two looks have seen them, and only those that are ours.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::wait;

use crate::stage::{BOUND, IMAGE, POOL, Stage, containers_of, docker, wait_for_container};

/// Leaves a container as a worker's with these labels would be left; its id.
fn leave(owner: &str, flow_run: &str) -> String {
    let labels = [
        format!("io.prefect-worker.owner={owner}"),
        format!("io.prefect-worker.job={flow_run}.7"),
        format!("io.prefect.flow-run-id={flow_run}"),
    ];
    let mut arguments = vec!["run", "--detach", "--network", "none", "--init"];
    for label in &labels {
        arguments.extend(["--label", label]);
    }
    arguments.extend([IMAGE, "sleep", "600"]);
    docker(&arguments)
}

fn is_there(container: &str) -> bool {
    let filter = format!("id={container}");
    !docker(&["ps", "--all", "--quiet", "--filter", &filter]).is_empty()
}

#[test]
fn what_a_lost_journal_leaves_is_removed_or_taken_up_and_nothing_of_others_is_touched() {
    let stage = Stage::set();
    let name = format!("ada-{}", stage.api().address().port());
    let over = stage.run("true", &json!({}));
    let dry = stage
        .worker()
        .with("WORKER_JANITOR_INTERVAL", "0.5")
        .with("WORKER_JANITOR_DRY_RUN", "true");
    let running = dry.start(&["--pool", POOL, "--name", &name]);
    let (ended, message) = stage.wait_for_end(&over, &running);
    assert_eq!(ended, "Completed", "{message}");

    let ours = format!("{POOL}/{name}");
    let orphan = leave(&ours, &over);
    let foreign = leave(&format!("{POOL}/somebody"), &over);
    // Of a worker of the same name, for another API.
    let unknown = leave(&ours, "11111111-2222-4333-8444-555555555555");
    wait::until("it is seen", BOUND, || {
        let said = running.stderr();
        let told = ["would be removed", "is left alone"];
        if told.iter().all(|told| said.contains(told)) {
            return Ok(());
        }
        Err(said)
    });
    assert!(is_there(&orphan));
    running.signal(Signal::SIGTERM);
    running.finish();

    let alive = stage.run("sleep 600", &json!({}));
    let lost = stage.worker();
    let first = lost.start(&["--pool", POOL, "--name", &name]);
    let container = wait_for_container(&alive, &first);
    first.signal(Signal::SIGKILL);
    first.finish();
    // Another state directory: the journal is lost.
    let worker = stage.worker().with("WORKER_JANITOR_INTERVAL", "0.5");
    let second = worker.start(&["--pool", POOL, "--name", &name]);
    assert!(
        wait::holds(BOUND, || !is_there(&orphan)),
        "{}",
        second.stderr()
    );
    docker(&["kill", "--signal", "KILL", &container]);
    let (ended, message) = stage.wait_for_end(&alive, &second);
    assert_eq!(ended, "Crashed", "{message}");
    assert!(message.contains("137"), "{message}");
    assert!(is_there(&foreign) && is_there(&unknown));

    // What comes later is found as well.
    let later = leave(&ours, &over);
    assert!(
        wait::holds(BOUND, || !is_there(&later)),
        "{}",
        second.stderr()
    );
    for container in [&foreign, &unknown] {
        docker(&["rm", "--force", container]);
    }
}

#[test]
fn a_failed_container_is_kept_for_its_time_and_then_removed() {
    let stage = Stage::set();
    let worker = stage
        .worker()
        .with("WORKER_DOCKER_KEEP_FAILED", "6s")
        .with("WORKER_JANITOR_INTERVAL", "0.5");
    let running = worker.start(&["--pool", POOL]);
    let [fine, failed] =
        ["true", "sh -c 'echo why; exit 3'"].map(|line| stage.run(line, &json!({})));
    for (run, state) in [(&fine, "Completed"), (&failed, "Crashed")] {
        let (ended, message) = stage.wait_for_end(run, &running);
        assert_eq!(ended, state, "{message}");
    }
    let kept = wait::until("it is kept", BOUND, || {
        let there = containers_of(&failed, true).pop();
        let shown = |id: String| serde_json::from_str::<Value>(&docker(&["inspect", &id])).ok();
        let shown = there
            .and_then(shown)
            .map(|shown| shown[0]["Name"].to_string());
        let kept = shown.filter(|name| name.contains(".kept"));
        kept.ok_or_else(|| running.stderr())
    });
    assert!(kept.contains(".kept"));
    for run in [&fine, &failed] {
        let gone = || containers_of(run, true).is_empty();
        assert!(wait::holds(BOUND, gone), "{}", running.stderr());
    }
}
