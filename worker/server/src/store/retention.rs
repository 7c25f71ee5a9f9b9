//! How long things are kept: events a week, logs a month, flow runs that ended a quarter of a year.
//!
//! Nobody empties the database of a program that brings its own. Each pass removes a batch at most, so that requests
//! do not wait behind it; what is left goes with the next.

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;

use super::{Tx, value::Micros};
use crate::error::Error;

/// The reference's default (3.8.8).
const EVENTS: SignedDuration = SignedDuration::from_hours(7 * 24);
const LOGS: SignedDuration = SignedDuration::from_hours(30 * 24);
const RUNS: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How many rows of a kind are removed in one pass: at one a minute, 80 a second are kept up with.
const BATCH: u32 = 5000;
/// A flow run brings its states, its task runs and its log along.
const RUN_BATCH: u32 = 100;

/// Removes some of what has been kept long enough. Says how many rows.
pub(crate) fn prune(tx: &Tx<'_>) -> Result<usize, Error> {
    let before =
        |age: SignedDuration| Micros(tx.now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH));
    let events = tx
        .prepare_cached(
            "DELETE FROM event WHERE number IN
                (SELECT number FROM event WHERE occurred < ? ORDER BY occurred LIMIT ?)",
        )?
        .execute(params![before(EVENTS), BATCH])?;
    // Rows come in the order of their creation: only the first ones need to be looked at.
    let logs = tx
        .prepare_cached(
            "DELETE FROM log WHERE number IN (SELECT number FROM
                (SELECT number, created FROM log ORDER BY number LIMIT ?2) WHERE created < ?1)",
        )?
        .execute(params![before(LOGS), BATCH])?;
    let runs: Vec<String> = tx
        .prepare_cached(
            "SELECT id FROM flow_run WHERE state_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
                AND state_timestamp < ? LIMIT ?",
        )?
        .query_map(params![before(RUNS), RUN_BATCH], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for run in &runs {
        super::logs::delete_of_run(tx, run)?;
        tx.prepare_cached("DELETE FROM artifact WHERE flow_run_id = ?")?
            .execute([run])?;
        tx.prepare_cached("DELETE FROM flow_run WHERE id = ?")?
            .execute([run])?;
    }
    Ok(events + logs + runs.len())
}

#[cfg(test)]
mod tests;
