//! All the ways in which a pod ends, or never begins, what becomes of it when others lay hands on it, and what of a job nobody may read.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};
use worker_config::policy::Policy;
use worker_drivers::{
    Driver, DriverError, JobEvent, LogCursor, Outcome, Owner, Phase, Recovered, RunKey,
    conformance::{Subject as _, fresh_key},
};

use crate::subject::{KubernetesSubject, configuration, job};

const LIMIT: Duration = Duration::from_mins(2);

fn owner() -> Owner {
    Owner(format!("owner-{}", fresh_key().flow_run))
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// A job whose configuration was changed like this, with the stream that tells of it.
async fn start(
    driver: &dyn Driver,
    args: &Value,
    change: impl FnOnce(&mut Value),
) -> Result<(worker_drivers::Handle, BoxStream<'static, JobEvent>), DriverError> {
    let owner = owner();
    let events = driver.events(&owner);
    let mut configuration = configuration(args);
    change(&mut configuration);
    let job = job(fresh_key(), owner, &configuration);
    let plan = driver.plan(&job, &Policy::default())?;
    Ok((driver.submit(&plan).await?.into_handle(), events))
}

/// How a job ended, and what it waited for before.
async fn ended(events: &mut BoxStream<'static, JobEvent>, key: RunKey) -> (Outcome, Vec<String>) {
    let mut waits = Vec::new();
    let ending = async {
        loop {
            let phases = match events.next().await.expect("events never end") {
                JobEvent::Changed { key, phase } => vec![(key, phase)],
                JobEvent::Snapshot(owned) => {
                    let phases = owned.into_iter();
                    phases.map(|one| (one.handle.key, one.phase)).collect()
                }
                JobEvent::Happened(_) => Vec::new(),
                JobEvent::WatchLost { reason } => panic!("the watch was lost: {reason}"),
            };
            for (_, phase) in phases.into_iter().filter(|(one, _)| *one == key) {
                match phase {
                    Phase::Exited(outcome) => return outcome,
                    Phase::Pending(Some(reason)) => waits.push(reason),
                    Phase::Pending(None) | Phase::Running => {}
                }
            }
        }
    };
    let outcome = tokio::time::timeout(LIMIT, ending).await;
    (outcome.expect("it ends"), waits)
}

async fn running(events: &mut BoxStream<'static, JobEvent>, key: RunKey) {
    let begins = async {
        while let Some(event) = events.next().await {
            let phase = match event {
                JobEvent::Changed { key: one, phase } if one == key => Some(phase),
                JobEvent::Snapshot(owned) => {
                    let mut owned = owned.into_iter();
                    owned.find(|one| one.handle.key == key).map(|one| one.phase)
                }
                _ => None,
            };
            if phase == Some(Phase::Running) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, begins)
        .await
        .expect("it begins");
}

/// A change of the container of a job.
fn container(fields: Value) -> impl FnOnce(&mut Value) {
    move |configuration| {
        let path = "/job_manifest/spec/template/spec/containers/0";
        let container = configuration.pointer_mut(path).expect("it has one");
        let container = container.as_object_mut().expect("it is an object");
        container.extend(fields.as_object().expect("it is an object").clone());
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_and_nothing_is_left() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let (handle, mut events) = start(driver.as_ref(), &json!(["true"]), |configuration| {
        container(json!({"image": "127.0.0.1:1/nope:1"}))(configuration);
        configuration["pod_watch_timeout_seconds"] = json!(5);
    })
    .await
    .expect("it is begun");
    let (outcome, waits) = ended(&mut events, handle.key).await;
    let Outcome::NeverStarted { reason } = outcome else {
        panic!("it has no image: {outcome:?}");
    };
    for said in [
        "127.0.0.1:1/nope:1",
        "cannot be pulled",
        "5 s",
        "connection refused",
    ] {
        assert!(reason.contains(said), "no {said:?} in {reason:?}");
    }
    assert!(
        waits.iter().any(|reason| reason.contains("ErrImagePull")),
        "{waits:?}"
    );
    assert!(subject.jobs(handle.key).await.is_empty());
    assert!(subject.pods(handle.key).await.is_empty());
    driver
        .destroy(handle.key)
        .await
        .expect("it is gone already");
}

#[tokio::test]
async fn what_can_never_start_is_given_up_at_once() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let absent = json!({"image": "worker-test/absent:1", "imagePullPolicy": "Never"});
    let (handle, mut events) = start(driver.as_ref(), &json!(["true"]), container(absent))
        .await
        .expect("it is begun");
    let (outcome, _) = ended(&mut events, handle.key).await;
    let Outcome::NeverStarted { reason } = outcome else {
        panic!("it has no image: {outcome:?}");
    };
    assert!(reason.contains("ErrImageNeverPull"), "{reason}");
}

#[tokio::test]
async fn a_configuration_that_is_missing_is_named() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let from = json!({"secretKeyRef": {"name": "no-such-secret", "key": "a"}});
    let env = json!({"env": [{"name": "A", "valueFrom": from}]});
    let (handle, mut events) = start(driver.as_ref(), &json!(["true"]), |configuration| {
        container(env)(configuration);
        configuration["pod_watch_timeout_seconds"] = json!(4);
    })
    .await
    .expect("it is begun");
    let (outcome, _) = ended(&mut events, handle.key).await;
    let Outcome::NeverStarted { reason } = outcome else {
        panic!("it lacks a secret: {outcome:?}");
    };
    for said in ["CreateContainerConfigError", "no-such-secret"] {
        assert!(reason.contains(said), "no {said:?} in {reason:?}");
    }
}

/// Where the runtime hears of the end before it hears of its reason, the cluster knows nothing of memory, and nobody after it.
#[tokio::test]
async fn too_much_memory_is_told_with_the_limit() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let eats = shell("dd if=/dev/zero of=/dev/null bs=200M count=3");
    let mut told = Vec::new();
    while told.len() < 5 {
        let limits = json!({"resources": {"limits": {"memory": "32Mi"}}});
        // Who shares the pod's processes is not the first of them, and only that one's end for lack of memory is told.
        let (handle, mut events) = start(driver.as_ref(), &eats, |configuration| {
            container(limits)(configuration);
            let path = "/job_manifest/spec/template/spec/shareProcessNamespace";
            *configuration.pointer_mut(path).expect("it has one") = json!(false);
        })
        .await
        .expect("it is begun");
        let (outcome, _) = ended(&mut events, handle.key).await;
        driver.destroy(handle.key).await.expect("it can be removed");
        let limit = Some(32 << 20);
        if outcome == (Outcome::OutOfMemory { limit }) {
            return;
        }
        assert!(
            matches!(outcome, Outcome::Signalled { signal: 9, .. }),
            "{outcome:?}"
        );
        told.push(outcome);
    }
    panic!("memory ran out, and this was told: {told:?}");
}

