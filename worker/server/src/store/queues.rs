//! Work queues: the lanes of a pool.

use rusqlite::{OptionalExtension, Row, params, types::Value as Sql};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker_api::types::WorkQueueId;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    notices, pools,
    value::Micros,
};
use crate::{error::Error, patch::Patch};

/// A work queue as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueueView {
    pub(crate) id: String,
    created: Micros,
    updated: Micros,
    pub(crate) name: String,
    description: Option<String>,
    pub(crate) is_paused: bool,
    pub(crate) concurrency_limit: Option<u32>,
    priority: u32,
    work_pool_id: String,
    filter: Option<()>,
    pub(crate) last_polled: Option<Micros>,
    pub(crate) work_pool_name: String,
    pub(crate) status: &'static str,
    pub(crate) active_slots: Option<u32>,
}

/// What is sent to create a queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueCreate {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    is_paused: bool,
    #[serde(default)]
    concurrency_limit: Option<u32>,
    #[serde(default)]
    priority: Option<u32>,
    /// Deprecated in the reference, and of no effect.
    #[serde(default, rename = "filter")]
    _filter: Option<Value>,
}

/// What is sent to change a queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueUpdate {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Patch<String>,
    #[serde(default)]
    is_paused: Option<bool>,
    #[serde(default)]
    concurrency_limit: Patch<u32>,
    #[serde(default)]
    priority: Option<u32>,
    #[serde(default, rename = "last_polled")]
    _last_polled: Option<Value>,
    #[serde(default, rename = "filter")]
    _filter: Option<Value>,
}

/// What queues can be filtered by.
pub(crate) const FIELDS: &[Field] = &[Field::text("id", "q.id"), Field::text("name", "q.name")];

const SELECT: &str = "SELECT q.id, q.created, q.updated, q.name, q.description, q.is_paused, q.concurrency_limit,
    q.priority, q.work_pool_id, q.last_polled, p.name, coalesce(q.last_polled, 0) > ?1 - 60000000,
    CASE WHEN q.concurrency_limit IS NOT NULL THEN
        (SELECT count(*) FROM flow_run r WHERE r.work_queue_id = q.id AND r.state_type IN ('RUNNING', 'PENDING')) END
    FROM work_queue q JOIN work_pool p ON p.id = q.work_pool_id";

// === impl QueueView ===

impl QueueView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let is_paused = row.get(5)?;
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            description: row.get(4)?,
            is_paused,
            concurrency_limit: row.get(6)?,
            priority: row.get(7)?,
            work_pool_id: row.get(8)?,
            filter: None,
            last_polled: row.get(9)?,
            work_pool_name: row.get(10)?,
            status: pools::status(is_paused, row.get(11)?),
            active_slots: row.get(12)?,
        })
    }
}

/// Makes a queue.
pub(crate) fn create(tx: &Tx<'_>, pool: &str, queue: &QueueCreate) -> Result<QueueView, Error> {
    let pool = pools::read(tx, pool)?;
    if find(tx, &pool.name, &queue.name)?.is_some() {
        return Err(Error::Conflict(format!(
            "A work queue with this name already exists in work pool '{}'.",
            pool.name
        )));
    }
    let priority = match queue.priority {
        Some(0) => {
            return Err(Error::field(
                &["priority"],
                "Input should be greater than 0",
            ));
        }
        Some(priority) => {
            make_room(tx, &pool.id, priority)?;
            priority
        }
        None => tx.query_row(
            "SELECT coalesce(max(priority), 0) + 1 FROM work_queue WHERE work_pool_id = ?",
            [&pool.id],
            |row| row.get(0),
        )?,
    };
    tx.prepare_cached("INSERT INTO work_queue VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, NULL)")?
        .execute(params![
            WorkQueueId::random().to_string(),
            pool.id,
            queue.name,
            Micros(tx.now),
            queue.description.as_deref().unwrap_or_default(),
            priority,
            queue.is_paused,
            queue.concurrency_limit,
        ])?;
    let view = read(tx, &pool.name, &queue.name)?;
    notices::queue(tx, &view, "created")?;
    Ok(view)
}

/// Reads the queue of a name.
pub(crate) fn read(tx: &Tx<'_>, pool: &str, name: &str) -> Result<QueueView, Error> {
    find(tx, pool, name)?
        .ok_or_else(|| Error::not_found(format!("Work pool queue '{pool}/{name}' not found.")))
}

/// Reads the queue of an id, whatever its pool.
pub(crate) fn read_by_id(tx: &Tx<'_>, id: WorkQueueId) -> Result<QueueView, Error> {
    tx.prepare_cached(&format!("{SELECT} WHERE q.id = ?2"))?
        .query_row(params![Micros(tx.now), id.to_string()], QueueView::read)
        .optional()?
        .ok_or_else(|| Error::not_found("Work queue not found"))
}

