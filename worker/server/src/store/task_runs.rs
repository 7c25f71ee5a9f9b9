//! Task runs, as far as an engine that orchestrates its own tasks needs a server for them.
//!
//! No rule speaks about them here: what an engine says is stored. Beside what is created by request, task runs are
//! read out of the events an engine sends.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use worker_api::types::{FlowRunId, ProposedState, State, StateId, StateType};

use super::{
    Tx,
    filter::{Condition, Field, Page},
    states::{self, StateCreate},
    value::{Micros, Raw, parse_time},
};
use crate::{error::Error, names};

/// A task run as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TaskRunView {
    id: String,
    created: Micros,
    updated: Micros,
    flow_run_id: Option<String>,
    name: String,
    task_key: String,
    dynamic_key: String,
    state_type: Option<String>,
    state_name: Option<String>,
    state_id: Option<Value>,
    run_count: u32,
    start_time: Option<Micros>,
    end_time: Option<Micros>,
    state: Option<Raw>,
    #[serde(flatten)]
    doc: Map<String, Value>,
}

/// What is sent to create a task run.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskRunCreate {
    #[serde(default)]
    id: Option<Uuid>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    flow_run_id: Option<Uuid>,
    task_key: String,
    dynamic_key: String,
    #[serde(default)]
    state: Option<StateCreate>,
    #[serde(flatten)]
    doc: Map<String, Value>,
}

/// What task runs can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "k.id"),
    Field::text("name", "k.name"),
    Field::text("flow_run_id", "k.flow_run_id"),
    Field::text("state.type", "k.state_type"),
    Field::text("state.name", "k.state_name"),
    Field::time("start_time", "k.start_time"),
];

const SELECT: &str = "SELECT k.id, k.created, k.updated, k.flow_run_id, k.name, k.task_key, k.dynamic_key, k.state_type,
    k.state_name, k.run_count, k.start_time, k.end_time, k.state, k.doc FROM task_run k";
/// The event by which an engine tells what its tasks do.
const EVENT: &str = "prefect.task-run.";

// === impl TaskRunView ===

impl TaskRunView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state: Option<Value> = states::json(row, 12)?;
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            flow_run_id: row.get(3)?,
            name: row.get(4)?,
            task_key: row.get(5)?,
            dynamic_key: row.get(6)?,
            state_type: row.get(7)?,
            state_name: row.get(8)?,
            state_id: state.and_then(|state| state.get("id").cloned()),
            run_count: row.get(9)?,
            start_time: row.get(10)?,
            end_time: row.get(11)?,
            state: row.get(12)?,
            doc: states::json(row, 13)?.unwrap_or_default(),
        })
    }
}

/// Makes a task run, or finds the same one of its flow run. Says whether it was made.
pub(crate) fn create(tx: &Tx<'_>, run: TaskRunCreate) -> Result<(TaskRunView, bool), Error> {
    let flow_run = run.flow_run_id.map(|id| id.to_string());
    let found = tx
        .prepare_cached(&format!(
            "{SELECT} WHERE k.flow_run_id = ? AND k.task_key = ? AND k.dynamic_key = ?"
        ))?
        .query_row(
            params![flow_run, run.task_key, run.dynamic_key],
            TaskRunView::read,
        )
        .optional()?;
    if let Some(found) = found {
        return Ok((found, false));
    }
    let id = run.id.unwrap_or_else(Uuid::now_v7);
    tx.prepare_cached(
        "INSERT INTO task_run VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, NULL, NULL, 0, NULL, NULL, NULL, ?7)",
    )?
    .execute(params![
        id.to_string(),
        Micros(tx.now),
        flow_run,
        run.name.unwrap_or_else(names::random),
        run.task_key,
        run.dynamic_key,
        doc(run.doc).to_string(),
    ])
    .map_err(|_| Error::Conflict("there is no such flow run, or the task run exists".to_owned()))?;
    if let Some(state) = run.state {
        set_state(tx, id, &state.into())?;
    }
    read(tx, id).map(|view| (view, true))
}

/// Reads a task run.
pub(crate) fn read(tx: &Tx<'_>, id: Uuid) -> Result<TaskRunView, Error> {
    tx.prepare_cached(&format!("{SELECT} WHERE k.id = ?"))?
        .query_row([id.to_string()], TaskRunView::read)
        .optional()?
        .ok_or_else(|| Error::not_found("Task not found"))
}

/// Task runs that meet a condition.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<TaskRunView>, Error> {
    let select = format!("{SELECT} LEFT JOIN flow_run r ON r.id = k.flow_run_id");
    condition.list(tx, &select, "k.id DESC", page, TaskRunView::read)
}

/// How many task runs meet a condition.
pub(crate) fn count(tx: &Tx<'_>, condition: Condition) -> Result<u32, Error> {
    let from = "FROM task_run k LEFT JOIN flow_run r ON r.id = k.flow_run_id";
    condition.count(tx, from)
}

