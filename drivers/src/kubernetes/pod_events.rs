//! What happens to pods, as the reference's observer tells it of them (prefect-kubernetes 0.8.0) and automations wait for it:
//! `prefect.kubernetes.pod.pending`, `.running`, `.succeeded`, `.failed`, `.evicted`. Pure.
//!
//! What a pod's ways mean for a job is not said here but in [`super::state`]. An id is made of what is told, so whoever else watches the pod, and
//! this worker after a restart, tells the same event and no second one.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{diagnosis, names, plan::LABELS, state::key_of};
use crate::job::Happening;

/// What was told of the pods that there are.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By their uids.
    pods: HashMap<String, Last>,
}

/// How a pod came to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// A list of all that is there had it.
    Listed,
    /// A watch told of it.
    Watched,
    /// It is not there any more; this is how it was at last.
    Deleted,
}

/// What was told of a pod last.
#[derive(Debug)]
struct Last {
    id: Uuid,
    occurred: Timestamp,
    cluster: String,
    namespace: String,
}

/// How far apart two events may be for one to follow the other.
const TIGHT: SignedDuration = SignedDuration::from_mins(5);

/// What the labels begin with that say what a flow run has to do with.
const PREFECT: &str = "prefect.io/";

/// The label without which the reference does not look at a pod.
const FLOW_RUN: &str = "prefect.io/flow-run-id";

// === impl Told ===

impl Told {
    /// Takes in a pod as it is now. None: there is nothing to tell that was not told.
    pub(super) fn hear(
        &mut self,
        cluster: &str,
        pod: &Pod,
        sighting: Sighting,
        now: Timestamp,
    ) -> Option<Happening> {
        let uid = pod.metadata.uid.as_deref()?;
        let last = self.pods.get(uid);
        let happening = happening(pod, sighting, last, now);
        if sighting == Sighting::Deleted {
            self.pods.remove(uid);
        } else if let Some(happening) = &happening {
            let last = Last {
                id: happening.id,
                occurred: happening.occurred,
                cluster: cluster.to_owned(),
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            };
            self.pods.insert(uid.to_owned(), last);
        }
        happening
    }

    /// Forgets the pods of a place that a whole list of it lacks.
    pub(super) fn keep(&mut self, listed: &HashSet<String>, is_there: impl Fn(&str, &str) -> bool) {
        self.pods
            .retain(|uid, last| listed.contains(uid) || !is_there(&last.cluster, &last.namespace));
    }
}

fn happening(
    pod: &Pod,
    sighting: Sighting,
    last: Option<&Last>,
    now: Timestamp,
) -> Option<Happening> {
    let metadata = &pod.metadata;
    let status = pod.status.as_ref()?;
    let (uid, phase) = (metadata.uid.as_deref()?, status.phase.as_deref()?);
    let made = metadata.creation_timestamp.as_ref()?.0;
    let key = key_of(metadata)?;
    let labels = labels(metadata);
    if !labels.contains_key(FLOW_RUN) {
        return None;
    }
    let category = diagnosis::find_category(status);
    let id = id(uid, phase, restarts(status), category);
    if last.is_some_and(|last| last.id == id) {
        return None;
    }
    let mut resource: BTreeMap<String, String> = [
        (
            "prefect.resource.id",
            format!("prefect.kubernetes.pod.{uid}"),
        ),
        ("prefect.resource.name", metadata.name.clone()?),
        ("kubernetes.namespace", metadata.namespace.clone()?),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into();
    if let Some(category) = category {
        resource.insert("kubernetes.diagnosis".to_owned(), category.to_owned());
    }
    let mut what = phase.to_lowercase();
    // Any container that says why it ended makes a failure that is watched an eviction, to the reference.
    let is_watched = sighting == Sighting::Watched && last.is_some();
    if is_watched
        && phase == "Failed"
        && let Some(reason) = why_terminated(status)
    {
        "evicted".clone_into(&mut what);
        resource.insert("kubernetes.reason".to_owned(), reason.to_owned());
    }
    let occurred = occurred(phase, status, made).unwrap_or(now);
    let follows = last.filter(|last| occurred.duration_since(last.occurred).abs() < TIGHT);
    // What this process has seen before, it would have told.
    let is_old = sighting == Sighting::Listed && last.is_none();
    Some(Happening {
        key,
        id,
        name: format!("prefect.kubernetes.pod.{what}"),
        occurred,
        resource,
        labels,
        follows: follows.map(|last| last.id),
        told_since: is_old.then_some(made),
    })
}

/// The id of an event: of the very text that the reference makes it of.
fn id(uid: &str, phase: &str, restarts: i64, category: Option<&str>) -> Uuid {
    let [uid, phase, category] = [Some(uid), Some(phase), category].map(Value::from);
    let text = format!(
        r#"{{"diagnosis": {category}, "phase": {phase}, "restart_count": {restarts}, "uid": {uid}}}"#
    );
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
}

/// The labels by which the reference would know what a pod has to do with. Ours tell apart what its would cut.
fn labels(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let labels = metadata.labels.iter().flatten();
    let labels = labels.filter(|(key, _)| key.starts_with(PREFECT));
    let mut labels: BTreeMap<String, String> = labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let whole = metadata.annotations.as_ref();
    let whole = whole.and_then(|annotations| annotations.get(LABELS));
    let whole = whole.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    for (key, value) in whole.iter().flatten() {
        if let (Some(label), Some(value)) = (labels.get_mut(key), value.as_str()) {
            *label = names::label_value(value);
        }
    }
    labels
}

/// When a pod came to its phase, where it says so.
fn occurred(phase: &str, status: &PodStatus, made: Timestamp) -> Option<Timestamp> {
    let mains = || status.container_statuses.iter().flatten();
    let inits = || status.init_container_statuses.iter().flatten();
    match phase {
        "Pending" => Some(made),
        "Running" => {
            let begun = mains().filter_map(|one| {
                let running = one.state.as_ref()?.running.as_ref()?;
                Some(running.started_at.as_ref()?.0)
            });
            let placed = status.start_time.as_ref();
            begun.max().or_else(|| placed.map(|time| time.0))
        }
        "Succeeded" | "Failed" => {
            let ended = inits().chain(mains()).filter_map(terminated);
            let ended = ended.filter_map(|it| it.finished_at.as_ref());
            ended.map(|time| time.0).max()
        }
        _ => None,
    }
}

fn restarts(status: &PodStatus) -> i64 {
    let containers = status.container_statuses.iter().flatten();
    containers.map(|one| i64::from(one.restart_count)).sum()
}

fn why_terminated(status: &PodStatus) -> Option<&str> {
    let mut containers = status.container_statuses.iter().flatten();
    containers.find_map(|one| {
        terminated(one)?
            .reason
            .as_deref()
            .filter(|it| !it.is_empty())
    })
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests;