/// Whether a queue is polled and nothing waits in it for too long, in the reference's words (3.8.8).
pub(crate) fn health(tx: &Tx<'_>, id: WorkQueueId) -> Result<Value, Error> {
    let queue = read_by_id(tx, id)?;
    let late: u32 = tx
        .prepare_cached(
            "SELECT count(*) FROM flow_run WHERE work_queue_id = ? AND state_name = 'Late'",
        )?
        .query_row([&queue.id], |row| row.get(0))?;
    Ok(json!({
        "healthy": late == 0 && queue.status == "READY",
        "late_runs_count": late,
        "last_polled": queue.last_polled,
        "health_check_policy": { "maximum_late_runs": 0, "maximum_seconds_since_last_polled": 60 },
    }))
}

/// Finds the queue of a name, and makes it when there is none, as a deployment does that names it.
pub(crate) fn ensure(tx: &Tx<'_>, pool: &str, name: &str) -> Result<QueueView, Error> {
    if let Some(found) = find(tx, pool, name)? {
        return Ok(found);
    }
    let queue = QueueCreate {
        name: name.to_owned(),
        description: None,
        is_paused: false,
        concurrency_limit: None,
        priority: None,
        _filter: None,
    };
    create(tx, pool, &queue)
}

/// The queues of a pool, the most urgent first.
pub(crate) fn of_pool(tx: &Tx<'_>, pool_id: &str) -> Result<Vec<QueueView>, Error> {
    let rows = tx
        .prepare_cached(&format!(
            "{SELECT} WHERE q.work_pool_id = ?2 ORDER BY q.priority, q.name"
        ))?
        .query_map(params![Micros(tx.now), pool_id], QueueView::read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Queues of a pool that meet a condition.
pub(crate) fn filter(
    tx: &Tx<'_>,
    pool: Option<&str>,
    mut condition: Condition,
    page: Page,
) -> Result<Vec<QueueView>, Error> {
    if let Some(pool) = pool {
        let pool = pools::read(tx, pool)?;
        condition.and("q.work_pool_id = ?", [Sql::from(pool.id)]);
    }
    let condition = condition.after(tx.now.as_microsecond());
    condition.list(tx, SELECT, "q.priority, q.name", page, QueueView::read)
}

/// Changes a queue.
pub(crate) fn update(
    tx: &Tx<'_>,
    pool: &str,
    name: &str,
    update: &QueueUpdate,
) -> Result<(), Error> {
    let queue = read(tx, pool, name)?;
    if let Some(priority) = update.priority.filter(|new| *new != queue.priority) {
        make_room(tx, &queue.work_pool_id, priority)?;
    }
    tx.prepare_cached(
        "UPDATE work_queue SET updated = ?2, name = coalesce(?3, name), is_paused = coalesce(?4, is_paused),
            priority = coalesce(?5, priority),
            description = CASE WHEN ?6 THEN ?7 ELSE description END,
            concurrency_limit = CASE WHEN ?8 THEN ?9 ELSE concurrency_limit END WHERE id = ?1",
    )?
    .execute(params![
        queue.id,
        Micros(tx.now),
        update.name,
        update.is_paused,
        update.priority,
        update.description.changes(),
        update.description,
        update.concurrency_limit.changes(),
        update.concurrency_limit,
    ])?;
    notices::statuses(tx)?;
    let name = update.name.as_deref().unwrap_or(name);
    notices::queue_updated(tx, &queue, &read(tx, pool, name)?)
}

/// Deletes a queue that is not its pool's default.
pub(crate) fn delete(tx: &Tx<'_>, pool: &str, name: &str) -> Result<(), Error> {
    let queue = read(tx, pool, name)?;
    if pools::read(tx, pool)?.default_queue_id == queue.id {
        return Err(Error::Conflict(
            "The default queue of a pool cannot be deleted.".to_owned(),
        ));
    }
    notices::queue(tx, &queue, "deleted")?;
    tx.execute("DELETE FROM work_queue WHERE id = ?", [queue.id])?;
    Ok(())
}

fn find(tx: &Tx<'_>, pool: &str, name: &str) -> Result<Option<QueueView>, Error> {
    let found = tx
        .prepare_cached(&format!("{SELECT} WHERE p.name = ?2 AND q.name = ?3"))?
        .query_row(params![Micros(tx.now), pool, name], QueueView::read)
        .optional()?;
    Ok(found)
}

/// Queues of one pool have different priorities: those at or behind a place that is taken move back by one.
fn make_room(tx: &Tx<'_>, pool_id: &str, priority: u32) -> Result<(), Error> {
    tx.execute(
        "UPDATE work_queue SET priority = priority + 1 WHERE work_pool_id = ?1 AND priority >= ?2
            AND EXISTS (SELECT 1 FROM work_queue WHERE work_pool_id = ?1 AND priority = ?2)",
        params![pool_id, priority],
    )?;
    Ok(())
}
