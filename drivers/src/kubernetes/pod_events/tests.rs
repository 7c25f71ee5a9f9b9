//! What is expected was told by the reference's observer of the same pods (prefect-kubernetes 0.8.0).

use serde_json::{Value, json};

use super::{Happening, Last, Pod, Sighting, Timestamp, happening, names};

const MADE: &str = "2026-11-21T10:00:00Z";
const NOW: &str = "2026-11-21T10:01:00Z";

fn pod(uid: &str, status: &Value) -> Pod {
    let pod = json!({
        "metadata": {
            "name": "wise-chicken-x", "namespace": "flows", "uid": uid, "creationTimestamp": MADE,
            "labels": {
                "prefect-worker.io/job": "11111111-1111-4111-8111-111111111111.1",
                "prefect.io/flow-run-id": "11111111-1111-4111-8111-111111111111",
                "prefect.io/flow-run-name": "wise-chicken",
                "other": "x",
            },
        },
        "status": status,
    });
    serde_json::from_value(pod).expect("it is one")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn container(restarts: u32, state: &Value) -> Value {
    json!({"name": "prefect-job", "restartCount": restarts, "state": state, "image": "", "imageID": "", "ready": false})
}

/// Sees a pod, and remembers what was told of it.
fn see(last: &mut Option<Last>, pod: &Pod, sighting: Sighting) -> Option<Happening> {
    let told = happening(pod, sighting, last.as_ref(), at(NOW))?;
    *last = Some(Last {
        id: told.id,
        occurred: told.occurred,
        cluster: "home".to_owned(),
        namespace: "flows".to_owned(),
    });
    Some(told)
}

/// Name, id, time and the labels beyond those that each pod has, in the place of which there is a dash.
fn row(told: &Happening) -> (String, String, String, String) {
    let own = ["kubernetes.diagnosis", "kubernetes.reason"];
    let own = own.map(|label| told.resource.get(label).map_or("-", String::as_str));
    (
        told.name["prefect.kubernetes.pod.".len()..].to_owned(),
        told.id.to_string(),
        told.occurred.to_string(),
        own.join(" "),
    )
}

/// The ways of a pod that finds its node late, its image later, and ends badly.
fn ways() -> [Value; 6] {
    let unplaced = "0/3 nodes are available: 3 Insufficient cpu.";
    let running = json!({"running": {"startedAt": "2026-11-21T10:00:05Z"}});
    let loops = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let ended = |reason: &str, at: &str| json!({"terminated": {"finishedAt": at, "reason": reason, "exitCode": 1}});
    [
        json!({"phase": "Pending"}),
        json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unplaced,
        }]}),
        json!({
            "phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [container(0, &json!({"waiting": {"reason": "ErrImagePull"}}))],
        }),
        json!({
            "phase": "Running", "startTime": "2026-11-21T10:00:01Z",
            "containerStatuses": [container(0, &running)],
        }),
        json!({
            "phase": "Running", "startTime": "2026-11-21T10:00:01Z",
            "containerStatuses": [container(2, &loops)],
        }),
        json!({
            "phase": "Failed",
            "initContainerStatuses": [container(0, &ended("Completed", "2026-11-21T10:00:07Z"))],
            "containerStatuses": [container(2, &ended("OOMKilled", "2026-11-21T10:00:09Z"))],
        }),
    ]
}

/// What the reference told of them.
const TOLD: [(&str, &str, &str, &str); 6] = [
    (
        "pending",
        "86f9fb5a-78ba-56ea-9d4c-20531b5c32fb",
        MADE,
        "- -",
    ),
    (
        "pending",
        "3f9a9b41-29fa-5343-b894-343fdbe15bde",
        MADE,
        "Unschedulable.InsufficientResources -",
    ),
    (
        "pending",
        "bd1b8a38-b7c7-550f-bee7-f959c1da8fec",
        MADE,
        "ImagePullError -",
    ),
    (
        "running",
        "8e601b17-33ce-5ba0-81e8-cd1999a0ada1",
        "2026-11-21T10:00:05Z",
        "- -",
    ),
    (
        "running",
        "ca9041a7-b3df-51a2-8a58-3d1f346325ea",
        "2026-11-21T10:00:01Z",
        "CrashLoopBackOff -",
    ),
    (
        "evicted",
        "d1906f36-7b9c-5460-beb2-34ebb71cef8d",
        "2026-11-21T10:00:09Z",
        "OOMKilled OOMKilled",
    ),
];

