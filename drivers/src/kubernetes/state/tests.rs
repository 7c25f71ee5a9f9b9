mod newer;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{EndedByUs, JobSeen, PodSeen, gone, limit, phase};
use crate::job::{Outcome, Phase};

const KEY: &str = "11111111-1111-4111-8111-111111111111.1";
const MADE: &str = "2026-11-21T10:00:00Z";

fn job(spec: &Value, status: &Value) -> JobSeen {
    let job = json!({
        "metadata": {
            "name": "a", "namespace": "flows", "uid": "job", "creationTimestamp": MADE,
            "labels": {"prefect-worker.io/job": KEY},
            "annotations": {"prefect-worker.io/pod-watch-timeout-seconds": "60"},
        },
        "spec": spec,
        "status": status,
    });
    JobSeen::of(&serde_json::from_value(job).expect("it is one")).expect("it is ours")
}

fn once() -> JobSeen {
    job(&json!({"backoffLimit": 0, "template": {}}), &json!({}))
}

fn ended(kind: &str, reason: &str) -> JobSeen {
    let condition =
        json!({"type": kind, "status": "True", "reason": reason, "message": "so it is"});
    job(
        &json!({"backoffLimit": 0, "template": {}}),
        &json!({"conditions": [condition]}),
    )
}

fn pod(status: Value) -> PodSeen {
    named_pod("a-1", MADE, status)
}

fn named_pod(name: &str, made: &str, mut status: Value) -> PodSeen {
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": MADE});
    if status.get("conditions").is_none() {
        status["conditions"] = json!([scheduled]);
    }
    let limits = json!({"limits": {"memory": "32Mi"}});
    let pod = json!({
        "metadata": {
            "name": name, "namespace": "flows", "uid": name, "creationTimestamp": made,
            "labels": {"prefect-worker.io/job": KEY},
            "annotations": {"prefect-worker.io/container": "main"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "job"}],
        },
        // Somebody has put a container before ours.
        "spec": {"containers": [{"name": "beside"}, {"name": "main", "resources": limits}]},
        "status": status,
    });
    PodSeen::of(&serde_json::from_value(pod).expect("it is one")).expect("it is ours")
}

/// The id of a container that there is or was.
fn id(state: &Value) -> Value {
    let was_made = state.get("waiting").is_none();
    if was_made {
        json!("containerd://8c9c")
    } else {
        json!("")
    }
}

fn containers(phase: &str, main: &Value, beside: &Value) -> Value {
    let status = |name: &str, state: &Value| json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": id(state)});
    json!({"phase": phase, "containerStatuses": [status("beside", beside), status("main", main)]})
}

fn terminated(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": "said"}})
}

fn failed(code: i32, reason: &str) -> PodSeen {
    let main = terminated(code, reason);
    pod(containers("Failed", &main, &terminated(0, "Completed")))
}

fn exited(code: i32) -> Phase {
    Phase::Exited(Outcome::Exited {
        code,
        reported: false,
    })
}

fn reason(phase: &Phase) -> &str {
    match phase {
        Phase::Pending(Some(reason))
        | Phase::Exited(Outcome::Lost { reason } | Outcome::NeverStarted { reason }) => reason,
        other => panic!("no reason in {other:?}"),
    }
}

#[test]
fn the_container_that_runs_the_flow_says_how_it_ended() {
    assert_eq!(phase(&once(), &[failed(3, "Error")], None), exited(3));
    let killed = Phase::Exited(Outcome::Signalled {
        signal: 9,
        by_us: false,
    });
    assert_eq!(phase(&once(), &[failed(137, "Error")], None), killed);
    let memory = Phase::Exited(Outcome::OutOfMemory {
        limit: Some(32 << 20),
    });
    assert_eq!(phase(&once(), &[failed(137, "OOMKilled")], None), memory);
    let never = phase(&once(), &[failed(128, "StartError")], None);
    assert!(matches!(never, Phase::Exited(Outcome::NeverStarted { .. })));
    assert!(reason(&never).contains("said"), "{never:?}");
}

#[test]
fn a_container_beside_it_that_goes_on_does_not_matter() {
    let beside = json!({"running": {"startedAt": MADE}});
    for code in [0, 3] {
        let main = terminated(code, "");
        let pods = [pod(containers("Running", &main, &beside))];
        assert_eq!(phase(&once(), &pods, None), exited(code));
    }
    let early = pod(containers(
        "Running",
        &json!({"running": {}}),
        &terminated(0, ""),
    ));
    assert_eq!(phase(&once(), &[early], None), Phase::Running);
}

