//! What clusters say that the one of our tests is too old for, as it is documented for 1.26 to 1.33.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{JobSeen, PodSeen, gone, limit, phase},
    KEY, MADE, containers, exited, failed, job, once, pod, reason, terminated,
};
use crate::job::{Outcome, Phase};

fn with_condition(spec: &Value, kind: &str, reason: &str, message: &str) -> JobSeen {
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message});
    job(spec, &json!({"conditions": [condition]}))
}

fn plain() -> Value {
    json!({"backoffLimit": 0, "template": {}})
}

/// The pod as somebody else has disturbed it.
fn disturbed(reason: &str, code: i32) -> PodSeen {
    let mut status = containers("Failed", &terminated(code, "Error"), &terminated(0, ""));
    status["conditions"] = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": MADE},
        {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "as it is said"},
    ]);
    pod(status)
}

#[test]
fn what_a_job_comes_to_is_known_before_its_pods_have_ended() {
    let met = with_condition(&plain(), "SuccessCriteriaMet", "CompletionsReached", "");
    let done = pod(containers(
        "Succeeded",
        &terminated(0, "Completed"),
        &terminated(0, ""),
    ));
    assert_eq!(phase(&met, &[done], None), exited(0));

    let late = with_condition(&plain(), "FailureTarget", "DeadlineExceeded", "too long");
    let runs = || {
        pod(containers(
            "Running",
            &json!({"running": {}}),
            &json!({"running": {}}),
        ))
    };
    assert_eq!(phase(&late, &[runs()], None), Phase::Running);
    // Its pod was deleted by its Job, and by nobody else.
    let mut ended = runs();
    ended.vanish();
    let told = phase(&late, &[ended], None);
    assert!(
        matches!(told, Phase::Exited(Outcome::Lost { .. })),
        "{told:?}"
    );
    assert!(
        reason(&told).contains("DeadlineExceeded: too long"),
        "{told:?}"
    );
    assert!(limit(&late, &[runs()]).is_none());
}

#[test]
fn who_disturbed_a_pod_is_named() {
    let cases = [
        ("PreemptionByScheduler", "was preempted"),
        ("DeletionByTaintManager", "node became unreachable or unfit"),
        ("EvictionByEvictionAPI", "was evicted by request"),
        ("DeletionByPodGC", "node was lost"),
        ("TerminationByKubelet", "node ended its pod"),
    ];
    let failed = with_condition(&plain(), "Failed", "BackoffLimitExceeded", "");
    for (word, says) in cases {
        for job in [&once(), &failed] {
            let told = phase(job, &[disturbed(word, 143)], None);
            for said in [says, word, "exit code 143"] {
                assert!(reason(&told).contains(said), "no {said:?} in {told:?}");
            }
        }
        // It had done its work.
        assert_eq!(phase(&failed, &[disturbed(word, 0)], None), exited(0));
        let mut gone_pod = disturbed(word, 143);
        gone_pod.vanish();
        let told = Phase::Exited(gone(&[gone_pod], None, false));
        assert!(reason(&told).contains(says), "{told:?}");
    }
}

#[test]
fn a_policy_for_failures_leaves_the_name_of_the_end_to_the_pod() {
    let spec = json!({
        "backoffLimit": 3, "template": {},
        "podFailurePolicy": {"rules": [{
            "action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]},
        }]},
    });
    let message = "Container main for pod flows/a-1 failed with exit code 42 matching FailJob rule at index 0";
    for kind in ["FailureTarget", "Failed"] {
        let job = with_condition(&spec, kind, "PodFailurePolicy", message);
        assert_eq!(phase(&job, &[failed(42, "Error")], None), exited(42));
        // Where the pod is gone, the Job says it.
        let told = phase(&job, &[], None);
        assert!(reason(&told).contains("exit code 42"), "{told:?}");
    }
}

