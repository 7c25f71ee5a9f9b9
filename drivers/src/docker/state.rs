//! What the engine says of a container, as a phase of a job. Pure.

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
};
use serde_json::{Value, json};
use std::collections::HashMap;

use worker_config::DriverKind;

use super::{
    HANDLE_VERSION,
    plan::{JOB_LABEL, OWNER_LABEL},
};
use crate::job::{Handle, Outcome, Owner, Phase, RunKey};

/// What a shell, an init process and the engine itself add to the number of a signal that ended a process.
const SIGNALLED: i64 = 128;

/// The highest signal number there is.
const LAST_SIGNAL: i64 = 64;

/// The phase of a container.
pub(super) fn phase(container: &ContainerInspectResponse, stopped_by_us: bool) -> Phase {
    let Some(state) = &container.state else {
        return Phase::Pending(None);
    };
    match state.status {
        Some(Status::CREATED) => Phase::Pending(said(state)),
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) if was_started(state) => {
            Phase::Exited(outcome(container, state, stopped_by_us))
        }
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => {
            Phase::Exited(Outcome::NeverStarted {
                reason: said(state).unwrap_or_else(|| "its container was never started".to_owned()),
            })
        }
        _ if state.running == Some(false) && was_started(state) => {
            Phase::Exited(outcome(container, state, stopped_by_us))
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
    stopped_by_us: bool,
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
    by_code(code, stopped_by_us)
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

/// The attempt a container belongs to, by its labels.
pub(super) fn key_of(labels: Option<&HashMap<String, String>>) -> Option<RunKey> {
    labels?.get(JOB_LABEL)?.parse().ok()
}

/// Whose a container is, by its labels.
pub(super) fn owner_of(labels: Option<&HashMap<String, String>>) -> Option<Owner> {
    Some(Owner(labels?.get(OWNER_LABEL)?.clone()))
}

/// The handle of a container.
pub(super) fn handle(base_url: &str, key: RunKey, container: &str) -> Handle {
    Handle {
        kind: DriverKind::Docker,
        version: HANDLE_VERSION,
        key,
        infrastructure_id: format!("{base_url}:{container}"),
        state: json!({ "container": container }),
    }
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
