//! Leases: who holds a slot of a deployment's concurrency limit, and until when.
//!
//! A lease that has run out holds nothing, so nobody has to collect it in time.

use jiff::SignedDuration;
use rusqlite::params;
use uuid::Uuid;

use super::{Tx, limits, value::Micros};
use crate::{error::Error, orchestration::Slot};

/// How many slots of a deployment are taken.
pub(crate) fn count(tx: &Tx<'_>, deployment: &str) -> Result<u32, Error> {
    let count = tx
        .prepare_cached("SELECT count(*) FROM lease WHERE deployment_id = ? AND expires > ?")?
        .query_row(params![deployment, Micros(tx.now)], |row| row.get(0))?;
    Ok(count)
}

/// Whether a lease still holds its slot.
pub(super) fn is_alive(tx: &Tx<'_>, lease: Uuid) -> Result<bool, Error> {
    let alive = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM lease WHERE id = ? AND expires > ?)")?
        .query_row(params![lease.to_string(), Micros(tx.now)], |row| row.get(0))?;
    Ok(alive)
}

/// Does with a flow run's slot what was decided.
pub(super) fn apply(tx: &Tx<'_>, deployment: &str, run: &str, slot: Slot) -> Result<(), Error> {
    match slot {
        Slot::Unchanged => {}
        Slot::Take { lease, grace } => {
            tx.prepare_cached("INSERT INTO lease VALUES (?, ?, ?, ?)")?
                .execute(params![lease.to_string(), deployment, run, end(tx, grace)])?;
        }
        Slot::Renew { grace } => {
            tx.prepare_cached("UPDATE lease SET expires = ? WHERE flow_run_id = ?")?
                .execute(params![end(tx, grace), run])?;
        }
        Slot::Free => {
            tx.prepare_cached("DELETE FROM lease WHERE flow_run_id = ?")?
                .execute([run])?;
        }
    }
    Ok(())
}

/// Lets a lease that still holds its slot start anew.
pub(crate) fn renew(tx: &Tx<'_>, lease: Uuid, duration: SignedDuration) -> Result<(), Error> {
    let renewed = tx.execute(
        "UPDATE lease SET expires = ? WHERE id = ? AND expires > ?",
        params![end(tx, duration), lease.to_string(), Micros(tx.now)],
    )?;
    match renewed {
        0 if limits::renew(tx, lease, end(tx, duration))? => Ok(()),
        0 => Err(Error::Gone(
            "Lease not found - it may have expired or been revoked".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Removes leases that have run out.
pub(crate) fn sweep(tx: &Tx<'_>) -> Result<usize, Error> {
    let gone = tx.execute("DELETE FROM lease WHERE expires <= ?", [Micros(tx.now)])?;
    Ok(gone + limits::sweep(tx)?)
}

fn end(tx: &Tx<'_>, duration: SignedDuration) -> Micros {
    Micros(tx.now.checked_add(duration).unwrap_or(jiff::Timestamp::MAX))
}