#[test]
fn a_pod_is_told_of_as_the_reference_does_with_its_ids_and_each_after_the_last() {
    let mut last = None;
    let mut rows = Vec::new();
    let mut before = None;
    for step in &ways() {
        let pod = pod("pod-1", step);
        let told = see(&mut last, &pod, Sighting::Watched).expect("it is news");
        assert_eq!(told.follows, before, "{}", told.name);
        before = Some(told.id);
        rows.push(row(&told));
        assert_eq!(see(&mut last, &pod, Sighting::Watched), None, "told twice");
    }
    let expected = TOLD.map(|(name, id, at, labels)| {
        (
            name.to_owned(),
            id.to_owned(),
            at.to_owned(),
            labels.to_owned(),
        )
    });
    assert_eq!(rows, expected);
}

#[test]
fn a_failed_pod_that_was_not_watched_on_its_way_is_told_as_failed() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted"});
    for sighting in [Sighting::Listed, Sighting::Deleted] {
        let told = see(&mut None, &pod("pod-DELETED", &evicted), sighting);
        let told = told.expect("it is news");
        assert_eq!(
            row(&told),
            (
                "failed".to_owned(),
                "c50f233f-363e-5968-b603-936b0ec97250".to_owned(),
                NOW.to_owned(),
                "Evicted -".to_owned()
            )
        );
    }
}

#[test]
fn what_an_earlier_process_may_have_told_says_so() {
    let running = pod("pod-1", &json!({"phase": "Running"}));
    let succeeded = pod("pod-1", &json!({"phase": "Succeeded"}));
    let mut last = None;
    let told = see(&mut last, &running, Sighting::Listed).expect("it is news");
    assert_eq!(told.told_since, Some(at(MADE)));
    // It was there all the time, so nobody else has seen more of it.
    let told = see(&mut last, &succeeded, Sighting::Listed).expect("it is news");
    assert_eq!(told.told_since, None);
    let told = see(&mut None, &running, Sighting::Watched).expect("it is news");
    assert_eq!(told.told_since, None);
}

#[test]
fn what_happened_long_before_is_not_followed() {
    let mut last = None;
    see(
        &mut last,
        &pod("pod-1", &json!({"phase": "Pending"})),
        Sighting::Watched,
    );
    let begun = json!({"running": {"startedAt": "2026-11-21T10:05:00Z"}});
    let running = json!({"phase": "Running", "containerStatuses": [container(0, &begun)]});
    let told = see(&mut last, &pod("pod-1", &running), Sighting::Watched);
    assert_eq!(told.expect("it is news").follows, None);
}

#[test]
fn labels_are_those_of_prefect_cut_as_the_reference_cuts_them() {
    let long = "a-".repeat(40);
    let mut pod = pod("pod-1", &json!({"phase": "Pending"}));
    let (ours, _) = names::whole_label_value(&long);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert("prefect.io/flow-name".to_owned(), ours.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let whole = json!({"prefect.io/flow-name": long, "prefect.io/none": "x"}).to_string();
    annotations.insert("prefect-worker.io/labels".to_owned(), whole);
    let told = happening(&pod, Sighting::Watched, None, at(NOW)).expect("it is news");
    let cut = names::label_value(&long);
    assert_ne!(cut, ours);
    let expected = [
        (
            "prefect.io/flow-run-id",
            "11111111-1111-4111-8111-111111111111",
        ),
        ("prefect.io/flow-run-name", "wise-chicken"),
        ("prefect.io/flow-name", &cut),
    ];
    let expected = expected.map(|(label, value)| (label.to_owned(), value.to_owned()));
    assert_eq!(told.labels, expected.into());
}

#[test]
fn a_pod_of_no_flow_run_is_not_told_of() {
    let mut pod = pod("pod-1", &json!({"phase": "Pending"}));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.remove("prefect.io/flow-run-id");
    assert_eq!(happening(&pod, Sighting::Watched, None, at(NOW)), None);
}
