//! What is told of pools, queues, flows and deployments: that one was made, changed or deleted, and how it is.

use jiff::SignedDuration;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Tx, pools::PoolView, queues::QueueView, value::Micros};
use crate::{
    error::Error,
    events::{Event, in_role, resource},
};

/// A thing whose status is another than the one that was told last.
struct Changed {
    id: String,
    name: String,
    status: String,
    /// The event that told the last one, and when.
    told: Option<(Uuid, Micros)>,
}

/// An event about a pool's status is said to follow the one before when it is this close to it (3.8.8).
const CLOSE: SignedDuration = SignedDuration::from_mins(10);

/// The pools with another status than was told; a new pool's is told at once (3.8.8).
const POOLS: &str = "SELECT p.id, p.name, CASE WHEN p.is_paused THEN 'paused' WHEN EXISTS (SELECT 1 FROM worker w
        WHERE w.work_pool_id = p.id AND w.last_heartbeat + w.heartbeat_interval_seconds * 3000000 > ?1)
        THEN 'ready' ELSE 'not-ready' END AS present, t.event_id, t.told
    FROM work_pool p LEFT JOIN told_status t ON t.resource = 'prefect.work-pool.' || p.id
    WHERE present IS NOT t.status";
const QUEUES: &str = "SELECT q.id, q.name, CASE WHEN q.is_paused THEN 'paused'
        WHEN coalesce(q.last_polled, 0) > ?1 - 60000000 THEN 'ready' ELSE 'not-ready' END AS present, NULL, NULL
    FROM work_queue q LEFT JOIN told_status t ON t.resource = 'prefect.work-queue.' || q.id
    WHERE present <> coalesce(t.status, 'not-ready')";
const DEPLOYMENTS: &str = "SELECT d.id, d.name,
        CASE WHEN max(coalesce(q.last_polled, 0), coalesce(y.last_polled, 0)) > ?1 - 60000000
        THEN 'ready' ELSE 'not-ready' END AS present, NULL, NULL
    FROM deployment d LEFT JOIN work_queue q ON q.id = d.work_queue_id
    LEFT JOIN deployment_poll y ON y.deployment_id = d.id
    LEFT JOIN told_status t ON t.resource = 'prefect.deployment.' || d.id
    WHERE present <> coalesce(t.status, 'not-ready')";

// === impl Changed ===

impl Changed {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let event: Option<String> = row.get(3)?;
        let told: Option<Micros> = row.get(4)?;
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            status: row.get(2)?,
            told: event.and_then(|id| id.parse().ok()).zip(told),
        })
    }

    fn find(tx: &Tx<'_>, select: &str) -> Result<Vec<Self>, Error> {
        let found = tx
            .prepare_cached(select)?
            .query_map([Micros(tx.now)], Self::read)?
            .collect::<Result<_, _>>()?;
        Ok(found)
    }

    fn tell(self, tx: &Tx<'_>, kind: &str, event: Event) -> Result<(), Error> {
        let follows = self
            .told
            .filter(|(_, Micros(told))| tx.now.duration_since(*told) < CLOSE)
            .map(|(id, _)| id);
        let event = event.following(follows);
        tx.prepare_cached("INSERT OR REPLACE INTO told_status VALUES (?, ?, ?, ?)")?
            .execute(params![
                format!("prefect.{kind}.{}", self.id),
                self.status,
                event.id.to_string(),
                Micros(tx.now)
            ])?;
        tx.publish(event)
    }
}

