//! What a worker is handed when it polls: due flow runs, within the limits of the pool and its queues.

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use worker_api::types::WorkQueueId;

use super::{
    Tx,
    filter::Page,
    notices, pools,
    queues::{self, QueueView},
    runs::{self, RunView},
    value::{Micros, time},
};
use crate::error::Error;

/// What a worker asks for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Poll {
    /// The queues it serves; none means all.
    #[serde(default)]
    work_queue_names: Option<Vec<String>>,
    /// Runs that are due until then.
    #[serde(default, deserialize_with = "time::deserialize")]
    scheduled_before: Option<Timestamp>,
    /// Runs that are due from then on.
    #[serde(default, deserialize_with = "time::deserialize")]
    scheduled_after: Option<Timestamp>,
    #[serde(flatten)]
    page: Page,
}

/// One flow run of the answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScheduledView {
    work_pool_id: String,
    work_queue_id: String,
    flow_run: RunView,
}

/// A poll is noted at most this often, so that polling does not become writing.
const NOTED: SignedDuration = SignedDuration::from_secs(5);

/// Hands out due flow runs: the most urgent queue first, within a queue the longest due first.
///
/// Nothing is claimed by this; the limits are advice, as they are in the reference.
pub(crate) fn poll(tx: &Tx<'_>, pool: &str, wanted: &Poll) -> Result<Vec<ScheduledView>, Error> {
    let pool = pools::read(tx, pool)?;
    let (limit, _) = wanted.page.bounds()?;
    let mut queues = queues::of_pool(tx, &pool.id)?;
    if let Some(names) = wanted
        .work_queue_names
        .as_ref()
        .filter(|names| !names.is_empty())
    {
        for name in names {
            queues::read(tx, &pool.name, name)?;
        }
        queues.retain(|queue| names.contains(&queue.name));
    }
    if note(tx, &queues)? {
        notices::statuses(tx)?;
    }
    if pool.is_paused {
        return Ok(Vec::new());
    }
    let mut free = limit;
    if let Some((slots, active)) = pool.concurrency_limit.zip(pool.active_slots) {
        free = free.min(slots.saturating_sub(active));
    }
    let window = (wanted.scheduled_after, wanted.scheduled_before);
    let mut found = Vec::new();
    for queue in queues.into_iter().filter(|queue| !queue.is_paused) {
        let active = queue.active_slots.unwrap_or(0);
        let own = queue
            .concurrency_limit
            .map_or(free, |slots| slots.saturating_sub(active));
        let most = own.min(free);
        if most == 0 {
            continue;
        }
        for flow_run in runs::due(tx, &queue.id, window, most)? {
            free -= 1;
            found.push(ScheduledView {
                work_pool_id: pool.id.clone(),
                work_queue_id: queue.id.clone(),
                flow_run,
            });
        }
    }
    Ok(found)
}

/// The due flow runs of one queue, whatever the limits say: for people who look, and for clients that know no pools.
pub(crate) fn of_queue(tx: &Tx<'_>, id: WorkQueueId, wanted: &Poll) -> Result<Vec<RunView>, Error> {
    let queue = queues::read_by_id(tx, id)?;
    let (limit, _) = wanted.page.bounds()?;
    let window = (wanted.scheduled_after, wanted.scheduled_before);
    runs::due(tx, &queue.id, window, limit)
}

/// Notes that queues were polled, and says whether that is news.
fn note(tx: &Tx<'_>, queues: &[QueueView]) -> Result<bool, Error> {
    let mut news = false;
    for queue in queues {
        let fresh = queue
            .last_polled
            .is_some_and(|Micros(time)| tx.now.duration_since(time) < NOTED);
        if !fresh {
            tx.prepare_cached("UPDATE work_queue SET last_polled = ? WHERE id = ?")?
                .execute(params![Micros(tx.now), queue.id])?;
            news |= queue.status == "NOT_READY";
        }
    }
    Ok(news)
}
