//! What is kept of a pod, out of the much that a cluster says. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use super::{plan::CONTAINER, state::key_of};
use crate::job::RunKey;

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as the cluster tells it"
)]
pub(super) struct PodSeen {
    pub(super) key: RunKey,
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    /// The uid of its Job.
    pub(super) job: String,
    /// The container that runs the flow.
    pub(super) container: String,
    pub(super) made: Timestamp,
    /// Whether somebody has asked for it to be deleted.
    pub(super) leaves: bool,
    /// When it got a node.
    pub(super) placed: Option<Timestamp>,
    /// Whether init containers run.
    pub(super) is_initializing: bool,
    /// What became of an init container that failed, for a person.
    failed_init: Option<String>,
    pub(super) main: Main,
    /// In bytes.
    pub(super) memory_limit: Option<u64>,
    phase: String,
    /// Why it is as it is, in the words of whoever made it so: an eviction, a preemption, a node that is gone.
    said: Option<String>,
    /// Why it waits, with a word for machines before it.
    waits: Option<(String, String)>,
    others_run: bool,
    /// Whether the cluster does not have it any more.
    pub(super) is_gone: bool,
}

/// How the container that runs the flow is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Main {
    NotYet,
    Running,
    Ended {
        code: i32,
        reason: String,
        message: String,
    },
    /// It has ended, and its node did not record how.
    Unrecorded,
}

/// What a kubelet puts in the place of an end that it has missed, beside an exit code of its own invention. Before 1.22 it misses many: of a pod that is
/// being deleted it may remove a container before it has looked how it ended.
const UNRECORDED: &str = "ContainerStatusUnknown";

/// How much of what an init container said at its end a reason takes in, in bytes: a run page has little room.
const LONGEST_SAID: usize = 600;

/// What containers wait for in the ordinary course of things.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

// === impl PodSeen ===

impl PodSeen {
    /// Takes in a pod. None: it is not one of ours.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let owners = metadata.owner_references.iter().flatten();
        let job = owners.into_iter().find(|owner| owner.kind == "Job")?;
        let spec = pod.spec.as_ref()?;
        let nothing = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&nothing);
        let told = metadata.annotations.as_ref();
        let told = told.and_then(|annotations| annotations.get(CONTAINER));
        let container = match told {
            Some(name) => name.clone(),
            None => spec.containers.first()?.name.clone(),
        };
        let is_main = |one: &&ContainerStatus| one.name == container;
        let statuses = || status.container_statuses.iter().flatten();
        let main = statuses().find(is_main);
        let inits = || status.init_container_statuses.iter().flatten();
        // Containers that run beside the flow from before it on (1.29) are among those that come before it.
        let stays = |one: &&ContainerStatus| {
            let mut inits = spec.init_containers.iter().flatten();
            let spec = inits.find(|container| container.name == one.name);
            spec.is_some_and(|container| container.restart_policy.as_deref() == Some("Always"))
        };
        let running = |one: &ContainerStatus| {
            let state = one.state.as_ref();
            state.is_some_and(|state| state.running.is_some())
        };
        let limit = || {
            let main = spec.containers.iter().find(|one| one.name == container)?;
            let limits = main.resources.as_ref()?.limits.as_ref()?;
            bytes(&limits.get("memory")?.0)
        };
        Some(Self {
            key: key_of(metadata)?,
            uid: metadata.uid.clone()?,
            name: metadata.name.clone()?,
            namespace: metadata.namespace.clone()?,
            job: job.uid.clone(),
            made: metadata.creation_timestamp.as_ref()?.0,
            leaves: metadata.deletion_timestamp.is_some(),
            placed: placed(status),
            failed_init: inits().filter(|one| !stays(one)).find_map(failed_init),
            is_initializing: main.is_none_or(|one| !has_begun(one))
                && inits().filter(|one| !stays(one)).any(running),
            main: main.map_or(Main::NotYet, Main::of),
            memory_limit: limit(),
            phase: status.phase.clone().unwrap_or_default(),
            said: said(status),
            waits: inits()
                .chain(statuses())
                .find_map(waiting)
                .or(unplaced(status)),
            others_run: statuses().any(|one| one.name != container && running(one)),
            container,
            is_gone: false,
        })
    }

    /// The cluster does not have it any more: this is how it was at last.
    pub(super) fn vanish(&mut self) {
        self.is_gone = true;
        self.leaves = true;
        self.others_run = false;
        if !self.has_ended() {
            "Failed".clone_into(&mut self.phase);
        }
    }

    /// Whether the cluster does not have it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether nothing of it runs any more, and never will.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Failed" | "Succeeded")
    }

    /// Whether the container that runs the flow has at least been started.
    pub(super) fn has_begun(&self) -> bool {
        self.main != Main::NotYet || self.has_ended()
    }

    /// Whether the flow has ended, and only containers beside it go on.
    pub(super) fn only_others_run(&self) -> bool {
        matches!(self.main, Main::Ended { .. } | Main::Unrecorded) && self.others_run
    }

    /// The flow's exit code.
    pub(super) fn code(&self) -> Option<i32> {
        match self.main {
            Main::Ended { code, .. } => Some(code),
            Main::NotYet | Main::Running | Main::Unrecorded => None,
        }
    }

    /// What somebody else did to it.
    pub(super) fn why_ended(&self) -> Option<String> {
        match &self.said {
            Some(said) => Some(said.clone()),
            None if self.leaves => Some("its pod was deleted by somebody else".to_owned()),
            None => None,
        }
    }

    /// What became of an init container without which the flow cannot start.
    pub(super) fn failed_init(&self) -> Option<&str> {
        self.failed_init.as_deref()
    }

    /// What keeps it from starting, for machines, where it is not the ordinary course of things.
    pub(super) fn trouble(&self) -> Option<&str> {
        let (reason, _) = self.waits.as_ref()?;
        (!ORDINARY.contains(&reason.as_str())).then_some(reason)
    }

    /// What it waits for, for a person.
    pub(super) fn why_waiting(&self) -> Option<String> {
        let (reason, message) = self.waits.as_ref()?;
        Some(match (reason.as_str(), message.as_str()) {
            ("Unschedulable", message) => format!("no node has room for its pod: {message}"),
            (
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull",
                "",
            ) => {
                format!("its image cannot be pulled: {reason}")
            }
            ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull", _) => {
                format!("its image cannot be pulled: {reason}: {message}")
            }
            ("ContainerCreating", _) => "its container is being created".to_owned(),
            ("PodInitializing", _) => "its init containers have not ended".to_owned(),
            (reason, "") => format!("its container cannot be started: {reason}"),
            (reason, message) => format!("its container cannot be started: {reason}: {message}"),
        })
    }
}

