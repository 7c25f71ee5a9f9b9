//! Several clusters of one worker: a job is where its block says, and is watched, ended and found again there and nowhere else.

use std::net::TcpListener;

use serde_json::json;
use worker_tests::{kubelet::Step, wait};

use crate::stage::{BOUND, POOL, SEEN, Stage};

#[test]
fn jobs_are_where_their_blocks_say() {
    let stage = Stage::set();
    let config = json!({"config": stage.kubeconfig_to(&stage.other_way), "context_name": "test"});
    let there = json!({"cluster_config": config});
    let here = [
        stage.run("start", &json!({})),
        stage.run("start", &json!({})),
    ];
    let there = [stage.run("start", &there), stage.run("start", &there)];
    let program = stage.worker();
    let worker = program.start(&["--pool", POOL]);
    for run in here.iter().chain(&there) {
        stage.wait_until_runs(run, &worker);
    }
    for way in [&stage.way, &stage.other_way] {
        assert_eq!(way.counts().get("create jobs"), Some(&2));
        let one_each = [("watch jobs".to_owned(), 1), ("watch pods".to_owned(), 1)];
        let is_watched = || way.most_watches() == one_each.clone().into();
        let seen = || {
            format!(
                "{:?} {:?}; {}",
                way.counts(),
                way.most_watches(),
                worker.stderr()
            )
        };
        assert!(wait::holds(SEEN, is_watched), "{}", seen());
    }
    // What happens to one cluster is nothing to the jobs of another.
    stage.way.reset("");
    for runs in [&here, &there] {
        stage.cancel(&runs[0]);
        let (ended, message) = stage.wait_for_end_within(BOUND, &runs[0], &worker);
        assert_eq!(ended, "Cancelled", "{message}");
        stage.kubelet.play(&runs[1], &Step::Exit(3));
        let (ended, message) = stage.wait_for_end_within(BOUND, &runs[1], &worker);
        assert_eq!(ended, "Crashed", "{message}");
    }
    let all = || here.iter().chain(&there);
    let is_tidy = || all().all(|run| stage.jobs(run).is_empty());
    let is_tidy = wait::holds(BOUND, is_tidy);
    let left: Vec<_> = all().flat_map(|run| stage.jobs(run)).collect();
    assert!(is_tidy, "{left:?}; {}", worker.stderr());
    for way in [&stage.way, &stage.other_way] {
        let deleted = way.counts().get("delete jobs").copied();
        assert!(
            deleted >= Some(2),
            "the Jobs of each way were deleted over it: {:?}",
            way.counts()
        );
    }
}

#[test]
fn a_worker_that_comes_back_finds_the_way_to_a_cluster_that_a_block_names() {
    let stage = Stage::set();
    let config = json!({"config": stage.kubeconfig_to(&stage.other_way), "context_name": "test"});
    let block = json!({"cluster_config": config});
    let runs = [stage.run("start", &block), stage.run("start", &block)];
    let program = stage.worker();
    let arguments = ["--pool", POOL, "--name", "ada"];
    let worker = program.start(&arguments);
    for run in &runs {
        stage.wait_until_runs(run, &worker);
    }
    drop(worker);

    // One is cancelled and one ends while nobody looks. The next process has no other run that would show it the way.
    stage.cancel(&runs[0]);
    stage.kubelet.play(&runs[1], &Step::Exit(3));
    let worker = program.start(&arguments);
    for (run, end) in runs.iter().zip(["Cancelled", "Crashed"]) {
        let (ended, message) = stage.wait_for_end_within(BOUND, run, &worker);
        assert_eq!(ended, end, "{message}; {}", worker.stderr());
        let is_gone = || stage.jobs(run).is_empty();
        assert!(wait::holds(BOUND, is_gone), "{:?}", stage.jobs(run));
    }
}

#[test]
fn a_job_on_a_cluster_to_which_there_is_no_way_is_left_alone() {
    let stage = Stage::set();
    let config = json!({"config": stage.kubeconfig_to(&stage.other_way), "context_name": "test"});
    let there = json!({"cluster_config": config});
    let run = stage.run("start", &there);
    let program = stage.worker();
    let arguments = ["--pool", POOL, "--name", "ada"];
    let worker = program.start(&arguments);
    stage.wait_until_runs(&run, &worker);
    drop(worker);

    // Somebody takes the block away. The Job of the same name in its own cluster is not the one that the next process may touch.
    stage.change_deployment(&run, &json!({"job_variables": {"command": "start"}}));
    let worker = program.start(&arguments);
    stage.cancel(&run);
    let says = || worker.stderr().contains("knows no way");
    assert!(wait::holds(BOUND, says), "{}", worker.stderr());
    assert_ne!(stage.state(&run).0, "Cancelled");
    assert_eq!(stage.jobs(&run).len(), 1);

    // Another run with the block shows the way.
    let shows = stage.run("start exit:0", &there);
    let (ended, message) = stage.wait_for_end_within(BOUND, &shows, &worker);
    assert_eq!(ended, "Completed", "{message}");
    let (ended, message) = stage.wait_for_end_within(BOUND, &run, &worker);
    assert_eq!(ended, "Cancelled", "{message}; {}", worker.stderr());
}

#[test]
fn a_cluster_that_does_not_answer_holds_up_nobody_elses_jobs() {
    let stage = Stage::set();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let nowhere = nobody.local_addr().expect("it has one");
    drop(nobody);
    let mut away = stage.kubeconfig_to(&stage.other_way);
    away["clusters"][0]["cluster"]["server"] = json!(format!("http://{nowhere}"));
    let away = json!({"cluster_config": {"config": away, "context_name": "test"}});
    let waits = stage.run("start", &away);
    let program = stage.worker();
    let worker = program.start(&["--pool", POOL]);
    let says = || worker.stderr().contains("does not answer");
    assert!(wait::holds(BOUND, says), "{}", worker.stderr());

    // One that is refused at home is told of, and so is one that was never begun there.
    let refused = stage.run("start", &json!({"namespace": "no-such-namespace"}));
    let (ended, message) = stage.wait_for_end_within(BOUND, &refused, &worker);
    assert_eq!(ended, "Crashed", "{message}; {}", worker.stderr());
    stage.cancel(&waits);
    let (ended, message) = stage.wait_for_end_within(BOUND, &waits, &worker);
    assert_eq!(ended, "Cancelled", "{message}; {}", worker.stderr());
}
