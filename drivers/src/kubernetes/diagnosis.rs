//! What ails a pod, in the few words for which automations on its events wait (`kubernetes.diagnosis`, prefect-kubernetes 0.8.0). Pure.
//!
//! For people there is more to say, and [`super::pod`] says it.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

/// The category of the first thing that is wrong with a pod. None: nothing that the reference knows.
pub(super) fn find_category(status: &PodStatus) -> Option<&'static str> {
    containers(status)
        .find_map(held_up)
        .or_else(|| containers(status).find_map(ended))
        .or_else(|| unplaced(status))
        .or_else(|| (status.reason.as_deref() == Some("Evicted")).then_some("Evicted"))
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let inits = status.init_container_statuses.iter().flatten();
    inits.chain(status.container_statuses.iter().flatten())
}

fn held_up(container: &ContainerStatus) -> Option<&'static str> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    match waiting.reason.as_deref()? {
        "ImagePullBackOff" | "ErrImagePull" => Some("ImagePullError"),
        "CrashLoopBackOff" => Some("CrashLoopBackOff"),
        _ => None,
    }
}

fn ended(container: &ContainerStatus) -> Option<&'static str> {
    let terminated = container.state.as_ref()?.terminated.as_ref()?;
    match terminated.reason.as_deref()? {
        "OOMKilled" => Some("OOMKilled"),
        "Evicted" => Some("Evicted"),
        _ => None,
    }
}

/// The cause stands only in a message for people, so its words decide.
fn unplaced(status: &PodStatus) -> Option<&'static str> {
    let mut conditions = status.conditions.iter().flatten();
    let unplaced = conditions.find(|one| {
        one.type_ == "PodScheduled" && one.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = unplaced.message.as_deref().unwrap_or_default();
    let message = message.to_lowercase();
    let says = |word: &str| message.contains(word);
    Some(if says("taint") {
        "Unschedulable.Taint"
    } else if says("affinity") || says("node selector") {
        "Unschedulable.NodeAffinity"
    } else if says("insufficient") {
        "Unschedulable.InsufficientResources"
    } else {
        "Unschedulable"
    })
}

#[cfg(test)]
mod tests;
