//! Many runs at once, several workers at one pool, few slots, one poll.

use std::{collections::BTreeSet, time::Duration};

use http::Method;
use serde_json::json;
use worker_server::Fault;
use worker_tests::wait;

use crate::{
    scene::{BOUND, Scene, lines_of, script, wait_for_status},
    stage::POOL,
};

#[test]
fn two_workers_share_a_pool_and_each_run_runs_once() {
    const RUNS: usize = 100;
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let ran = directory.join("ran");
    let lines = format!(
        "echo \"$PREFECT__FLOW_RUN_ID $PREFECT__WORKER_NAME\" >>{}\n",
        ran.display()
    );
    let deployment = scene.deploy_command(&script(&directory, "job.sh", &lines));
    let (one, other) = (scene.worker(), scene.worker());
    let one = one.start(&["--pool", POOL, "--name", "one", "--limit", "4"]);
    let other = other.start(&["--pool", POOL, "--name", "other", "--limit", "4"]);
    let runs = scene.runs(RUNS, &deployment);
    for run in &runs {
        wait::until("the run is Completed", BOUND, || match scene.state(run) {
            state if state == "Completed" => Ok(()),
            state => Err(format!("{state}\n{}\n{}", one.stderr(), other.stderr())),
        });
    }
    let lines = lines_of(&ran);
    assert_eq!(lines.len(), RUNS, "some ran twice: {lines:?}");
    let column = |number: usize| -> BTreeSet<&str> {
        lines
            .iter()
            .filter_map(|line| line.split(' ').nth(number))
            .collect()
    };
    assert_eq!(column(0), runs.iter().map(String::as_str).collect());
    assert_eq!(column(1), BTreeSet::from(["one", "other"]), "both had some");
}

#[test]
fn a_run_that_is_claimed_again_after_its_end_does_not_run_again_and_gets_its_end_back() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let ran = directory.join("ran");
    let lines = format!("echo \"$PREFECT__WORKER_NAME\" >>{}\n", ran.display());
    let run = scene.run(&scene.deploy_command(&script(&directory, "job.sh", &lines)));
    // The claim of the first worker is on its way for so long that the second has run it before it arrives.
    let (method, claim) = (Method::POST, "/flow_runs/{id}/set_state");
    let late = Fault::Delay(Duration::from_secs(2));
    scene.faults().next(method.clone(), claim, late);
    let (slow, quick) = (scene.worker(), scene.worker());
    let mut arguments = vec!["--pool", POOL, "--with-healthcheck", "--status-port", "0"];
    arguments.extend(["--limit", "1", "--name", "slow"]);
    let slow = slow.start(&arguments);
    let status = wait_for_status(&slow);
    wait::until("the claim is on its way", BOUND, || {
        match scene.requests().count(&method, claim) {
            0 => Err(slow.stderr()),
            _ => Ok(()),
        }
    });
    let quick = quick.start(&["--pool", POOL, "--name", "quick"]);
    scene.wait_for(&run, "Completed", &quick);
    wait::until("the late claim is dealt with", BOUND, || {
        if status.get("/status")["flow_runs"]["held"] == 0 {
            Ok(())
        } else {
            Err(slow.stderr())
        }
    });
    assert_eq!(scene.state(&run), "Completed", "{}", slow.stderr());
    assert_eq!(lines_of(&ran), ["quick"], "{}", slow.stderr());
}

#[test]
fn no_more_runs_run_at_once_than_there_are_slots() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let ran = directory.join("ran");
    let lines = format!(
        "echo + >>{ran}\nsleep 0.2\necho - >>{ran}\n",
        ran = ran.display()
    );
    let deployment = scene.deploy_command(&script(&directory, "job.sh", &lines));
    let runs = scene.runs(8, &deployment);
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL, "--limit", "2"]);
    scene.wait_for_all(&runs, "Completed", &worker);
    let (mut now, mut most) = (0, 0);
    for line in lines_of(&ran) {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!(now, 0);
    assert!(most <= 2, "{most} ran at once");
}

#[test]
fn a_worker_that_polls_once_takes_what_is_due_and_ends_when_it_has_ended() {
    let scene = Scene::set();
    let deployment = scene.deploy_command("true");
    let nothing = scene.worker().run(&["--pool", POOL, "--run-once"]);
    assert_eq!(nothing.code(), 0, "{nothing}");
    let runs = scene.runs(3, &deployment);
    let finished = scene
        .worker()
        .run(&["--pool", POOL, "--run-once"])
        .expect_code(0);
    for run in &runs {
        assert_eq!(scene.state(run), "Completed", "{finished}");
    }
}

#[test]
fn an_urgent_flow_run_of_later_does_not_take_the_place_of_one_that_is_due() {
    let scene = Scene::set();
    let pool = format!("/work_pools/{POOL}");
    scene.api().patch(&pool, &json!({"concurrency_limit": 1}));
    for (queue, priority) in [("urgent", 1), ("calm", 2)] {
        let queue = json!({"name": queue, "priority": priority});
        scene.api().post(&format!("{pool}/queues"), &queue);
    }
    let deploy = |queue: &str| {
        let variables = json!({"command": "true"});
        scene.deploy(
            queue,
            &json!({"work_queue_name": queue, "job_variables": variables}),
        )
    };
    let later = jiff::Timestamp::now() + Duration::from_mins(10);
    let state =
        json!({"type": "SCHEDULED", "state_details": {"scheduled_time": later.to_string()}});
    let path = format!("/deployments/{}/create_flow_run", deploy("urgent"));
    scene.api().post(&path, &json!({ "state": state }));
    let calm = scene.run(&deploy("calm"));
    // So that a poll looks further ahead than ten minutes.
    let program = scene.worker().with("PREFECT_WORKER_QUERY_SECONDS", "3600");
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&calm, "Completed", &worker);
}