/// Tells what has another status than was told: because something happened, or because time went by.
pub(crate) fn statuses(tx: &Tx<'_>) -> Result<(), Error> {
    for changed in Changed::find(tx, POOLS)? {
        let pool = pool_resource(tx, &changed.id)?.unwrap_or_default();
        let event = event(
            tx,
            "work-pool",
            &changed.status,
            pool,
            Vec::new(),
            json!({}),
        );
        changed.tell(tx, "work-pool", event)?;
    }
    for changed in Changed::find(tx, QUEUES)? {
        let queue = in_role(
            resource("work-queue", &changed.id, &changed.name),
            "work-queue",
        );
        let related = pool_of_queue(tx, &changed.id)?;
        let event = event(tx, "work-queue", &changed.status, queue, related, json!({}));
        changed.tell(tx, "work-queue", event)?;
    }
    for changed in Changed::find(tx, DEPLOYMENTS)? {
        let event = about_deployment(tx, &changed.id, &changed.status, json!({}))?;
        if let Some(event) = event {
            changed.tell(tx, "deployment", event)?;
        }
    }
    Ok(())
}

/// A pool was made or deleted.
pub(super) fn pool(tx: &Tx<'_>, pool: &PoolView, what: &str) -> Result<(), Error> {
    let Some(own) = pool_resource(tx, &pool.id)? else {
        return Ok(());
    };
    let queue =
        json!({ "prefect.resource.id": format!("prefect.work-queue.{}", pool.default_queue_id) });
    let related = vec![in_role(queue, "default-queue")];
    tx.publish(event(
        tx,
        "work-pool",
        what,
        in_role(own, "work-pool"),
        related,
        json!({}),
    ))?;
    forget(tx, what, "work-pool", &pool.id)
}

/// A pool was changed.
pub(super) fn pool_updated(tx: &Tx<'_>, before: &PoolView, after: &PoolView) -> Result<(), Error> {
    let kept = [
        "description",
        "base_job_template",
        "concurrency_limit",
        "storage_configuration",
    ];
    let own = pool_resource(tx, &after.id)?.unwrap_or_default();
    match changes(before, after, &kept)? {
        Some(payload) => tx.publish(event(
            tx,
            "work-pool",
            "updated",
            in_role(own, "work-pool"),
            Vec::new(),
            payload,
        )),
        None => Ok(()),
    }
}

/// A queue was made or deleted.
pub(super) fn queue(tx: &Tx<'_>, queue: &QueueView, what: &str) -> Result<(), Error> {
    tell_of_queue(tx, queue, what, json!({}))?;
    forget(tx, what, "work-queue", &queue.id)
}

/// A queue was changed.
pub(super) fn queue_updated(
    tx: &Tx<'_>,
    before: &QueueView,
    after: &QueueView,
) -> Result<(), Error> {
    let kept = ["name", "description", "concurrency_limit", "priority"];
    match changes(before, after, &kept)? {
        Some(payload) => tell_of_queue(tx, after, "updated", payload),
        None => Ok(()),
    }
}

/// A flow was made.
pub(super) fn flow(tx: &Tx<'_>, id: &str, name: &str, payload: Value) -> Result<(), Error> {
    let own = resource("flow", id, name);
    tx.publish(event(tx, "flow", "created", own, Vec::new(), payload))
}

/// A deployment was made, or will be deleted.
pub(super) fn deployment(tx: &Tx<'_>, id: &str, what: &str) -> Result<(), Error> {
    if let Some(event) = about_deployment(tx, id, what, json!({}))? {
        tx.publish(event)?;
    }
    forget(tx, what, "deployment", id)
}

/// A deployment was changed.
pub(super) fn deployment_updated(
    tx: &Tx<'_>,
    id: &str,
    before: &impl Serialize,
    after: &impl Serialize,
) -> Result<(), Error> {
    let kept = [
        "description",
        "version",
        "tags",
        "parameters",
        "parameter_openapi_schema",
        "enforce_parameter_schema",
        "paused",
        "path",
        "entrypoint",
        "pull_steps",
        "job_variables",
        "work_queue_name",
        "work_pool_name",
        "concurrency_options",
    ];
    if let Some(payload) = changes(before, after, &kept)?
        && let Some(event) = about_deployment(tx, id, "updated", payload)?
    {
        tx.publish(event)?;
    }
    Ok(())
}

