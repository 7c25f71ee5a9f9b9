//! Ending a job: its Job is deleted, and its pods with a grace, in which they are asked to end and after which they are forced to.
//!
//! What a pod writes goes with it, so it is read along until the end.

use std::{future::Ready, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    Shared,
    act::{self, Place},
    lock, logs,
    plan::RUNNER,
    reasons,
    state::{self, EndedByUs, JobSeen},
};
use crate::{
    driver::DriverError,
    job::{Handle, Intent, Outcome, Phase, RunKey, StopRequest},
};

/// How long Prefect's own runner inside a pod has between being asked to end and being forced, once the grace is over.
///
/// It sees by itself that its flow run is to be cancelled, at once over its socket and every 10 s without one (`PREFECT_RUNNER_POLL_FREQUENCY`, 3.8.8),
/// ends the flow, runs its hooks and reports. A signal in the middle of that would have it give the flow run back, so the whole grace is its own.
const RUNNER_ENDS: Duration = Duration::from_secs(8);

/// How long the end of a job waits for the reading of its output to begin.
const READING_BEGINS: Duration = Duration::from_secs(2);

/// The grace of a job that took too long.
const GIVEN_UP_GRACE: Duration = Duration::from_secs(30);

/// How long to wait before the cluster is asked again to delete.
const AGAIN: Duration = Duration::from_secs(2);

/// A job that is being ended by us, or of which the cluster is being asked whether there is a reason to.
#[derive(Debug)]
pub(super) struct Stopping {
    /// None: the cluster has not answered yet. Until then whatever becomes of the job is its own doing, and who else wants it ended is not kept from it.
    ending: Option<Ending>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Ending {
    why: EndedByUs,
    forced_at: Instant,
}

// === impl Stopping ===

impl Stopping {
    /// Why we end it, if we do.
    pub(super) fn why(&self) -> Option<&EndedByUs> {
        self.ending.as_ref().map(|ending| &ending.why)
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Asks a job to end, and sees to it that it does.
pub(super) async fn stop(
    shared: &Arc<Shared>,
    handle: &Handle,
    request: StopRequest,
) -> Result<(), DriverError> {
    let key = handle.key;
    let Some(place) = Place::of(shared, handle) else {
        return Err(DriverError::Unavailable {
            engine: super::ENGINE,
            reason: "the job is on a cluster to which this worker knows no way".to_owned(),
        });
    };
    let Some(job) = place.look(key).await? else {
        return Ok(());
    };
    let pods = place.pods_of(shared, key).await?;
    let by_us = shared.ended_by_us(key);
    if matches!(state::phase(&job, &pods, by_us.as_ref()), Phase::Exited(_)) {
        return Ok(());
    }
    let has_begun = pods.iter().any(super::pod::PodSeen::has_begun);
    let ran_before = has_begun || by_us == Some(EndedByUs::Asked { had_begun: true });
    let why = EndedByUs::Asked {
        had_begun: ran_before,
    };
    let sees_by_itself = request.intent == Intent::Cancel && job.program == RUNNER && has_begun;
    let grace_ends = Instant::now() + request.grace;
    let forced_at = if sees_by_itself {
        grace_ends + RUNNER_ENDS
    } else {
        grace_ends
    };
    let known = lock(&shared.stops)
        .get(&key)
        .and_then(|known| Some(known.ending.as_ref()?.forced_at));
    if known.is_some_and(|known| known <= forced_at) {
        return Ok(());
    }
    let ending = |why| Some(Ending { why, forced_at });
    if pods.iter().any(|pod| pod.placed.is_some()) && known.is_none() {
        logs::keep(shared, handle, READING_BEGINS).await;
    }
    if sees_by_itself {
        let later = later(Arc::clone(shared), place, key, grace_ends);
        remember(shared, key, ending(why), Some(later));
        return Ok(());
    }
    // Known before it is sent: the end may be quicker than the answer.
    remember(shared, key, ending(why.clone()), None::<Ready<()>>);
    let deleted = act::delete(shared, &place, key, request.grace).await;
    if deleted.is_err() {
        if known.is_none() {
            lock(&shared.stops).remove(&key);
        } else {
            // It has taken the place of one that would have gone on.
            let work = goes_on(Arc::clone(shared), place, key, request.grace);
            remember(shared, key, ending(why), Some(work));
        }
    }
    deleted
}

/// Ends a job that took too long, so that it is gone before anybody is told. What the cluster says of it now decides: a watch may be behind.
pub(super) fn give_up(shared: &Arc<Shared>, place: Place, job: JobSeen) {
    let key = job.key;
    if lock(&shared.stops).contains_key(&key) {
        return;
    }
    let work = {
        let shared = Arc::clone(shared);
        async move {
            let Some(outcome) = find_overdue(&shared, &place, key).await else {
                end_question(&shared, key, None);
                return;
            };
            let told = reasons::explain(&shared, &place, key, outcome).await;
            if !end_question(&shared, key, Some(&told)) {
                return;
            }
            tracing::warn!(%key, outcome = ?told, "giving up on a job");
            logs::keep(&shared, &job.handle(&place.cluster.id), READING_BEGINS).await;
            insist(&shared, &place, key, GIVEN_UP_GRACE).await;
        }
    };
    remember(shared, key, None, Some(work));
}

/// Takes in what the cluster has answered: what to tell of the job that is given up, or that there is no reason to. False: somebody else ends it now.
fn end_question(shared: &Shared, key: RunKey, outcome: Option<&Outcome>) -> bool {
    let mut stops = lock(&shared.stops);
    let Some(stopping) = stops.get_mut(&key).filter(|it| it.ending.is_none()) else {
        return false;
    };
    match outcome {
        Some(outcome) => {
            stopping.ending = Some(Ending {
                why: EndedByUs::GivenUp(outcome.clone()),
                forced_at: Instant::now() + GIVEN_UP_GRACE,
            });
        }
        None => drop(stops.remove(&key)),
    }
    true
}

/// What giving up on a job makes of it. None: there is no reason to, any more.
async fn find_overdue(shared: &Shared, place: &Place, key: RunKey) -> Option<Outcome> {
    let look = async || -> Result<_, DriverError> {
        let Some(job) = place.look(key).await? else {
            return Ok(None);
        };
        Ok(state::limit(&job, &place.look_at_pods(shared, key).await?))
    };
    loop {
        match look().await {
            Ok(limit) => {
                let (_, outcome) = limit.filter(|(at, _)| *at <= Timestamp::now())?;
                return Some(outcome);
            }
            Err(error) => tracing::warn!(%key, %error, "cannot look yet at a job that is overdue"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn remember(
    shared: &Arc<Shared>,
    key: RunKey,
    ending: Option<Ending>,
    work: Option<impl Future<Output = ()> + Send + 'static>,
) {
    let mut stops = lock(&shared.stops);
    let task = work.map(|work| shared.spawn(work));
    stops.insert(key, Stopping { ending, task });
}

async fn later(shared: Arc<Shared>, place: Place, key: RunKey, at: Instant) {
    tokio::time::sleep_until(at).await;
    insist(&shared, &place, key, RUNNER_ENDS).await;
}

async fn goes_on(shared: Arc<Shared>, place: Place, key: RunKey, grace: Duration) {
    insist(&shared, &place, key, grace).await;
}

/// Deletes until the cluster has heard it.
async fn insist(shared: &Shared, place: &Place, key: RunKey, grace: Duration) {
    while let Err(error) = act::delete(shared, place, key, grace).await {
        tracing::warn!(%key, %error, "cannot delete a job yet");
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests;
