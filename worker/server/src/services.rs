//! What the server does by itself: it makes scheduled runs, marks late ones, and ends cancellations nobody finished.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use rusqlite::params;
use tokio::{sync::Notify, time::MissedTickBehavior};
use worker_api::types::{FlowRunId, ProposedState, StateType};

use crate::{
    error::Error,
    store::{Store, Tx, events, leases, notices, schedules, states, value::Micros},
};

/// How often schedules are looked at, when nothing says that one changed.
const SCHEDULER_PACE: Duration = Duration::from_secs(10);
/// How often the others look (3.8.8).
const PACE: Duration = Duration::from_secs(5);
/// A run that was due so long ago is late (3.8.8).
const LATE_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// A cancellation that took so long is over (3.8.8).
const CANCELLING_AT_MOST: SignedDuration = SignedDuration::from_secs(300);
/// How many runs are changed in one transaction, so that requests do not wait behind it.
const BATCH: u32 = 100;

/// Makes the runs of schedules ahead of time: now and then, and when a deployment changed.
pub(crate) async fn schedule(store: Store, changed: Arc<Notify>) {
    loop {
        match store.run(schedules::make_runs).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "scheduled runs made"),
            Err(error) => tracing::warn!(%error, "scheduled runs could not be made"),
        }
        // Either way it is time to look again; a change that comes while we look is remembered.
        drop(tokio::time::timeout(SCHEDULER_PACE, changed.notified()).await);
    }
}

/// Marks late runs, ends overdue cancellations and forgets leases that have run out.
pub(crate) async fn watch(store: Store) {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let swept = store
            .run(|tx| {
                mark_late(tx)?;
                end_cancellations(tx)?;
                leases::sweep(tx)?;
                events::sweep(tx)?;
                notices::statuses(tx)
            })
            .await;
        if let Err(error) = swept {
            tracing::warn!(%error, "overdue runs could not be looked at");
        }
    }
}

fn mark_late(tx: &mut Tx<'_>) -> Result<(), Error> {
    let due = Micros(tx.now.checked_sub(LATE_AFTER).unwrap_or(tx.now));
    let found = find(
        tx,
        "state_type = 'SCHEDULED' AND state_name = 'Scheduled' AND next_scheduled_start_time <= ?",
        due,
    )?;
    for (id, scheduled_time) in found {
        let mut late = ProposedState::new(StateType::Scheduled).named("Late");
        late.state_details.scheduled_time = scheduled_time.map(|Micros(time)| time);
        states::propose(tx, id, &late, false)?;
    }
    Ok(())
}

fn end_cancellations(tx: &mut Tx<'_>) -> Result<(), Error> {
    let since = Micros(tx.now.checked_sub(CANCELLING_AT_MOST).unwrap_or(tx.now));
    for (id, _) in find(
        tx,
        "state_type = 'CANCELLING' AND state_timestamp <= ?",
        since,
    )? {
        let cancelled = ProposedState::new(StateType::Cancelled)
            .because("Flow run cancellation timed out; marked this flow run as Cancelled.");
        states::propose(tx, id, &cancelled, true)?;
    }
    Ok(())
}

fn find(
    tx: &Tx<'_>,
    condition: &str,
    time: Micros,
) -> Result<Vec<(FlowRunId, Option<Micros>)>, Error> {
    let rows: Vec<(String, Option<Micros>)> = tx
        .prepare_cached(&format!(
            "SELECT id, next_scheduled_start_time FROM flow_run WHERE {condition} LIMIT ?"
        ))?
        .query_map(params![time, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let rows = rows.into_iter();
    Ok(rows
        .filter_map(|(id, due)| Some((id.parse().ok()?, due)))
        .collect())
}

#[cfg(test)]
mod tests;
