//! Work pools.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worker_api::types::{WorkPoolId, WorkQueueId};

use super::{
    Tx,
    filter::{Condition, Field, Page},
    notices, queues,
    value::{Micros, Raw},
};
use crate::{error::Error, patch::Patch, validation};

/// A work pool as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PoolView {
    pub(crate) id: String,
    created: Micros,
    pub(crate) updated: Micros,
    pub(crate) name: String,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    pub(crate) base_job_template: Raw,
    pub(crate) is_paused: bool,
    pub(crate) concurrency_limit: Option<u32>,
    pub(crate) status: &'static str,
    pub(crate) default_queue_id: String,
    storage_configuration: Raw,
    /// Counted only where there is a limit, because a poll reads the pool and counting costs.
    pub(crate) active_slots: Option<u32>,
}

/// What is sent to create a pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolCreate {
    pub(crate) name: String,
    #[serde(rename = "type", default = "PoolCreate::default_type")]
    kind: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    base_job_template: Map<String, Value>,
    #[serde(default)]
    is_paused: bool,
    #[serde(default)]
    concurrency_limit: Option<u32>,
    #[serde(default)]
    storage_configuration: Option<Map<String, Value>>,
}

/// What is sent to change a pool. A key that is absent changes nothing; null takes the value away where it may be away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolUpdate {
    #[serde(default)]
    description: Patch<String>,
    #[serde(default)]
    is_paused: Option<bool>,
    #[serde(default)]
    base_job_template: Option<Map<String, Value>>,
    #[serde(default)]
    concurrency_limit: Patch<u32>,
    #[serde(default)]
    storage_configuration: Option<Map<String, Value>>,
}

/// What pools can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "p.id"),
    Field::text("name", "p.name"),
    Field::text("type", "p.type"),
];

const SELECT: &str =
    "SELECT p.id, p.created, p.updated, p.name, p.description, p.type, p.base_job_template,
    p.is_paused, p.concurrency_limit, p.default_queue_id, p.storage_configuration,
    EXISTS (SELECT 1 FROM worker w WHERE w.work_pool_id = p.id
        AND w.last_heartbeat + w.heartbeat_interval_seconds * 3000000 > ?1),
    CASE WHEN p.concurrency_limit IS NOT NULL THEN
        (SELECT count(*) FROM work_queue q JOIN flow_run r ON r.work_queue_id = q.id
            AND r.state_type IN ('RUNNING', 'PENDING') WHERE q.work_pool_id = p.id) END
    FROM work_pool p";

// === impl PoolView ===

impl PoolView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let is_paused = row.get(7)?;

        let online: bool = row.get(11)?;
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            description: row.get(4)?,
            kind: row.get(5)?,
            base_job_template: row.get(6)?,
            is_paused,
            concurrency_limit: row.get(8)?,
            status: status(is_paused, online),
            default_queue_id: row.get(9)?,
            storage_configuration: row.get(10)?,
            active_slots: row.get(12)?,
        })
    }

    /// Whether nobody has given it a base job template yet.
    pub(crate) fn is_template_empty(&self) -> bool {
        self.base_job_template.0.get() == "{}"
    }

    /// Its base job template.
    pub(crate) fn template(&self) -> Result<Value, Error> {
        Ok(serde_json::from_str(self.base_job_template.0.get())?)
    }
}

// === impl PoolCreate ===

impl PoolCreate {
    /// A pool of a type, with its template.
    pub(crate) fn new(name: &str, kind: &str, template: Map<String, Value>) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            description: None,
            base_job_template: template,
            is_paused: false,
            concurrency_limit: None,
            storage_configuration: None,
        }
    }

    fn default_type() -> String {
        "prefect-agent".to_owned()
    }
}

// === impl PoolUpdate ===

impl PoolUpdate {
    /// Another template, and nothing else.
    pub(crate) fn template(template: Map<String, Value>) -> Self {
        Self {
            description: Patch::Keep,
            is_paused: None,
            base_job_template: Some(template),
            concurrency_limit: Patch::Keep,
            storage_configuration: None,
        }
    }
}

