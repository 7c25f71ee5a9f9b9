//! All the ways in which a container ends, or never begins, and what the run page says of each.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use worker_tests::wait;

use crate::stage::{BOUND, POOL, Stage, WITHIN, containers_of, docker, wait_for_container};

/// A command, what else its job asks for, the name of its end and what its message says.
type Case = (&'static str, Value, &'static str, &'static [&'static str]);

/// Takes all the memory it can get.
const EATS: &str = "sh -c 'x=a; while :; do x=$x$x; done'";

fn cases() -> Vec<Case> {
    let limit = json!({"mem_limit": "32m", "memswap_limit": "32m", "container_create_kwargs": {}});
    let bare = json!({"container_create_kwargs": {}});
    vec![
        ("echo fine", json!({}), "Completed", &[]),
        (
            "sh -c 'echo before; sleep 0.5; echo why >&2; exit 3'",
            json!({}),
            "Crashed",
            &["non-zero status code 3", "Last output: why"],
        ),
        (EATS, limit, "Crashed", &["out of memory (OOM)", "32 MiB"]),
        (
            "no-such-program --fast",
            bare,
            "Crashed",
            &[
                "Failed to submit flow run to infrastructure",
                "'no-such-program'",
                "not found",
            ],
        ),
        (
            "true",
            json!({"image": "worker-test/nowhere:1"}),
            "Crashed",
            &["Failed to submit", "'worker-test/nowhere:1'", "not found"],
        ),
        (
            "true",
            json!({"networks": ["no-such-network"]}),
            "Crashed",
            &["Failed to submit", "no-such-network"],
        ),
        (
            "true",
            json!({"mem_limit": "1GiB"}),
            "Crashed",
            &["Failed to submit", "mem_limit"],
        ),
        (
            "true",
            json!({"container_create_kwargs": {"restart_policy": {"Name": "always"}}}),
            "Crashed",
            &["Failed to submit", "restart_policy"],
        ),
    ]
}

#[test]
fn a_run_page_says_how_its_container_ended_or_why_it_never_began() {
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
        let gone = || containers_of(run, true).is_empty();
        assert!(wait::holds(BOUND, gone), "{command}: its container is left");
    }
    let log = stage.log(&runs[1]);
    for said in [
        "before",
        "why",
        "The last lines of its output:\nbefore\nwhy",
    ] {
        assert!(log.contains(said), "no {said:?} in {log}");
    }
}

#[test]
fn what_others_do_to_a_container_is_told_once() {
    let stage = Stage::set();
    let runs: Vec<String> = (0..2).map(|_| stage.run("sleep 600", &json!({}))).collect();
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    let killed = wait_for_container(&runs[0], &running);
    let removed = wait_for_container(&runs[1], &running);
    docker(&["kill", "--signal", "KILL", &killed]);
    docker(&["rm", "--force", &removed]);
    for (run, says) in runs
        .iter()
        .zip(["137", "somebody else removed its container"])
    {
        let (ended, message) = stage.wait_for_end_within(WITHIN, run, &running);
        assert_eq!(ended, "Crashed", "{message}");
        assert!(message.contains(says), "{message}");
    }
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
fn a_run_that_is_cancelled_while_its_image_is_pulled_ends_at_once() {
    let stage = Stage::set();
    // A registry that takes every question and answers none.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = registry.local_addr().expect("it is bound").port();
    let image = format!("127.0.0.1:{port}/team/never:1");
    let more = json!({"image": image, "image_pull_policy": "Always"});
    let run = stage.run("true", &more);
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL]);
    wait::until("it is pulled", BOUND, || {
        let log = stage.log(&run);
        if log.contains(&format!("pulling image '{image}'")) {
            return Ok(());
        }
        Err(format!("{log}; {}", running.stderr()))
    });
    stage.cancel(&run);
    let (ended, message) = stage.wait_for_end_within(WITHIN, &run, &running);
    assert_eq!(ended, "Cancelled", "{message}");
    assert!(
        message.contains("before its infrastructure was started"),
        "{message}"
    );
    assert_eq!(containers_of(&run, true), [""; 0]);
}

#[test]
fn an_image_that_cannot_be_had_now_is_warned_of_once() {
    const TRIES: usize = 3;
    let stage = Stage::set();
    // Nobody listens there any more.
    let address = worker_tests::prefect::free_address().expect("a port is free");
    let image = format!("{address}/team/never:1");
    let more = json!({"image": image, "image_pull_policy": "Always"});
    let run = stage.run("true", &more);
    let worker = stage.worker();
    let running = worker.start(&["--pool", POOL, "--log-level", "info,worker=debug"]);
    let said = wait::until("it is tried again and again", BOUND, || {
        let said = running.stderr();
        let tries = "not started yet; trying again";
        let tries: Vec<String> = said
            .lines()
            .filter(|line| line.contains(tries))
            .map(str::to_owned)
            .collect();
        if tries.len() < TRIES {
            Err(said)
        } else {
            Ok(tries)
        }
    });
    let warnings = said.iter().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "{said:?}");
    assert!(
        said[0].contains("WARN") && said[0].contains(&image),
        "{said:?}"
    );
    stage.cancel(&run);
    let (ended, message) = stage.wait_for_end(&run, &running);
    assert_eq!(ended, "Cancelled", "{message}");
}

#[test]
fn a_worker_that_dies_leaves_its_containers_to_the_next() {
    let stage = Stage::set();
    let commands = [
        "sh -c 'sleep 1; exit 0'",
        "sh -c 'sleep 1; exit 4'",
        "sleep 600",
    ];
    let runs = commands.map(|command| stage.run(command, &json!({})));
    let worker = stage.worker();
    let first = worker.start(&["--pool", POOL, "--name", "ada"]);
    for run in &runs {
        wait::until("a container is there", BOUND, || {
            containers_of(run, true).pop().ok_or_else(|| first.stderr())
        });
    }
    let last = wait_for_container(&runs[2], &first);
    first.signal(Signal::SIGKILL);
    first.finish();
    let over =
        || containers_of(&runs[0], false).is_empty() && containers_of(&runs[1], false).is_empty();
    assert!(wait::holds(BOUND, over), "they do not end");

    let second = worker.start(&["--pool", POOL, "--name", "ada"]);
    let (ended, _) = stage.wait_for_end(&runs[0], &second);
    assert_eq!(ended, "Completed");
    let (ended, message) = stage.wait_for_end(&runs[1], &second);
    assert_eq!(
        (ended.as_str(), message.contains("code 4")),
        ("Crashed", true),
        "{message}"
    );
    assert_eq!(containers_of(&runs[2], true), [last]);
    stage.cancel(&runs[2]);
    let (ended, _) = stage.wait_for_end(&runs[2], &second);
    assert_eq!(ended, "Cancelled");
}
