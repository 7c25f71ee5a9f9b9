//! What the engine says of a container, as a phase of a job. Pure.

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;

use worker_config::DriverKind;

use super::{
    HANDLE_VERSION,
    plan::{JOB_LABEL, OWNER_LABEL},
};
use crate::job::{Handle, Outcome, Owner, Phase, RunKey};

/// What is known of the end of a container besides what the engine keeps of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances {
    /// Whether we asked it to end.
    pub(super) by_us: bool,
    /// When the engine was last away, if it ever was.
    pub(super) outage: Option<Outage>,
}

/// A time in which the engine could not be watched, by its own clock as far as that is this machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) from: Timestamp,
    /// None: it lasts.
    pub(super) to: Option<Timestamp>,
}

/// What a shell, an init process and the engine itself add to the number of a signal that ended a process.
const SIGNALLED: i64 = 128;

/// The highest signal number there is.
const LAST_SIGNAL: i64 = 64;

/// What kills a container that somebody removes while it runs.
const SIGKILL: i32 = 9;

/// The phase of a container.
pub(super) fn phase(container: &ContainerInspectResponse, known: Circumstances) -> Phase {
    let Some(state) = &container.state else {
        return Phase::Pending(None);
    };
    match state.status {
        Some(Status::CREATED) => Phase::Pending(said(state)),
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) if was_started(state) => {
            Phase::Exited(outcome(container, state, known))
        }
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => {
            Phase::Exited(Outcome::NeverStarted {
                reason: said(state).unwrap_or_else(|| "its container was never started".to_owned()),
            })
        }
        _ if state.running == Some(false) && was_started(state) => {
            Phase::Exited(outcome(container, state, known))
        }
        _ => Phase::Running,
    }
}

/// How a container that is only made counts when nobody is about to start it.
pub(super) fn never_started(why: Option<String>) -> Outcome {
    let reason = why.unwrap_or_else(|| {
        "the worker that had made its container was ended before it could start it".to_owned()
    });
    Outcome::NeverStarted { reason }
}

fn outcome(
    container: &ContainerInspectResponse,
    state: &ContainerState,
    known: Circumstances,
) -> Outcome {
    let code = state.exit_code.unwrap_or(-1);
    // A process that was killed for memory need not be the one that mattered.
    if state.oom_killed == Some(true) && code != 0 {
        let memory = container.host_config.as_ref().and_then(|host| host.memory);
        return Outcome::OutOfMemory {
            limit: memory
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0),
        };
    }
    let outcome = by_code(code, known.by_us);
    let Outcome::Signalled {
        signal,
        by_us: false,
    } = outcome
    else {
        return outcome;
    };
    if signal == SIGKILL && matches!(state.status, Some(Status::REMOVING | Status::DEAD)) {
        return removed();
    }
    let finished = state.finished_at.as_deref().and_then(|at| at.parse().ok());
    match (finished, known.outage) {
        (Some(finished), Some(outage)) if outage.has(finished) => Outcome::Lost {
            reason: format!(
                "its container was ended with exit code {code} while the Docker engine did not answer, as engines do when they are stopped or restarted"
            ),
        },
        _ => outcome,
    }
}

/// The end of a job whose container somebody else took away while it ran.
pub(super) fn removed() -> Outcome {
    Outcome::Lost {
        reason: "somebody else removed its container from the engine while it ran".to_owned(),
    }
}

/// An exit code, with what it says about signals.
pub(super) fn by_code(code: i64, by_us: bool) -> Outcome {
    let small = |number: i64| i32::try_from(number).unwrap_or(-1);
    if (SIGNALLED + 1..=SIGNALLED + LAST_SIGNAL).contains(&code) {
        return Outcome::Signalled {
            signal: small(code - SIGNALLED),
            by_us,
        };
    }
    Outcome::Exited {
        code: small(code),
        reported: false,
    }
}

/// Engines write the year 1 where nothing has happened yet.
fn was_started(state: &ContainerState) -> bool {
    state
        .started_at
        .as_deref()
        .is_some_and(|at| !at.is_empty() && !at.starts_with("0001-"))
}

fn said(state: &ContainerState) -> Option<String> {
    state.error.clone().filter(|error| !error.is_empty())
}

// === impl Outage ===

impl Outage {
    fn has(&self, moment: Timestamp) -> bool {
        self.from <= moment && self.to.is_none_or(|to| moment <= to)
    }
}

// === functions ===

/// The attempt a container belongs to, by its labels.
pub(super) fn key_of(labels: Option<&HashMap<String, String>>) -> Option<RunKey> {
    labels?.get(JOB_LABEL)?.parse().ok()
}

/// Whose a container is, by its labels.
pub(super) fn owner_of(labels: Option<&HashMap<String, String>>) -> Option<Owner> {
    Some(Owner(labels?.get(OWNER_LABEL)?.clone()))
}

/// The handle of a container.
pub(super) fn handle(base_url: &str, key: RunKey, container: &str, name: &str) -> Handle {
    Handle {
        kind: DriverKind::Docker,
        version: HANDLE_VERSION,
        key,
        infrastructure_id: format!("{base_url}:{container}"),
        state: json!({ "container": container, "name": name.trim_start_matches('/') }),
    }
}

/// The id and the name of the container that a handle finds; none: it is of another driver.
pub fn container(handle: &Handle) -> Option<(&str, &str)> {
    if handle.kind != DriverKind::Docker {
        return None;
    }
    let name = handle.state.get("name").and_then(Value::as_str);
    Some((container_of(handle), name.unwrap_or_default()))
}

/// The container of a handle.
pub(super) fn container_of(handle: &Handle) -> &str {
    handle
        .state
        .get("container")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
