//! Logs of flow runs.

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    value::{Micros, parse_time, time},
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

/// Which log entries a subscriber wants. Absent conditions do not restrict; one unknown, and the filter is refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogFilter {
    #[serde(rename = "operator")]
    _operator: Option<String>,
    level: Option<Levels>,
    timestamp: Option<Times>,
    flow_run_id: Option<Ids>,
    task_run_id: Option<Ids>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Levels {
    ge_: Option<i64>,
    le_: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Times {
    #[serde(deserialize_with = "time::deserialize")]
    before_: Option<Timestamp>,
    #[serde(deserialize_with = "time::deserialize")]
    after_: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ids {
    any_: Option<Vec<String>>,
    is_null_: Option<bool>,
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

// === impl LogFilter ===

impl LogFilter {
    /// Whether an entry meets every condition.
    pub(crate) fn wants(&self, log: &LogView) -> bool {
        let Micros(time) = log.timestamp;
        self.level.as_ref().is_none_or(|level| {
            level.ge_.is_none_or(|least| log.level >= least)
                && level.le_.is_none_or(|most| log.level <= most)
        }) && self.timestamp.as_ref().is_none_or(|times| {
            times.before_.is_none_or(|before| time <= before)
                && times.after_.is_none_or(|after| time >= after)
        }) && wants_id(self.flow_run_id.as_ref(), log.flow_run_id.as_ref())
            && wants_id(self.task_run_id.as_ref(), log.task_run_id.as_ref())
    }
}

fn wants_id(ids: Option<&Ids>, id: Option<&String>) -> bool {
    ids.is_none_or(|ids| {
        let is_one = |any: &Vec<String>| id.is_some_and(|id| any.contains(id));
        ids.any_.as_ref().is_none_or(is_one) && ids.is_null_.is_none_or(|null| id.is_none() == null)
    })
}

/// Stores a batch, all of it or nothing, and gives the entries as subscribers get them.
pub(crate) fn create(tx: &Tx<'_>, logs: &[LogCreate]) -> Result<Vec<LogView>, Error> {
    let mut stored = Vec::with_capacity(logs.len());
    let mut insert = tx.prepare_cached(
        "INSERT INTO log (id, created, flow_run_id, task_run_id, name, level, message, timestamp)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for log in logs {
        let view = LogView {
            id: Uuid::now_v7().to_string(),
            created: Micros(tx.now),
            updated: Micros(tx.now),
            name: log.name.clone(),
            level: log.level,
            message: log.message.clone(),
            timestamp: Micros(log.time()?),
            flow_run_id: log.flow_run_id.map(|id| id.to_string()),
            task_run_id: log.task_run_id.map(|id| id.to_string()),
        };
        insert.execute(params![
            view.id,
            view.created,
            view.flow_run_id,
            view.task_run_id,
            view.name,
            view.level,
            view.message,
            view.timestamp,
        ])?;
        stored.push(view);
    }
    Ok(stored)
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