/// Makes a pool and its default queue.
pub(crate) fn create(tx: &Tx<'_>, pool: &PoolCreate) -> Result<PoolView, Error> {
    check_name(&pool.name)?;
    let template = Value::Object(pool.base_job_template.clone());
    validation::check_template(&template)?;
    if find(tx, &pool.name)?.is_some() {
        return Err(Error::Conflict(
            "A work pool with this name already exists.".to_owned(),
        ));
    }
    let (id, queue) = (WorkPoolId::random(), WorkQueueId::random());
    tx.prepare_cached(
        "INSERT INTO work_pool VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        id.to_string(),
        pool.name,
        Micros(tx.now),
        pool.kind,
        pool.description,
        template.to_string(),
        pool.is_paused,
        pool.concurrency_limit,
        storage(pool.storage_configuration.as_ref()).to_string(),
        queue.to_string(),
    ])?;
    tx.prepare_cached(
        "INSERT INTO work_queue VALUES (?1, ?2, 'default', ?3, ?3, 'The work pool''s default queue.', 1, 0, NULL, NULL)",
    )?
    .execute(params![queue.to_string(), id.to_string(), Micros(tx.now)])?;
    let view = read(tx, &pool.name)?;
    notices::queue(tx, &queues::read(tx, &pool.name, "default")?, "created")?;
    notices::pool(tx, &view, "created")?;
    notices::statuses(tx)?;
    Ok(view)
}

/// Reads the pool of a name.
pub(crate) fn read(tx: &Tx<'_>, name: &str) -> Result<PoolView, Error> {
    find(tx, name)?.ok_or_else(|| Error::not_found(format!("Work pool \"{name}\" not found.")))
}

/// Pools that meet a condition, by name.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<PoolView>, Error> {
    let condition = condition.after(tx.now.as_microsecond());
    condition.list(tx, SELECT, "p.name", page, PoolView::read)
}

/// Changes a pool.
pub(crate) fn update(tx: &Tx<'_>, name: &str, update: &PoolUpdate) -> Result<(), Error> {
    let pool = read(tx, name)?;
    let template = update.base_job_template.clone().map(Value::Object);
    if let Some(template) = &template {
        validation::check_template(template)?;
    }
    tx.prepare_cached(
        "UPDATE work_pool SET updated = ?2, is_paused = coalesce(?3, is_paused),
            base_job_template = coalesce(?4, base_job_template),
            description = CASE WHEN ?5 THEN ?6 ELSE description END,
            concurrency_limit = CASE WHEN ?7 THEN ?8 ELSE concurrency_limit END,
            storage_configuration = coalesce(?9, storage_configuration) WHERE id = ?1",
    )?
    .execute(params![
        pool.id,
        Micros(tx.now),
        update.is_paused,
        template.map(|template| template.to_string()),
        update.description.changes(),
        update.description,
        update.concurrency_limit.changes(),
        update.concurrency_limit,
        update
            .storage_configuration
            .as_ref()
            .map(|given| storage(Some(given)).to_string()),
    ])?;
    notices::statuses(tx)?;
    notices::pool_updated(tx, &pool, &read(tx, name)?)
}

/// Deletes a pool with its queues and workers; flow runs stay, without a queue.
pub(crate) fn delete(tx: &Tx<'_>, name: &str) -> Result<(), Error> {
    let pool = read(tx, name)?;
    for queue in queues::of_pool(tx, &pool.id)? {
        notices::queue(tx, &queue, "deleted")?;
    }
    notices::pool(tx, &pool, "deleted")?;
    tx.execute("DELETE FROM work_pool WHERE id = ?", [pool.id])?;
    Ok(())
}

/// `PAUSED`, `READY` or `NOT_READY`.
pub(super) fn status(is_paused: bool, is_served: bool) -> &'static str {
    match (is_paused, is_served) {
        (true, _) => "PAUSED",
        (false, true) => "READY",
        (false, false) => "NOT_READY",
    }
}

fn find(tx: &Tx<'_>, name: &str) -> Result<Option<PoolView>, Error> {
    let found = tx
        .prepare_cached(&format!("{SELECT} WHERE p.name = ?2"))?
        .query_row(params![Micros(tx.now), name], PoolView::read)
        .optional()?;
    Ok(found)
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.to_lowercase().starts_with("prefect") {
        return Err(Error::Forbidden(
            "Work pools starting with 'Prefect' are reserved for internal use.".to_owned(),
        ));
    }
    if name.trim().is_empty() || name.contains(['/', '%', '&', '>', '<']) {
        return Err(Error::field(
            &["name"],
            "Value error, a name is not empty and has none of / % & > <",
        ));
    }
    Ok(())
}

/// The storage configuration with each of its keys.
fn storage(given: Option<&Map<String, Value>>) -> Value {
    let get = |key| given.and_then(|given| given.get(key)).cloned();
    json!({
        "bundle_upload_step": get("bundle_upload_step"),
        "bundle_execution_step": get("bundle_execution_step"),
        "default_result_storage_block_id": get("default_result_storage_block_id"),
    })
}