#[test]
fn what_others_did_to_a_pod_is_named() {
    for (why, named) in [
        ("Evicted", "evicted"),
        ("Preempting", "preempted"),
        ("NodeLost", "node was lost"),
        ("DeadlineExceeded", "DeadlineExceeded"),
        ("UnexpectedAdmissionError", "UnexpectedAdmissionError"),
    ] {
        let status = json!({"phase": "Failed", "reason": why, "message": "The node was low"});
        let found = phase(&once(), &[pod(status)], None);
        assert!(reason(&found).contains(named), "{found:?}");
        assert!(reason(&found).contains("The node was low"), "{found:?}");
    }
    let disrupted = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "room for another"});
    let mut status = containers("Failed", &terminated(143, "Error"), &terminated(0, ""));
    status["conditions"] = json!([disrupted]);
    let found = phase(&once(), &[pod(status)], None);
    assert!(reason(&found).contains("preempted"), "{found:?}");
}

#[test]
fn the_job_is_waited_for_where_it_tries_again() {
    let thrice = job(&json!({"backoffLimit": 3, "template": {}}), &json!({}));
    let one = failed(3, "Error");
    let waits = phase(&thrice, std::slice::from_ref(&one), None);
    assert!(reason(&waits).contains("exit code 3"), "{waits:?}");
    let runs = containers("Running", &json!({"running": {}}), &json!({"running": {}}));
    let two = named_pod("a-2", "2026-11-21T10:00:09Z", runs);
    assert_eq!(phase(&thrice, &[two, one.clone()], None), Phase::Running);
    let over = ended("Failed", "BackoffLimitExceeded");
    assert_eq!(phase(&over, &[one], None), exited(3));
}

#[test]
fn the_end_of_a_job_is_told_when_its_pods_have_ended() {
    let over = ended("Failed", "DeadlineExceeded");
    let runs = pod(containers("Running", &json!({"running": {}}), &json!({})));
    assert_eq!(phase(&over, &[runs], None), Phase::Running);
    let found = phase(&over, &[failed(143, "Error")], None);
    assert!(reason(&found).contains("DeadlineExceeded"), "{found:?}");
    assert_eq!(phase(&ended("Complete", ""), &[], None), exited(0));
}

#[test]
fn who_asked_for_the_end_has_it_told_as_theirs() {
    let by_us = Some(EndedByUs::Asked { had_begun: false });
    let polite = Outcome::Signalled {
        signal: 15,
        by_us: true,
    };
    assert_eq!(gone(&[], by_us.as_ref(), false), polite);
    assert_eq!(gone(&[failed(143, "Error")], by_us.as_ref(), false), polite);
    let outcome = Outcome::NeverStarted {
        reason: "too late".to_owned(),
    };
    let given_up = Some(EndedByUs::GivenUp(outcome.clone()));
    // Nobody is told before it is gone.
    let pods = [failed(3, "Error")];
    assert_eq!(phase(&once(), &pods, given_up.as_ref()), Phase::Running);
    assert_eq!(gone(&pods, given_up.as_ref(), false), outcome);
    let mut vanished = failed(143, "Error");
    vanished.vanish();
    let Outcome::Lost { reason } = gone(&[vanished], None, false) else {
        panic!("nobody of ours did it");
    };
    assert!(reason.contains("deleted"), "{reason}");
}

#[test]
fn an_init_container_that_failed_is_named_with_what_it_said() {
    let mut status = containers("Failed", &json!({"waiting": {}}), &json!({"waiting": {}}));
    status["initContainerStatuses"] = json!([{
        "name": "prefect-pull", "state": terminated(1, "Error"),
        "image": "", "imageID": "", "ready": false, "restartCount": 0,
    }]);
    let found = phase(&once(), &[pod(status)], None);
    assert!(
        matches!(&found, Phase::Exited(Outcome::NeverStarted { reason })
            if reason == "its init container prefect-pull ended with exit code 1: said"),
        "{found:?}"
    );
}

