//! Who holds the slots of pools and queues, for people who ask why nothing starts.

use rusqlite::{Row, params};
use serde_json::{Value, json};
use worker_api::types::WorkQueueId;

use super::{
    Tx, pools, queues,
    value::{Micros, Span},
};
use crate::error::Error;

/// How many runs and how many queues are listed, at most: one page of the reference (3.8.8).
const PAGE: usize = 200;

/// The queues of a pool, with the flow runs that hold their slots.
pub(crate) fn of_pool(tx: &Tx<'_>, name: &str) -> Result<Value, Error> {
    let pool = pools::read(tx, name)?;
    let mut listed = Vec::new();
    let mut active = 0;
    for queue in queues::of_pool(tx, &pool.id)? {
        let runs = holders(tx, &queue.id)?;
        active += runs.len();
        listed.push(json!({
            "queue_id": queue.id, "queue_name": queue.name, "active_slots": runs.len(),
            "concurrency_limit": queue.concurrency_limit, "flow_run_count": runs.len(), "flow_runs": runs,
        }));
    }
    let count = listed.len();
    listed.truncate(PAGE);
    Ok(json!({
        "active_slots": active, "concurrency_limit": pool.concurrency_limit, "queues": listed,
        "count": count, "limit": PAGE, "pages": 1, "page": 1,
    }))
}

/// The flow runs that hold the slots of a queue.
pub(crate) fn of_queue(tx: &Tx<'_>, id: WorkQueueId) -> Result<Value, Error> {
    let queue = queues::read_by_id(tx, id)?;
    let mut runs = holders(tx, &queue.id)?;
    let count = runs.len();
    runs.truncate(PAGE);
    Ok(json!({
        "active_slots": count, "concurrency_limit": queue.concurrency_limit, "flow_runs": runs,
        "count": count, "limit": PAGE, "pages": 1, "page": 1,
    }))
}

fn holders(tx: &Tx<'_>, queue: &str) -> Result<Vec<Value>, Error> {
    let rows = tx
        .prepare_cached(
            "SELECT id, name, state_type, state_name, start_time, state_timestamp, ?2 - state_timestamp FROM flow_run
                WHERE work_queue_id = ?1 AND state_type IN ('RUNNING', 'PENDING') ORDER BY state_timestamp",
        )?
        .query_map(params![queue, Micros(tx.now)], summary)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Value> {
    let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
    let (kind, state): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let (start, since): (Option<Micros>, Option<Micros>) = (row.get(4)?, row.get(5)?);
    let duration: Option<Span> = row.get(6)?;
    Ok(json!({
        "id": id, "name": name, "state_type": kind, "state_name": state, "start_time": start,
        "state_timestamp": since, "time_in_current_state": duration,
    }))
}
