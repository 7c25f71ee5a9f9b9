//! All the ways in which a Job ends, or never begins, and what the run page says of each.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::wait;

use crate::stage::{BOUND, POOL, Stage, kubectl, of_run, text, wait_for_pod};

/// A command, what else its job asks for, the name of its end and what its message says.
type Case = (&'static str, Value, &'static str, &'static [&'static str]);

fn cases() -> Vec<Case> {
    vec![
        ("echo fine", json!({}), "Completed", &[]),
        (
            "sh -c 'echo before; echo why >&2; exit 3'",
            json!({}),
            "Crashed",
            &["non-zero status code 3", "Last output: "],
        ),
        (
            "no-such-program --fast",
            json!({}),
            "Crashed",
            &["never started", "no-such-program"],
        ),
        (
            "true",
            json!({"image": "127.0.0.1:1/nope:1", "pod_watch_timeout_seconds": 5}),
            "Crashed",
            &["never started", "127.0.0.1:1/nope:1", "cannot be pulled"],
        ),
        (
            "sleep 600",
            json!({"job_watch_timeout_seconds": 5}),
            "Crashed",
            &["job_watch_timeout_seconds of 5 s"],
        ),
        (
            "true",
            json!({"namespace": "no-such-namespace"}),
            "Crashed",
            &["Failed to submit", "no-such-namespace"],
        ),
        (
            "true",
            json!({"memory_limit": "lots"}),
            "Crashed",
            &["Failed to submit", "the cluster does not take it"],
        ),
    ]
}

#[test]
fn a_run_page_says_how_its_job_ended_or_why_it_never_began() {
    let stage = Stage::set();
    let cases = cases();
    let runs: Vec<String> = cases
        .iter()
        .map(|(command, more, ..)| stage.run(command, more))
        .collect();
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    for (run, (command, more, state, says)) in runs.iter().zip(&cases) {
        let (ended, message) = stage.wait_for_end(run, &running);
        assert_eq!(&ended, state, "{command} {more}: {message}");
        for said in *says {
            assert!(
                message.contains(said),
                "{command} {more}: no {said:?} in {message:?}"
            );
        }
        let gone = || of_run("jobs,pods", run).is_empty();
        assert!(wait::holds(BOUND, gone), "{command}: its Job is left");
    }
    let log = stage.log(&runs[1]);
    for said in ["before", "why", "The last lines of its output:\n"] {
        assert!(log.contains(said), "no {said:?} in {log}");
    }
    let log = stage.log(&runs[3]);
    assert!(
        log.contains("Not started yet: its image cannot be pulled"),
        "{log}"
    );
    let states = stage.states(&runs[0]);
    let names: Vec<&str> = states.iter().map(String::as_str).collect();
    assert_eq!(names.last(), Some(&"Completed"));
    assert!(names.contains(&"Running"), "{names:?}");
}

#[test]
fn a_job_is_what_the_pool_asks_for_and_the_api_knows_it() {
    let stage = Stage::set();
    let more = json!({"labels": {"team/x": "Größe & Co"}, "env": {"GREETING": "hi"}, "finished_job_ttl": 600});
    let run = stage.run("sh -c 'echo $GREETING; sleep 3'", &more);
    let worker = stage.worker().with("PREFECT_API_KEY", "canary-key");
    let running = worker.start(&["--pool", POOL]);
    let job = wait_for_pod(&run, &running);
    let shown = kubectl(&["get", &job, "--output=json"]);
    assert!(!shown.contains("canary"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    let labels = &shown["metadata"]["labels"];
    assert_eq!(labels["team/x"], "Grosse-Co");
    assert_eq!(labels["prefect.io/flow-run-id"], run);
    assert_eq!(labels["prefect.io/work-pool-name"], POOL);
    assert_eq!(shown["spec"]["backoffLimit"], 0);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Completed", "{message}");
    assert!(stage.log(&run).contains("hi"));
    let seen = stage.api().get(&format!("/flow_runs/{run}"));
    let name = job.rsplit('/').next().expect("it has a name");
    assert_eq!(
        text(&seen["infrastructure_pid"]),
        format!("worker-tests:{name}")
    );
    // Somebody wants to look at it for a while.
    assert_eq!(of_run("jobs", &run), [job.as_str()]);
    kubectl(&["delete", &job]);
}

#[test]
fn a_cancelled_run_ends_politely_or_by_force() {
    let stage = Stage::set();
    let polite = "sh -c 'trap \"echo tidied; exit 0\" TERM; echo up; while :; do sleep 0.1; done'";
    let deaf = "sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.1; done'";
    let runs = [polite, deaf].map(|command| stage.run(command, &json!({})));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    for run in &runs {
        wait::until("the job is up", BOUND, || {
            let log = stage.log(run);
            if log.contains("up") {
                Ok(())
            } else {
                Err(running.stderr())
            }
        });
        stage.cancel(run);
    }
    let (ended, message) = stage.wait_for_end(&runs[0], &running);
    assert_eq!(
        (ended.as_str(), message.contains("code 0")),
        ("Cancelled", true),
        "{message}"
    );
    assert!(stage.log(&runs[0]).contains("tidied"));
    let (ended, message) = stage.wait_for_end(&runs[1], &running);
    assert_eq!(
        (ended.as_str(), message.contains("SIGKILL")),
        ("Cancelled", true),
        "{message}"
    );
}

#[test]
fn a_worker_that_dies_leaves_its_jobs_to_the_next() {
    let stage = Stage::set();
    let commands = [
        "sh -c 'sleep 4; exit 0'",
        "sh -c 'sleep 4; exit 4'",
        "sleep 600",
    ];
    let runs = commands.map(|command| stage.run(command, &json!({})));
    let worker = stage.worker();
    let first = worker.start(&["--pool", POOL, "--name", "ada"]);
    let last = wait_for_pod(&runs[2], &first);
    for run in &runs {
        let there = || of_run("jobs", run).len() == 1;
        assert!(wait::holds(BOUND, there), "{}", first.stderr());
    }
    first.signal(Signal::SIGKILL);
    first.finish();

    let second = worker.start(&["--pool", POOL, "--name", "ada"]);
    let (ended, message) = stage.wait_for_end(&runs[0], &second);
    assert_eq!(ended, "Completed", "{message}");
    let (ended, message) = stage.wait_for_end(&runs[1], &second);
    assert_eq!(
        (ended.as_str(), message.contains("code 4")),
        ("Crashed", true),
        "{message}"
    );
    assert_eq!(of_run("jobs", &runs[2]), [last]);
    stage.cancel(&runs[2]);
    let (ended, message) = stage.wait_for_end(&runs[2], &second);
    assert_eq!(ended, "Cancelled", "{message}");
}

#[test]
fn what_others_do_to_a_job_is_told_once() {
    let stage = Stage::set();
    let run = stage.run("sleep 600", &json!({}));
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    let job = wait_for_pod(&run, &running);
    kubectl(&["delete", &job, "--wait=false"]);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Crashed", "{message}");
    assert!(message.contains("deleted by somebody else"), "{message}");
}
