//! Logs of flow runs.

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    value::{Micros, parse_time},
};
use crate::error::Error;

/// A log entry as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LogView {
    id: String,
    created: Micros,
    updated: Micros,
    name: String,
    level: i64,
    message: String,
    timestamp: Micros,
    flow_run_id: Option<String>,
    task_run_id: Option<String>,
}

/// A log entry as it is sent. One unknown key, and the batch is refused, as the reference does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogCreate {
    name: String,
    level: i64,
    message: String,
    timestamp: String,
    #[serde(default)]
    flow_run_id: Option<Uuid>,
    #[serde(default)]
    task_run_id: Option<Uuid>,
}

/// What logs can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::number("level", "l.level"),
    Field::time("timestamp", "l.timestamp"),
    Field::text("flow_run_id", "l.flow_run_id"),
    Field::text("task_run_id", "l.task_run_id"),
    Field::text("id", "l.id"),
];

// === impl LogCreate ===

impl LogCreate {
    fn time(&self) -> Result<Timestamp, Error> {
        parse_time(&self.timestamp)
            .ok_or_else(|| Error::field(&["timestamp"], "Input should be a valid datetime"))
    }
}

// === impl LogView ===

impl LogView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(1)?,
            name: row.get(2)?,
            level: row.get(3)?,
            message: row.get(4)?,
            timestamp: row.get(5)?,
            flow_run_id: row.get(6)?,
            task_run_id: row.get(7)?,
        })
    }
}

/// Stores a batch, all of it or nothing.
pub(crate) fn create(tx: &Tx<'_>, logs: &[LogCreate]) -> Result<(), Error> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO log (id, created, flow_run_id, task_run_id, name, level, message, timestamp)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for log in logs {
        insert.execute(params![
            Uuid::now_v7().to_string(),
            Micros(tx.now),
            log.flow_run_id.map(|id| id.to_string()),
            log.task_run_id.map(|id| id.to_string()),
            log.name,
            log.level,
            log.message,
            Micros(log.time()?),
        ])?;
    }
    Ok(())
}

/// Entries that meet a condition; of the same time, in the order they came.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    sort: Option<&str>,
    page: Page,
) -> Result<Vec<LogView>, Error> {
    let order = match sort {
        None | Some("TIMESTAMP_ASC") => "l.timestamp, l.number",
        Some("TIMESTAMP_DESC") => "l.timestamp DESC, l.number DESC",
        Some(_) => {
            return Err(Error::field(
                &["sort"],
                "Input should be 'TIMESTAMP_ASC' or 'TIMESTAMP_DESC'",
            ));
        }
    };
    let select = "SELECT l.id, l.created, l.name, l.level, l.message, l.timestamp, l.flow_run_id, l.task_run_id FROM log l";
    condition.list(tx, select, order, page, LogView::read)
}

/// Deletes the log of a flow run, which goes with it.
pub(super) fn delete_of_run(tx: &Tx<'_>, run: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM log WHERE flow_run_id = ?")?
        .execute([run])?;
    Ok(())
}
