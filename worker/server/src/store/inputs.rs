//! Inputs of flow runs: what a waiting flow run is told while it runs.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use worker_api::types::FlowRunId;

use super::{Tx, value::Micros};
use crate::error::Error;

/// An input as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InputView {
    id: String,
    created: Micros,
    updated: Micros,
    flow_run_id: String,
    key: String,
    value: String,
    sender: Option<String>,
}

/// What is sent to create an input.
#[derive(Debug, Deserialize)]
pub(crate) struct InputCreate {
    pub(crate) key: String,
    /// JSON, as text.
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) sender: Option<String>,
}

/// Which inputs of a flow run somebody wants.
#[derive(Debug, Deserialize)]
pub(crate) struct InputFilter {
    prefix: String,
    #[serde(default = "InputFilter::default_limit")]
    limit: u32,
    #[serde(default)]
    exclude_keys: Vec<String>,
}

// === impl InputView ===

impl InputView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(1)?,
            flow_run_id: row.get(2)?,
            key: row.get(3)?,
            value: row.get(4)?,
            sender: row.get(5)?,
        })
    }
}

// === impl InputFilter ===

impl InputFilter {
    fn default_limit() -> u32 {
        1
    }
}

/// Makes an input.
pub(crate) fn create(tx: &Tx<'_>, run: FlowRunId, input: &InputCreate) -> Result<(), Error> {
    if find(tx, run, &input.key)?.is_some() {
        return Err(Error::Conflict(
            "A flow run input with this key already exists.".to_owned(),
        ));
    }
    tx.prepare_cached(
        "INSERT INTO flow_run_input (id, created, flow_run_id, key, value, sender) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        Uuid::now_v7().to_string(),
        Micros(tx.now),
        run.to_string(),
        input.key,
        input.value,
        input.sender,
    ])
    .map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => Error::not_found("Flow run not found"),
        _ => error.into(),
    })?;
    Ok(())
}

/// The inputs whose keys begin with a text, the oldest first.
pub(crate) fn filter(
    tx: &Tx<'_>,
    run: FlowRunId,
    filter: &InputFilter,
) -> Result<Vec<InputView>, Error> {
    let rows = tx
        .prepare_cached(
            "SELECT id, created, flow_run_id, key, value, sender FROM flow_run_input WHERE flow_run_id = ?1
                AND substr(key, 1, length(?2)) = ?2 AND key NOT IN (SELECT value FROM json_each(?3))
                ORDER BY number LIMIT ?4",
        )?
        .query_map(
            params![
                run.to_string(),
                filter.prefix,
                serde_json::to_string(&filter.exclude_keys)?,
                filter.limit
            ],
            InputView::read,
        )?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// The value of an input.
pub(crate) fn read(tx: &Tx<'_>, run: FlowRunId, key: &str) -> Result<String, Error> {
    find(tx, run, key)?.ok_or_else(|| Error::not_found("Flow run input not found"))
}

/// Deletes an input.
pub(crate) fn delete(tx: &Tx<'_>, run: FlowRunId, key: &str) -> Result<(), Error> {
    let deleted = tx.execute(
        "DELETE FROM flow_run_input WHERE flow_run_id = ? AND key = ?",
        [run.to_string(), key.to_owned()],
    )?;
    match deleted {
        0 => Err(Error::not_found("Flow run input not found")),
        _ => Ok(()),
    }
}

/// The value of an input, if there is one.
pub(crate) fn find(tx: &Tx<'_>, run: FlowRunId, key: &str) -> Result<Option<String>, Error> {
    let found = tx
        .prepare_cached("SELECT value FROM flow_run_input WHERE flow_run_id = ? AND key = ?")?
        .query_row([run.to_string(), key.to_owned()], |row| row.get(0))
        .optional()?;
    Ok(found)
}