#[test]
fn an_end_that_was_not_recorded_is_not_made_up() {
    let unknown = terminated(137, "ContainerStatusUnknown");
    let missed = failed(137, "ContainerStatusUnknown");
    let mut missed_early = containers("Failed", &json!({"waiting": {}}), &json!({}));
    missed_early["containerStatuses"][1]["lastState"] = unknown;
    let runs = containers("Running", &json!({"running": {}}), &json!({"running": {}}));
    let before = EndedByUs::Asked { had_begun: false };
    for mut pod in [missed, pod(missed_early), pod(runs)] {
        pod.vanish();
        let outcome = gone(&[pod], Some(&before), false);
        assert!(
            matches!(&outcome, Outcome::Lost { reason } if reason.contains("did not record")),
            "{outcome:?}"
        );
    }
    let unseen = gone(&[], Some(&EndedByUs::Asked { had_begun: true }), false);
    assert!(matches!(unseen, Outcome::Lost { .. }), "{unseen:?}");
    let by_itself = phase(&once(), &[failed(137, "ContainerStatusUnknown")], None);
    assert!(
        reason(&by_itself).contains("did not record"),
        "{by_itself:?}"
    );
}

#[test]
fn a_container_that_was_never_made_had_not_begun() {
    let unknown = terminated(137, "ContainerStatusUnknown");
    let mut status = containers("Failed", &unknown, &json!({"waiting": {}}));
    status["containerStatuses"][1]["containerID"] = json!("");
    let early = pod(status);
    let asked = EndedByUs::Asked { had_begun: false };
    let polite = Outcome::Signalled {
        signal: 15,
        by_us: true,
    };
    let found = phase(&once(), std::slice::from_ref(&early), Some(&asked));
    assert_eq!(found, Phase::Exited(polite.clone()));
    assert_eq!(gone(&[early], Some(&asked), true), polite);
}

#[test]
fn a_pod_that_was_replaced_is_named_while_the_next_waits() {
    let mut one = failed(143, "Error");
    one.vanish();
    let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
    let two = containers("Pending", &waiting, &waiting);
    let two = named_pod("a-2", "2026-11-21T10:00:09Z", two);
    let found = phase(&once(), &[one, two], None);
    assert!(
        reason(&found).starts_with("its pod was deleted by somebody else"),
        "{found:?}"
    );
}

fn waits(why: &str) -> PodSeen {
    let waiting = json!({"waiting": {"reason": why, "message": "as it says"}});
    pod(containers("Pending", &waiting, &waiting))
}

/// After how long a job with these pods is given up.
fn given_up(job: &JobSeen, pods: &[PodSeen]) -> Option<Duration> {
    let made: Timestamp = MADE.parse().expect("a time");
    let (at, _) = limit(job, pods)?;
    Some(at.duration_since(made).unsigned_abs())
}

#[test]
fn each_reason_to_wait_has_its_own_patience() {
    let minutes = |count: u64| Some(Duration::from_mins(count));
    assert_eq!(given_up(&once(), &[]), minutes(1));
    assert_eq!(given_up(&once(), &[waits("ImagePullBackOff")]), minutes(1));
    let config = waits("CreateContainerConfigError");
    assert_eq!(given_up(&once(), &[config]), minutes(1));
    assert_eq!(
        given_up(&once(), &[waits("ContainerCreating")]),
        minutes(30)
    );
    let hopeless = given_up(&once(), &[waits("ErrImageNeverPull")]);
    assert_eq!(hopeless, Some(Duration::from_secs(3)));
    let nowhere = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"});
    let nowhere = pod(json!({"phase": "Pending", "conditions": [nowhere]}));
    assert_eq!(
        given_up(&once(), std::slice::from_ref(&nowhere)),
        minutes(15)
    );
    let found = phase(&once(), &[nowhere], None);
    assert_eq!(reason(&found), "no node has room for its pod: 0/3 nodes");
    let runs = pod(containers("Running", &json!({"running": {}}), &json!({})));
    assert_eq!(given_up(&once(), std::slice::from_ref(&runs)), None);
    let mut short = once();
    short.job_limit = Some(Duration::from_secs(5));
    assert_eq!(given_up(&short, &[runs]), Some(Duration::from_secs(5)));
}

#[test]
fn a_handle_is_in_the_format_of_the_reference_and_finds_the_job_again() {
    let handle = once().handle("https://cluster/");
    assert_eq!(handle.infrastructure_id, "flows:a");
    assert_eq!(handle.state["uid"], "job");
}
