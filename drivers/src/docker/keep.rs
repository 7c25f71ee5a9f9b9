//! Containers that ended badly and stay for a while, so that somebody can look into them.
//!
//! A kept container is nobody's job any more: it has another name, by which it is known again after any restart, it is not listed, found or adopted, and
//! when its time is over it is removed by whoever lists.

use std::{sync::Arc, time::Duration};

use bollard::{
    models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as Listed},
    query_parameters::RenameContainerOptions,
};
use jiff::{SignedDuration, Timestamp};

use super::{Shared, act, error, state};
use crate::{
    driver::DriverError,
    job::{Outcome, Phase, RunKey},
};

/// What the name of a kept container ends with.
const KEPT: &str = ".kept";

/// Whether a container is kept for people.
pub(super) fn is_kept(container: &ContainerSummary) -> bool {
    // Anybody may have a job called so; only what is over is kept.
    let is_over = matches!(
        container.state,
        Some(Listed::EXITED | Listed::DEAD | Listed::REMOVING)
    );
    is_over
        && container
            .names
            .iter()
            .flatten()
            .any(|name| name.ends_with(KEPT))
}

/// Keeps a container of an attempt that is over, if it ended badly and not by us. False: it is to be removed.
pub(super) async fn keep(shared: &Shared, key: RunKey, id: &str) -> Result<bool, DriverError> {
    if shared.options.keep_failed.is_zero() {
        return Ok(false);
    }
    let Some(container) = act::inspect(shared.control()?, id).await? else {
        return Ok(false);
    };
    let phase = state::phase(&container, shared.circumstances(key));
    if !is_bad(&phase) || is_over(&container, shared.options.keep_failed) {
        return Ok(false);
    }
    // Names are unique, those of one flow run's attempts need not be.
    let name = container.name.as_deref().unwrap_or_default();
    let name = format!("{}.{}{KEPT}", name.trim_start_matches('/'), key.attempt);
    let options = RenameContainerOptions { name: name.clone() };
    match shared.control()?.rename_container(id, options).await {
        Ok(()) => {
            tracing::info!(job = %key, container = name, "keeping a container that ended badly");
            Ok(true)
        }
        Err(error) if error::is_missing(&error) || error::is_conflict(&error) => Ok(false),
        Err(error) => Err(error::unavailable(&error)),
    }
}

/// Removes a kept container whose time is over, without anybody having to wait for it.
pub(super) async fn review(shared: &Arc<Shared>, id: &str) -> Result<(), DriverError> {
    let Some(container) = act::inspect(shared.control()?, id).await? else {
        return Ok(());
    };
    if is_over(&container, shared.options.keep_failed) {
        act::remove(shared.work()?, id).await?;
    }
    Ok(())
}

fn is_bad(phase: &Phase) -> bool {
    match phase {
        Phase::Exited(Outcome::Exited { code, .. }) => *code != 0,
        Phase::Exited(Outcome::Signalled { by_us, .. }) => !by_us,
        Phase::Exited(Outcome::OutOfMemory { .. } | Outcome::Lost { .. }) => true,
        Phase::Exited(Outcome::NeverStarted { .. }) | Phase::Pending(_) | Phase::Running => false,
    }
}

/// Whether a container ended longer ago than it may stay. One that does not say when is not kept.
fn is_over(container: &ContainerInspectResponse, keep: Duration) -> bool {
    let finished = container
        .state
        .as_ref()
        .and_then(|state| state.finished_at.as_deref()?.parse::<Timestamp>().ok());
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    finished.is_none_or(|finished| Timestamp::now().duration_since(finished) >= keep)
}
