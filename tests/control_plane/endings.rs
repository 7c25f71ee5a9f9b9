//! What a kubelet says of pods, and what the run page makes of it.

use serde_json::{Value, json};
use worker_tests::wait;

use crate::stage::{BOUND, POOL, Stage};

/// What is played, what else its job asks for, the name of its end and what its message says.
type Case = (&'static str, Value, &'static str, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let soon = || json!({"pod_watch_timeout_seconds": 3});
    vec![
        ("start exit:0", json!({}), "Completed", &[]),
        ("start exit:3", json!({}), "Crashed", &["status code 3"]),
        ("start oom", json!({}), "Crashed", &["memory"]),
        ("start fail:Evicted", json!({}), "Crashed", &["evicted"]),
        ("fail:NodeLost", json!({}), "Crashed", &["node was lost"]),
        (
            "start fail:Preempting",
            json!({}),
            "Crashed",
            &["preempted"],
        ),
        (
            "start fail:Shutdown",
            json!({}),
            "Crashed",
            &["node was shut down"],
        ),
        (
            "wait:ImagePullBackOff",
            soon(),
            "Crashed",
            &["never started", "cannot be pulled"],
        ),
        (
            "wait:CreateContainerConfigError",
            soon(),
            "Crashed",
            &["never started", "CreateContainerConfigError"],
        ),
        (
            "wait:ErrImageNeverPull",
            json!({}),
            "Crashed",
            &["never started", "ErrImageNeverPull"],
        ),
    ]
}

#[test]
fn a_run_page_says_what_the_cluster_said() {
    let stage = Stage::set();
    let cases = cases();
    let runs = cases
        .iter()
        .map(|(command, more, ..)| stage.run(command, more));
    let runs: Vec<String> = runs.collect();
    let unplaced = stage.run("unschedulable", &json!({}));
    let worker = stage.worker();
    let worker = worker.start(&["--pool", POOL]);
    for (run, (command, more, state, says)) in runs.iter().zip(&cases) {
        let (ended, message) = stage.wait_for_end_within(BOUND, run, &worker);
        assert_eq!(&ended, state, "{command} {more}: {message}");
        for said in *says {
            assert!(
                message.contains(said),
                "{command}: no {said:?} in {message:?}"
            );
        }
        assert_eq!(stage.kubelet.pods_of(run), 1, "{command}");
    }
    let says_why = || {
        stage
            .log(&unplaced)
            .contains("no node has room for its pod")
    };
    assert!(wait::holds(BOUND, says_why), "{}", stage.log(&unplaced));
    stage.cancel(&unplaced);
    let (ended, message) = stage.wait_for_end_within(BOUND, &unplaced, &worker);
    assert_eq!(ended, "Cancelled", "{message}");
    // A watch of each kind, whatever happened.
    let most = stage.way.most_watches();
    let expected = [("watch jobs".to_owned(), 1), ("watch pods".to_owned(), 1)];
    assert_eq!(most, expected.into(), "{:?}", stage.way.counts());
}