// === impl Main ===

impl Main {
    fn of(status: &ContainerStatus) -> Self {
        let is_unrecorded = |state: &Option<ContainerState>| {
            let ended = state.as_ref().and_then(|it| it.terminated.as_ref());
            ended.and_then(|it| it.reason.as_deref()) == Some(UNRECORDED)
        };
        let was_made = status
            .container_id
            .as_ref()
            .is_some_and(|id| !id.is_empty());
        match &status.state {
            // Since 1.22 it is said of a container, too, that was never made before its pod was ended.
            state if is_unrecorded(state) && !was_made && !is_unrecorded(&status.last_state) => {
                Self::NotYet
            }
            // A container of a Job is not started twice, so what went before is what it was.
            state if is_unrecorded(state) || is_unrecorded(&status.last_state) => Self::Unrecorded,
            Some(ContainerState {
                terminated: Some(ended),
                ..
            }) => Self::Ended {
                code: ended.exit_code,
                reason: ended.reason.clone().unwrap_or_default(),
                message: ended.message.clone().unwrap_or_default(),
            },
            Some(ContainerState {
                running: Some(_), ..
            }) => Self::Running,
            // A container that was started before and waits to be again belongs to a pod of a kind that a Job does not have.
            _ => Self::NotYet,
        }
    }
}

/// How an init container failed, with the end of what it said where it has its log end up there.
fn failed_init(status: &ContainerStatus) -> Option<String> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    if ended.exit_code == 0 {
        return None;
    }
    let what = format!(
        "its init container {} ended with exit code {}",
        status.name, ended.exit_code
    );
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let from = said.len().saturating_sub(LONGEST_SAID);
    let from = (from..said.len()).find(|at| said.is_char_boundary(*at));
    Some(match from.map(|from| &said[from..]) {
        None => what,
        Some(said) => format!("{what}: {said}"),
    })
}

fn has_begun(status: &ContainerStatus) -> bool {
    Main::of(status) != Main::NotYet
}

fn placed(status: &PodStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter().flatten();
    let placed = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "True")?;
    placed.last_transition_time.as_ref().map(|time| time.0)
}

fn unplaced(status: &PodStatus) -> Option<(String, String)> {
    let mut conditions = status.conditions.iter().flatten();
    let unplaced = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let reason = unplaced.reason.clone()?;
    Some((reason, unplaced.message.clone().unwrap_or_default()))
}

/// What a container waits for. One that init containers hold up waits for them.
fn waiting(status: &ContainerStatus) -> Option<(String, String)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    Some((waiting.reason.clone()?, message))
}

/// Who else ended a pod, as its status says, or the condition that newer clusters have for that (1.26).
fn said(status: &PodStatus) -> Option<String> {
    let message = |text: &Option<String>| match text.as_deref() {
        Some(text) if !text.trim().is_empty() => format!(": {}", text.trim()),
        _ => String::new(),
    };
    if let Some(reason) = &status.reason {
        let what = match reason.as_str() {
            "Evicted" => "its pod was evicted".to_owned(),
            "Preempting" | "Preempted" => "its pod was preempted".to_owned(),
            "DeadlineExceeded" => "its pod passed its deadline (DeadlineExceeded)".to_owned(),
            "NodeLost" => "its node was lost (NodeLost)".to_owned(),
            "NodeShutdown" | "Shutdown" | "Terminated" => {
                format!("its node was shut down ({reason})")
            }
            other => format!("its pod was ended by Kubernetes ({other})"),
        };
        return Some(format!("{what}{}", message(&status.message)));
    }
    let mut conditions = status.conditions.iter().flatten();
    let disrupted =
        conditions.find(|one| one.type_ == "DisruptionTarget" && one.status == "True")?;
    let reason = disrupted.reason.as_deref().unwrap_or_default();
    let what = match reason {
        "PreemptionByScheduler" => "its pod was preempted",
        "DeletionByTaintManager" => "its node became unreachable or unfit",
        "EvictionByEvictionAPI" => "its pod was evicted by request",
        "DeletionByPodGC" => "its node was lost",
        "TerminationByKubelet" => "its node ended its pod",
        _ => "its pod was disrupted",
    };
    Some(format!("{what} ({reason}){}", message(&disrupted.message)))
}

/// A quantity of memory in bytes: `512Mi`, `1G`, `1.5Gi`, `1e9`.
fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|one: char| one.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let factor: f64 = match &quantity[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is checked to fit"
    )]
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}
