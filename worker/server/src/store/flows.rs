//! Flows.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worker_api::types::FlowId;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    notices,
    value::{Micros, Raw},
};
use crate::error::Error;

/// A flow as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FlowView {
    id: String,
    created: Micros,
    updated: Micros,
    name: String,
    tags: Raw,
    labels: Raw,
}

/// What is sent to create a flow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowCreate {
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
}

/// What is sent to change a flow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowUpdate {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// What flows can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "f.id"),
    Field::text("name", "f.name"),
    Field::tags("tags", "f.tags"),
];

const SELECT: &str = "SELECT f.id, f.created, f.updated, f.name, f.tags, f.labels FROM flow f";

// === impl FlowView ===

impl FlowView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            tags: row.get(4)?,
            labels: row.get(5)?,
        })
    }
}

/// Makes a flow, or finds the one of this name. Says whether it was made.
pub(crate) fn create(tx: &Tx<'_>, flow: &FlowCreate) -> Result<(FlowView, bool), Error> {
    if let Some(found) = find_by_name(tx, &flow.name)? {
        return Ok((found, false));
    }
    tx.prepare_cached("INSERT INTO flow VALUES (?1, ?2, ?3, ?3, ?4, ?5)")?
        .execute(params![
            FlowId::random().to_string(),
            flow.name,
            Micros(tx.now),
            serde_json::to_string(&flow.tags)?,
            serde_json::to_string(&flow.labels.clone().unwrap_or_default())?,
        ])?;
    let view = read_by_name(tx, &flow.name)?;
    let payload = json!({ "name": view.name, "tags": view.tags, "labels": view.labels });
    notices::flow(tx, &view.id, &view.name, payload)?;
    Ok((view, true))
}

/// Reads a flow.
pub(crate) fn read(tx: &Tx<'_>, id: FlowId) -> Result<FlowView, Error> {
    tx.prepare_cached(&format!("{SELECT} WHERE f.id = ?"))?
        .query_row([id.to_string()], FlowView::read)
        .optional()?
        .ok_or_else(|| Error::not_found("Flow not found"))
}

/// Reads the flow of a name.
pub(crate) fn read_by_name(tx: &Tx<'_>, name: &str) -> Result<FlowView, Error> {
    find_by_name(tx, name)?.ok_or_else(|| Error::not_found("Flow not found"))
}

/// Changes a flow.
pub(crate) fn update(tx: &Tx<'_>, id: FlowId, update: &FlowUpdate) -> Result<(), Error> {
    let tags = update
        .tags
        .as_ref()
        .map(serde_json::to_string)
        .transpose()?;
    let changed = tx.execute(
        "UPDATE flow SET updated = ?2, tags = coalesce(?3, tags) WHERE id = ?1",
        params![id.to_string(), Micros(tx.now), tags],
    )?;
    match changed {
        0 => Err(Error::not_found("Flow not found")),
        _ => Ok(()),
    }
}

/// Deletes a flow and all that was made from it.
pub(crate) fn delete(tx: &Tx<'_>, id: FlowId) -> Result<(), Error> {
    match tx.execute("DELETE FROM flow WHERE id = ?", [id.to_string()])? {
        0 => Err(Error::not_found("Flow not found")),
        _ => Ok(()),
    }
}

/// Flows that meet a condition, by name.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<FlowView>, Error> {
    condition.list(tx, SELECT, "f.name", page, FlowView::read)
}

fn find_by_name(tx: &Tx<'_>, name: &str) -> Result<Option<FlowView>, Error> {
    let found = tx
        .prepare_cached(&format!("{SELECT} WHERE f.name = ?"))?
        .query_row([name], FlowView::read)
        .optional()?;
    Ok(found)
}