#[test]
fn a_failure_that_a_policy_ignores_is_no_end() {
    let spec = json!({
        "backoffLimit": 0, "template": {},
        "podFailurePolicy": {"rules": [{
            "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }]},
    });
    let told = phase(
        &job(&spec, &json!({})),
        &[disturbed("PreemptionByScheduler", 143)],
        None,
    );
    assert!(matches!(told, Phase::Pending(_)), "{told:?}");
    let ended = with_condition(&spec, "Failed", "BackoffLimitExceeded", "");
    assert_eq!(phase(&ended, &[failed(3, "Error")], None), exited(3));
}

#[test]
fn a_job_that_is_suspended_waits_as_long_as_it_is() {
    let spec = json!({"backoffLimit": 0, "suspend": true, "template": {}});
    let waits = job(
        &spec,
        &json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
    );
    assert!(reason(&phase(&waits, &[], None)).contains("suspended"));
    assert!(limit(&waits, &[]).is_none());
}

#[test]
fn the_time_to_start_of_a_job_that_was_suspended_counts_from_when_it_goes_on() {
    let spec = json!({"backoffLimit": 0, "suspend": false, "template": {}});
    let resumed = json!({"type": "Suspended", "status": "False"});
    let before_its_controller = job(&spec, &json!({"conditions": [resumed]}));
    assert!(limit(&before_its_controller, &[]).is_none());
    let started = "2026-11-21T12:00:00Z";
    let goes_on = job(
        &spec,
        &json!({"conditions": [resumed], "startTime": started}),
    );
    let (at, _) = limit(&goes_on, &[]).expect("a pod has to come");
    assert_eq!(at.to_string(), "2026-11-21T12:01:00Z");
}

#[test]
fn a_sidecar_that_was_ended_is_no_reason_for_a_flow_not_to_have_run() {
    let unrecorded = terminated(137, "ContainerStatusUnknown");
    let ended = with_sidecar("Failed", &terminated(143, "Error"), &unrecorded);
    let once = job(&json!({"backoffLimit": 0, "template": {}}), &json!({}));
    let found = phase(&once, &[ended], None);
    assert!(
        matches!(&found, Phase::Exited(Outcome::Lost { .. })),
        "{found:?}"
    );
}

#[test]
fn a_job_that_is_complete_is_so_whatever_its_newest_pod_says() {
    let done = job(
        &json!({"backoffLimit": 3, "template": {}}),
        &json!({"conditions": [{"type": "Complete", "status": "True"}]}),
    );
    assert_eq!(phase(&done, &[failed(143, "Error")], None), exited(0));
}

/// A pod of a newer cluster: its labels have a domain, and its sidecar is an init container that stays.
fn with_sidecar(phase: &str, sidecar: &Value, main: &Value) -> PodSeen {
    let status = |name: &str, state: &Value| json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": "containerd://1"});
    let pod = json!({
        "metadata": {
            "name": "a-1", "namespace": "flows", "uid": "a-1", "creationTimestamp": MADE,
            "labels": {
                "prefect-worker.io/job": KEY, "batch.kubernetes.io/job-name": "a",
                "batch.kubernetes.io/controller-uid": "job",
            },
            "annotations": {"prefect-worker.io/container": "main"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "job", "controller": true}],
        },
        "spec": {
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}],
            "containers": [{"name": "main"}],
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": MADE}],
            "initContainerStatuses": [status("proxy", sidecar)],
            "containerStatuses": [status("main", main)],
        },
    });
    PodSeen::of(&serde_json::from_value(pod).expect("it is one")).expect("it is ours")
}

#[test]
fn a_sidecar_that_stays_neither_holds_up_a_limit_nor_an_end() {
    let (runs, waits) = (
        json!({"running": {}}),
        json!({"waiting": {"reason": "PodInitializing"}}),
    );
    let made: Timestamp = MADE.parse().expect("it is one");
    let starts = with_sidecar("Pending", &runs, &waits);
    assert!(!starts.is_initializing);
    let (at, _) = limit(&once(), &[starts]).expect("a big image takes its time, and no more");
    assert_eq!(at.duration_since(made).as_mins(), 30);
    assert_eq!(
        phase(&once(), &[with_sidecar("Running", &runs, &runs)], None),
        Phase::Running
    );
    // It is asked to end when the flow has, and what it says of that is its own business.
    for (sidecar, pod_phase) in [(runs, "Running"), (terminated(137, "Error"), "Failed")] {
        let ended = with_sidecar(pod_phase, &sidecar, &terminated(4, "Error"));
        assert_eq!(phase(&once(), &[ended], None), exited(4));
    }
    let done = with_sidecar(
        "Succeeded",
        &terminated(143, "Error"),
        &terminated(0, "Completed"),
    );
    assert_eq!(phase(&once(), &[done], None), exited(0));
}
