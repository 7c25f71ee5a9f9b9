//! Ending a container: the polite signal, the grace, then force. The grace is kept here and not by the engine, so that it can be shortened.

use std::{sync::Arc, time::Duration};

use bollard::query_parameters::KillContainerOptions;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    Shared, act, error, lock,
    plan::{CANCEL_SIGNAL, ENGINE_ALONE, PROGRAM_LABEL, RUNNER},
    state,
};
use crate::{
    driver::DriverError,
    job::{Handle, Intent, RunKey, StopRequest},
};

/// How long Prefect's own runner inside a container has between being asked to end and being forced, once the grace is over.
///
/// It sees by itself that its flow run is to be cancelled, at once over its socket and every 10 s without one (`PREFECT_RUNNER_POLL_FREQUENCY`, 3.8.8),
/// ends the flow, runs its hooks and reports. A signal in the middle of that would have it say that it crashed, so the whole grace is its own.
const RUNNER_ENDS: Duration = Duration::from_secs(8);

/// How long to wait before the engine is asked again to force an end.
const AGAIN: Duration = Duration::from_secs(1);

/// A container that is being ended by us.
#[derive(Debug)]
pub(super) struct Stopping {
    forced_at: Instant,
    task: AbortHandle,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks a container to end, and sees to it that it does.
pub(super) async fn stop(
    shared: &Arc<Shared>,
    handle: &Handle,
    request: StopRequest,
) -> Result<(), DriverError> {
    let id = state::container_of(handle).to_owned();
    let Some(container) = act::inspect(shared.control()?, &id).await? else {
        return Ok(());
    };
    let config = container.config.as_ref();
    let is_ours =
        state::key_of(config.and_then(|config| config.labels.as_ref())) == Some(handle.key);
    let is_running = container.state.as_ref().and_then(|state| state.running) == Some(true);
    if !is_ours || !is_running {
        return Ok(());
    }
    let label = |name: &str| Some(config?.labels.as_ref()?.get(name)?.as_str());
    let is_cancel = request.intent == Intent::Cancel;
    let program = label(PROGRAM_LABEL);
    let sees_by_itself = is_cancel && program == Some(RUNNER);
    let polite = if is_cancel && program == Some(ENGINE_ALONE) {
        Some(CANCEL_SIGNAL.to_owned())
    } else {
        config.and_then(|config| config.stop_signal.clone())
    };
    let grace_ends = Instant::now() + request.grace;
    let forced_at = if sees_by_itself {
        grace_ends + RUNNER_ENDS
    } else {
        grace_ends
    };
    let known = lock(&shared.stops)
        .get(&handle.key)
        .map(|known| known.forced_at);
    if known.is_some_and(|known| known <= forced_at) {
        return Ok(());
    }
    if !sees_by_itself && known.is_none() {
        // Known before it is sent: the end may be quicker than the answer.
        remember(
            shared,
            handle.key,
            forced_at,
            end(Arc::clone(shared), id.clone(), None, forced_at),
        );
        let sent = signal(shared, &id, polite.as_deref().unwrap_or("SIGTERM")).await;
        if sent.is_err() {
            // It is asked again, and politely again.
            lock(&shared.stops).remove(&handle.key);
        }
        return sent;
    }
    let asked =
        sees_by_itself.then(|| (polite.unwrap_or_else(|| "SIGTERM".to_owned()), grace_ends));
    remember(
        shared,
        handle.key,
        forced_at,
        end(Arc::clone(shared), id, asked, forced_at),
    );
    Ok(())
}

/// Whether an attempt is or was being ended by us.
pub(super) fn is_ours(shared: &Shared, key: RunKey) -> bool {
    lock(&shared.stops).contains_key(&key)
}

fn remember(
    shared: &Arc<Shared>,
    key: RunKey,
    forced_at: Instant,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let task = shared.spawn(work);
    lock(&shared.stops).insert(key, Stopping { forced_at, task });
}

/// Asks, if that is still to be done, waits and forces.
async fn end(
    shared: Arc<Shared>,
    container: String,
    asked: Option<(String, Instant)>,
    forced_at: Instant,
) {
    if let Some((polite, at)) = asked {
        tokio::time::sleep_until(at).await;
        insist(&shared, &container, &polite).await;
    }
    tokio::time::sleep_until(forced_at).await;
    insist(&shared, &container, "SIGKILL").await;
}

/// Signals until the engine has heard it.
async fn insist(shared: &Shared, container: &str, name: &str) {
    while let Err(error) = signal(shared, container, name).await {
        tracing::warn!(container, signal = name, %error, "cannot signal a container yet");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Sends a signal. Who has ended needs none.
async fn signal(shared: &Shared, container: &str, name: &str) -> Result<(), DriverError> {
    let options = KillContainerOptions {
        signal: name.to_owned(),
    };
    match shared
        .control()?
        .kill_container(container, Some(options))
        .await
    {
        Ok(()) => Ok(()),
        // It is not there, or it does not run.
        Err(error) if matches!(error::status(&error), Some(404 | 409)) => Ok(()),
        // Older engines say the same with the status of a defect of theirs.
        Err(error) if says_not_running(&error::message(&error)) => Ok(()),
        Err(error) => Err(error::unavailable(&error)),
    }
}

/// The second is Podman's way to say it.
fn says_not_running(message: &str) -> bool {
    message.contains("is not running") || message.contains("can only kill running containers")
}
