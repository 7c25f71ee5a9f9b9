//! Workers: who polls a pool, and when it last said so.

use rusqlite::{Row, params, types::Value as Sql};
use serde::{Deserialize, Serialize};
use worker_api::types::WorkerId;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    notices, pools,
    value::Micros,
};
use crate::error::Error;

/// A worker as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkerView {
    id: String,
    created: Micros,
    updated: Micros,
    name: String,
    work_pool_id: String,
    last_heartbeat_time: Micros,
    heartbeat_interval_seconds: u32,
    status: &'static str,
}

/// What a worker says about itself. The additions of Prefect Cloud are ignored, as the reference does.
#[derive(Debug, Deserialize)]
pub(crate) struct Heartbeat {
    name: String,
    #[serde(default)]
    heartbeat_interval_seconds: Option<u32>,
}

/// What workers can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::time("last_heartbeat_time", "w.last_heartbeat"),
    Field::text("status", STATUS),
];

/// A worker is offline after three intervals without a heartbeat (3.8.8).
const STATUS: &str =
    "iif(w.last_heartbeat + w.heartbeat_interval_seconds * 3000000 > n.now, 'ONLINE', 'OFFLINE')";
/// What a worker is assumed to mean that does not say how often it will call (3.8.8).
const INTERVAL: u32 = 30;

// === impl WorkerView ===

impl WorkerView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let status: String = row.get(6)?;
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(4)?,
            name: row.get(2)?,
            work_pool_id: row.get(3)?,
            last_heartbeat_time: row.get(4)?,
            heartbeat_interval_seconds: row.get(5)?,
            status: if status == "ONLINE" {
                "ONLINE"
            } else {
                "OFFLINE"
            },
        })
    }
}

// === impl Heartbeat ===

impl Heartbeat {
    /// The heartbeat of a worker that says how often it will call.
    pub(crate) fn of(name: String, interval_seconds: u32) -> Self {
        Self {
            name,
            heartbeat_interval_seconds: Some(interval_seconds),
        }
    }
}

/// Notes that a worker lives; the first heartbeat makes its record.
pub(crate) fn heartbeat(tx: &Tx<'_>, pool: &str, heartbeat: &Heartbeat) -> Result<(), Error> {
    let pool = pools::read(tx, pool)?;
    tx.prepare_cached(
        "INSERT INTO worker VALUES (?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT (work_pool_id, name)
            DO UPDATE SET last_heartbeat = ?4, heartbeat_interval_seconds = ?5",
    )?
    .execute(params![
        WorkerId::random().to_string(),
        pool.id,
        heartbeat.name,
        Micros(tx.now),
        heartbeat.heartbeat_interval_seconds.unwrap_or(INTERVAL),
    ])?;
    if pool.status == "NOT_READY" {
        notices::statuses(tx)?;
    }
    Ok(())
}

/// The workers of a pool, the latest heartbeat first.
pub(crate) fn filter(
    tx: &Tx<'_>,
    pool: &str,
    mut condition: Condition,
    page: Page,
) -> Result<Vec<WorkerView>, Error> {
    let pool = pools::read(tx, pool)?;
    condition.and("w.work_pool_id = ?", [Sql::from(pool.id)]);
    let select = format!(
        "SELECT w.id, w.created, w.name, w.work_pool_id, w.last_heartbeat, w.heartbeat_interval_seconds, {STATUS}
            FROM worker w JOIN (SELECT ? AS now) n"
    );
    let condition = condition.after(tx.now.as_microsecond());
    condition.list(tx, &select, "w.last_heartbeat DESC", page, WorkerView::read)
}

/// Forgets a worker.
pub(crate) fn delete(tx: &Tx<'_>, pool: &str, name: &str) -> Result<(), Error> {
    let pool = pools::read(tx, pool)?;
    let deleted = tx.execute(
        "DELETE FROM worker WHERE work_pool_id = ? AND name = ?",
        [pool.id, name.to_owned()],
    )?;
    match deleted {
        0 => Err(Error::not_found("Worker not found.")),
        _ => Ok(()),
    }
}
