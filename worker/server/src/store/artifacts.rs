//! Artifacts: what flow runs leave for people to look at.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    value::{Micros, Raw},
};
use crate::error::Error;

/// An artifact as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ArtifactView {
    id: String,
    created: Micros,
    updated: Micros,
    key: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    description: Option<String>,
    data: Option<Raw>,
    metadata_: Option<Raw>,
    flow_run_id: Option<String>,
    task_run_id: Option<String>,
    /// Where the last artifact of each key is listed, its id stands here as well.
    latest_id: String,
}

/// What is sent to create an artifact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtifactCreate {
    #[serde(default)]
    key: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    metadata_: Option<Map<String, Value>>,
    #[serde(default)]
    flow_run_id: Option<Uuid>,
    #[serde(default)]
    task_run_id: Option<Uuid>,
}

/// What is sent to change an artifact. What is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtifactUpdate {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    metadata_: Option<Map<String, Value>>,
}

/// What artifacts can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "a.id"),
    Field::text("latest_id", "a.id"),
    Field::text("key", "a.key"),
    Field::text("type", "a.type"),
    Field::text("flow_run_id", "a.flow_run_id"),
    Field::text("task_run_id", "a.task_run_id"),
];

const SELECT: &str =
    "SELECT a.id, a.created, a.updated, a.key, a.type, a.description, a.data, a.metadata,
    a.flow_run_id, a.task_run_id";
/// The artifacts with the flow runs that made them, which filters may speak of.
pub(crate) const FROM: &str = "FROM artifact a LEFT JOIN flow_run r ON r.id = a.flow_run_id
    LEFT JOIN flow f ON f.id = r.flow_id LEFT JOIN deployment d ON d.id = r.deployment_id
    LEFT JOIN work_queue q ON q.id = r.work_queue_id LEFT JOIN work_pool p ON p.id = q.work_pool_id";
/// Of the artifacts of one key, the last.
const LATEST: &str = "a.number = (SELECT max(number) FROM artifact l WHERE l.key = a.key)";

// === impl ArtifactView ===

impl ArtifactView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            key: row.get(3)?,
            kind: row.get(4)?,
            description: row.get(5)?,
            data: row.get(6)?,
            metadata_: row.get(7)?,
            flow_run_id: row.get(8)?,
            task_run_id: row.get(9)?,
            latest_id: row.get(0)?,
        })
    }
}

/// Makes an artifact.
pub(crate) fn create(tx: &Tx<'_>, artifact: &ArtifactCreate) -> Result<ArtifactView, Error> {
    let id = Uuid::now_v7();
    tx.prepare_cached(
        "INSERT INTO artifact (id, created, updated, key, type, description, data, metadata, flow_run_id, task_run_id)
            VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        id.to_string(),
        Micros(tx.now),
        artifact.key,
        artifact.kind,
        artifact.description,
        artifact.data.as_ref().map(Value::to_string),
        text(artifact.metadata_.as_ref())?,
        artifact.flow_run_id.map(|id| id.to_string()),
        artifact.task_run_id.map(|id| id.to_string()),
    ])?;
    read(tx, id)
}

/// Reads an artifact.
pub(crate) fn read(tx: &Tx<'_>, id: Uuid) -> Result<ArtifactView, Error> {
    find(tx, "a.id = ?", &id.to_string())
}

/// Reads the last artifact of a key.
pub(crate) fn read_latest(tx: &Tx<'_>, key: &str) -> Result<ArtifactView, Error> {
    find(tx, &format!("{LATEST} AND a.key = ?"), key)
}

/// Artifacts that meet a condition.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    sort: Option<&str>,
    page: Page,
) -> Result<Vec<ArtifactView>, Error> {
    let order = match sort.unwrap_or("ID_DESC") {
        "ID_DESC" => "a.id DESC",
        "CREATED_DESC" => "a.created DESC, a.id DESC",
        "UPDATED_DESC" => "a.updated DESC, a.id DESC",
        "KEY_ASC" => "a.key, a.id",
        "KEY_DESC" => "a.key DESC, a.id",
        _ => {
            return Err(Error::field(
                &["sort"],
                "The embedded API does not sort by this",
            ));
        }
    };
    condition.list(
        tx,
        &format!("{SELECT} {FROM}"),
        order,
        page,
        ArtifactView::read,
    )
}

/// Leaves of each key only the last artifact.
pub(crate) fn only_latest(condition: &mut Condition) {
    condition.and(LATEST, []);
}

/// Changes an artifact.
pub(crate) fn update(tx: &Tx<'_>, id: Uuid, update: &ArtifactUpdate) -> Result<(), Error> {
    let changed = tx.execute(
        "UPDATE artifact SET updated = ?2, description = coalesce(?3, description), data = coalesce(?4, data),
            metadata = coalesce(?5, metadata) WHERE id = ?1",
        params![
            id.to_string(),
            Micros(tx.now),
            update.description,
            update.data.as_ref().map(Value::to_string),
            text(update.metadata_.as_ref())?,
        ],
    )?;
    found(changed)
}

/// Deletes an artifact.
pub(crate) fn delete(tx: &Tx<'_>, id: Uuid) -> Result<(), Error> {
    found(tx.execute("DELETE FROM artifact WHERE id = ?", [id.to_string()])?)
}

fn find(tx: &Tx<'_>, condition: &str, value: &str) -> Result<ArtifactView, Error> {
    tx.prepare_cached(&format!("{SELECT} FROM artifact a WHERE {condition}"))?
        .query_row([value], ArtifactView::read)
        .optional()?
        .ok_or_else(|| Error::not_found("Artifact not found."))
}

fn found(changed: usize) -> Result<(), Error> {
    match changed {
        0 => Err(Error::not_found("Artifact not found.")),
        _ => Ok(()),
    }
}

fn text(object: Option<&Map<String, Value>>) -> Result<Option<String>, Error> {
    Ok(object.map(serde_json::to_string).transpose()?)
}