fn event(
    tx: &Tx<'_>,
    kind: &str,
    what: &str,
    own: Value,
    related: Vec<Value>,
    payload: Value,
) -> Event {
    Event::about(
        format!("prefect.{kind}.{what}"),
        tx.now,
        own,
        related,
        payload,
    )
}

fn tell_of_queue(tx: &Tx<'_>, queue: &QueueView, what: &str, payload: Value) -> Result<(), Error> {
    let own = in_role(resource("work-queue", &queue.id, &queue.name), "work-queue");
    let related = pool_of_queue(tx, &queue.id)?;
    tx.publish(event(tx, "work-queue", what, own, related, payload))
}

fn about_deployment(
    tx: &Tx<'_>,
    id: &str,
    what: &str,
    payload: Value,
) -> Result<Option<Event>, Error> {
    let found = tx
        .prepare_cached(
            "SELECT d.name, f.id, f.name, q.id, q.name, q.work_pool_id FROM deployment d
                JOIN flow f ON f.id = d.flow_id LEFT JOIN work_queue q ON q.id = d.work_queue_id WHERE d.id = ?",
        )?
        .query_row([id], |row| {
            let flow = resource("flow", &row.get::<_, String>(1)?, &row.get::<_, String>(2)?);
            let queue: Option<String> = row.get(3)?;
            let queue = match queue {
                Some(id) => Some(resource("work-queue", &id, &row.get::<_, String>(4)?)),
                None => None,
            };
            let (name, pool): (String, Option<String>) = (row.get(0)?, row.get(5)?);
            Ok((name, flow, queue, pool))
        })
        .optional()?;
    let Some((name, flow, queue, pool)) = found else {
        return Ok(None);
    };
    let pool = pool.map(|id| pool_resource(tx, &id)).transpose()?.flatten();
    let roles = [
        ("flow", Some(flow)),
        ("work-queue", queue),
        ("work-pool", pool),
    ];
    let related = roles
        .into_iter()
        .filter_map(|(role, resource)| Some(in_role(resource?, role)))
        .collect();
    let own = resource("deployment", id, &name);
    Ok(Some(event(tx, "deployment", what, own, related, payload)))
}

fn pool_resource(tx: &Tx<'_>, id: &str) -> Result<Option<Value>, Error> {
    let found: Option<(String, String)> = tx
        .prepare_cached("SELECT name, type FROM work_pool WHERE id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(name, kind)| {
        let mut pool = resource("work-pool", id, &name);
        pool["prefect.work-pool.type"] = kind.into();
        pool
    }))
}

fn pool_of_queue(tx: &Tx<'_>, queue: &str) -> Result<Vec<Value>, Error> {
    let pool: Option<String> = tx
        .prepare_cached("SELECT work_pool_id FROM work_queue WHERE id = ?")?
        .query_row([queue], |row| row.get(0))
        .optional()?;
    let pool = pool.map(|id| pool_resource(tx, &id)).transpose()?.flatten();
    Ok(pool
        .map(|pool| in_role(pool, "work-pool"))
        .into_iter()
        .collect())
}

/// What is no more has no status.
fn forget(tx: &Tx<'_>, what: &str, kind: &str, id: &str) -> Result<(), Error> {
    if what == "deleted" {
        tx.prepare_cached("DELETE FROM told_status WHERE resource = ?")?
            .execute([format!("prefect.{kind}.{id}")])?;
    }
    Ok(())
}

/// The fields that differ, as an event tells them.
fn changes(
    before: &impl Serialize,
    after: &impl Serialize,
    fields: &[&str],
) -> Result<Option<Value>, Error> {
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    let mut updates = Map::new();
    for field in fields {
        let (from, to) = (&before[*field], &after[*field]);
        if from != to {
            updates.insert((*field).to_owned(), json!({ "from": from, "to": to }));
        }
    }
    let names: Vec<&String> = updates.keys().collect();
    let payload = json!({ "updated_fields": names, "updates": updates });
    Ok((!updates.is_empty()).then_some(payload))
}