#[tokio::test]
async fn a_job_that_waits_for_a_node_says_so_and_can_be_stopped() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let huge = json!({"resources": {"requests": {"cpu": "640"}}});
    let (handle, mut events) = start(driver.as_ref(), &json!(["true"]), |configuration| {
        container(huge)(configuration);
        // An autoscaler may be at work: this is not for waiting for a node.
        configuration["pod_watch_timeout_seconds"] = json!(1);
    })
    .await
    .expect("it is begun");
    let waits = async {
        loop {
            let phases = match events.next().await.expect("events never end") {
                JobEvent::Changed { phase, .. } => vec![phase],
                JobEvent::Snapshot(owned) => owned.into_iter().map(|one| one.phase).collect(),
                JobEvent::Happened(_) => Vec::new(),
                JobEvent::WatchLost { reason } => panic!("the watch was lost: {reason}"),
            };
            for phase in phases {
                if let Phase::Pending(Some(reason)) = phase
                    && reason.contains("no node has room")
                {
                    return reason;
                }
            }
        }
    };
    let reason = tokio::time::timeout(LIMIT, waits).await;
    let reason = reason.expect("it is said");
    assert!(reason.contains("Insufficient cpu"), "{reason}");
    driver.destroy(handle.key).await.expect("it can be removed");
    assert!(subject.jobs(handle.key).await.is_empty());
}

#[tokio::test]
async fn a_deadline_of_the_cluster_or_of_the_pool_ends_a_job() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let sleeps = json!(["sleep", "600"]);
    let (clusters, mut clusters_events) = start(driver.as_ref(), &sleeps, |configuration| {
        configuration["job_manifest"]["spec"]["activeDeadlineSeconds"] = json!(4);
    })
    .await
    .expect("it is begun");
    let (pools, mut pools_events) = start(driver.as_ref(), &sleeps, |configuration| {
        configuration["job_watch_timeout_seconds"] = json!(4);
    })
    .await
    .expect("it is begun");
    let (outcome, _) = ended(&mut clusters_events, clusters.key).await;
    assert!(
        matches!(&outcome, Outcome::Lost { reason } if reason.contains("DeadlineExceeded")),
        "{outcome:?}"
    );
    let (outcome, _) = ended(&mut pools_events, pools.key).await;
    assert!(
        matches!(&outcome, Outcome::Lost { reason } if reason.contains("job_watch_timeout_seconds of 4 s")),
        "{outcome:?}"
    );
    assert!(subject.jobs(pools.key).await.is_empty());
    assert!(subject.pods(pools.key).await.is_empty());
    driver
        .destroy(clusters.key)
        .await
        .expect("it can be removed");
}