/// Stores the state an engine says a task run is in.
pub(crate) fn set_state(tx: &Tx<'_>, id: Uuid, proposed: &ProposedState) -> Result<State, Error> {
    let state = State {
        id: StateId(Uuid::now_v7()),
        kind: proposed.kind.clone(),
        name: proposed
            .name
            .clone()
            .or_else(|| Some(proposed.kind.default_name())),
        timestamp: tx.now,
        message: proposed.message.clone(),
        state_details: proposed.state_details.clone(),
        data: proposed.data.clone(),
    };
    match enter(tx, &id.to_string(), &state)? {
        0 => Err(Error::not_found("Task run not found")),
        _ => Ok(state),
    }
}

/// Lets the task run that stands for a subflow in its parent follow the subflow's state.
pub(super) fn mirror(
    tx: &Tx<'_>,
    task_run: Uuid,
    child: FlowRunId,
    state: &State,
) -> Result<(), Error> {
    let mut state = state.clone();
    state.id = StateId(Uuid::now_v7());
    state
        .state_details
        .other
        .insert("child_flow_run_id".to_owned(), json!(child));
    enter(tx, &task_run.to_string(), &state).map(drop)
}

/// Reads a task run out of an event of its engine. An event about anything else changes nothing.
pub(crate) fn observe(tx: &Tx<'_>, event: &Map<String, Value>) -> Result<(), Error> {
    let named = event
        .get("event")
        .and_then(Value::as_str)
        .and_then(|name| name.strip_prefix(EVENT));
    let (Some(_), Some(payload)) = (named, event.get("payload")) else {
        return Ok(());
    };
    let id = event
        .get("resource")
        .and_then(|resource| resource.get("prefect.resource.id"))
        .and_then(Value::as_str)
        .and_then(|id| id.strip_prefix(EVENT))
        .and_then(|id| id.parse::<Uuid>().ok());
    let run: Option<TaskRunCreate> = payload
        .get("task_run")
        .and_then(|run| serde_json::from_value(run.clone()).ok());
    let flow_run = event
        .get("related")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|related| related.get("prefect.resource.id")?.as_str())
        .find_map(|id| id.strip_prefix("prefect.flow-run.")?.parse().ok());
    let (Some(id), Some(mut run), Some(mut state)) =
        (id, run, payload.get("validated_state").cloned())
    else {
        return Ok(());
    };
    run.id = Some(id);
    run.flow_run_id = run.flow_run_id.or(flow_run);
    run.state = None;
    let known: Option<i64> = tx
        .prepare_cached("SELECT 1 FROM task_run WHERE id = ?")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?;
    if known.is_none() {
        create(tx, run)?;
    }
    let occurred = event
        .get("occurred")
        .and_then(Value::as_str)
        .and_then(parse_time);
    state["id"] = event.get("id").cloned().unwrap_or_default();
    state["timestamp"] = json!(occurred.unwrap_or(tx.now));
    if let Ok(state) = serde_json::from_value::<State>(state) {
        enter(tx, &id.to_string(), &state)?;
    }
    Ok(())
}

fn enter(tx: &Tx<'_>, id: &str, state: &State) -> Result<usize, Error> {
    let running = state.kind == StateType::Running;
    let changed = tx
        .prepare_cached(
            "UPDATE task_run SET updated = ?2, state_type = ?3, state_name = ?4, state = ?5, run_count = run_count + ?6,
                start_time = coalesce(start_time, ?7), end_time = ?8 WHERE id = ?1",
        )?
        .execute(params![
            id,
            Micros(tx.now),
            state.kind.as_str(),
            state.name,
            serde_json::to_string(state)?,
            running,
            running.then_some(Micros(state.timestamp)),
            state.kind.is_final().then_some(Micros(state.timestamp)),
        ])?;
    Ok(changed)
}

/// What a task run says, with the keys a client expects to find.
fn doc(given: Map<String, Value>) -> Value {
    let mut doc = json!({
        "cache_key": null, "cache_expiration": null, "task_version": null, "empirical_policy": {}, "tags": [],
        "labels": {}, "task_inputs": {}, "flow_run_run_count": 0, "expected_start_time": null,
        "next_scheduled_start_time": null, "total_run_time": 0.0, "estimated_run_time": 0.0,
        "estimated_start_time_delta": 0.0,
    });
    if let Value::Object(doc) = &mut doc {
        // What has a column of its own comes from there.
        let apart = [
            "created",
            "updated",
            "state_type",
            "state_name",
            "state_id",
            "run_count",
            "start_time",
            "end_time",
        ];
        doc.extend(
            given
                .into_iter()
                .filter(|(key, _)| !apart.contains(&key.as_str())),
        );
    }
    doc
}