#[tokio::test]
async fn a_job_that_somebody_deletes_is_told_once() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let (handle, mut events) = start(driver.as_ref(), &json!(["sleep", "600"]), |configuration| {
        let path = "/job_manifest/spec/template/spec";
        let pod = configuration.pointer_mut(path).expect("it has one");
        pod["terminationGracePeriodSeconds"] = json!(1);
    })
    .await
    .expect("it is begun");
    running(&mut events, handle.key).await;
    subject.delete_job(handle.key).await;
    let (outcome, _) = ended(&mut events, handle.key).await;
    let Outcome::Lost { reason } = &outcome else {
        panic!("it was deleted: {outcome:?}");
    };
    assert!(reason.contains("deleted"), "{reason}");
    assert_eq!(
        driver.recover(&handle).await.expect("it is known"),
        Recovered::Exited(outcome)
    );
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_named() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let (handle, mut events) = start(driver.as_ref(), &json!(["sleep", "600"]), |_| {})
        .await
        .expect("it is begun");
    running(&mut events, handle.key).await;
    subject.delete_pod(handle.key).await;
    let told = async {
        loop {
            match events.next().await.expect("events never end") {
                // The Job may make another, or fail: that is the cluster's to say.
                JobEvent::Changed {
                    phase: Phase::Pending(Some(reason)) | Phase::Exited(Outcome::Lost { reason }),
                    ..
                } if reason.contains("deleted by somebody else") => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("it is said");
    driver.destroy(handle.key).await.expect("it can be removed");
}

#[tokio::test]
async fn a_container_beside_the_job_that_does_not_end_keeps_nobody() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let (handle, mut events) = start(driver.as_ref(), &shell("exit 3"), |configuration| {
        let path = "/job_manifest/spec/template/spec/containers";
        let containers = configuration.pointer_mut(path).expect("it has some");
        let beside = json!({"name": "beside", "image": "busybox:1.35", "imagePullPolicy": "IfNotPresent", "args": ["sleep", "600"]});
        containers.as_array_mut().expect("a list").push(beside);
    })
    .await
    .expect("it is begun");
    let (outcome, _) = ended(&mut events, handle.key).await;
    let code = Outcome::Exited {
        code: 3,
        reported: false,
    };
    assert_eq!(outcome, code);
    driver.destroy(handle.key).await.expect("it can be removed");
    assert!(subject.pods(handle.key).await.is_empty());
}

#[tokio::test]
async fn credentials_reach_the_job_and_nobody_reads_them_in_its_manifest() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let owner = owner();
    let mut job = job(
        fresh_key(),
        owner,
        &configuration(&shell("echo \"got $PREFECT_API_KEY\"; sleep 600")),
    );
    let key = "PREFECT_API_KEY".to_owned();
    job.environment.0 = BTreeMap::from([(key, "canary-1".to_owned())]);
    let plan = driver.plan(&job, &Policy::default()).expect("it fits");
    let handle = driver
        .submit(&plan)
        .await
        .expect("it is begun")
        .into_handle();
    let mut lines = driver.logs(&handle, LogCursor::default());
    let line = tokio::time::timeout(LIMIT, lines.next()).await;
    let line = line.expect("it writes").expect("it has not ended");
    assert_eq!(line.expect("it can be read").text, "got canary-1");
    let shown = format!(
        "{:?}{:?}",
        subject.jobs(handle.key).await,
        subject.pods(handle.key).await
    );
    assert!(!shown.contains("canary"), "{shown}");
    let secrets = subject.secrets(handle.key).await;
    assert_eq!(secrets.len(), 1);
    let owners = secrets[0].metadata.owner_references.as_deref();
    let owners: Vec<&str> = owners
        .iter()
        .flat_map(|it| it.iter())
        .map(|one| one.kind.as_str())
        .collect();
    assert_eq!(owners, ["Job"]);
    driver.destroy(handle.key).await.expect("it can be removed");
    let gone = async {
        while !subject.secrets(handle.key).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone)
        .await
        .expect("it goes with its job");
}

#[tokio::test]
async fn a_job_with_a_ttl_stays_for_people_and_is_nobodys() {
    let subject = KubernetesSubject::new().await;
    let driver = subject.driver().await;
    let (handle, mut events) = start(driver.as_ref(), &json!(["true"]), |configuration| {
        configuration["job_manifest"]["spec"]["ttlSecondsAfterFinished"] = json!(600);
    })
    .await
    .expect("it is begun");
    ended(&mut events, handle.key).await;
    driver.destroy(handle.key).await.expect("it can be let go");
    assert_eq!(subject.jobs(handle.key).await.len(), 1);
    subject.delete_job(handle.key).await;
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_left_to_them() {
    let subject = KubernetesSubject::new().await;
    let (ours, theirs) = (subject.driver().await, subject.driver().await);
    let name = format!("taken-{}", fresh_key().flow_run);
    let named = |configuration: &mut Value| {
        configuration["job_manifest"]["metadata"]["name"] = json!(name);
    };
    let sleeps = json!(["sleep", "600"]);
    let (handle, _events) = start(theirs.as_ref(), &sleeps, named)
        .await
        .expect("it is begun");
    let taken = start(ours.as_ref(), &sleeps, named).await.err();
    assert!(
        matches!(taken, Some(DriverError::Conflict { .. })),
        "{taken:?}"
    );
    assert_eq!(
        theirs.recover(&handle).await.expect("it is known"),
        Recovered::Running
    );
    theirs.destroy(handle.key).await.expect("it can be removed");
}
