//! Flow runs.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use worker_api::types::{DeploymentId, FlowId, FlowRunId, ProposedState, State, StateType};

use super::{
    Tx,
    filter::{Condition, Field, Page},
    logs, states,
    value::{Micros, Raw, Span},
};
use crate::{error::Error, names, orchestration::RunPolicy, patch::Patch};

/// A flow run as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunView {
    id: String,
    created: Micros,
    updated: Micros,
    name: String,
    flow_id: String,
    state_id: Option<String>,
    deployment_id: Option<String>,
    deployment_version: Option<String>,
    work_queue_id: Option<String>,
    work_queue_name: Option<String>,
    work_pool_id: Option<String>,
    work_pool_name: Option<String>,
    flow_version: Option<String>,
    parameters: Raw,
    idempotency_key: Option<String>,
    context: Raw,
    empirical_policy: Raw,
    tags: Raw,
    labels: Raw,
    parent_task_run_id: Option<String>,
    state_type: Option<String>,
    state_name: Option<String>,
    run_count: u32,
    expected_start_time: Option<Micros>,
    next_scheduled_start_time: Option<Micros>,
    start_time: Option<Micros>,
    end_time: Option<Micros>,
    total_run_time: Span,
    estimated_run_time: Span,
    estimated_start_time_delta: Span,
    auto_scheduled: bool,
    infrastructure_document_id: Option<()>,
    infrastructure_pid: Option<String>,
    created_by: Option<()>,
    job_variables: Option<Raw>,
    state: Option<Raw>,
}

/// A flow run to be made.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) name: Option<String>,
    pub(crate) flow_id: FlowId,
    pub(crate) flow_version: Option<String>,
    pub(crate) deployment_id: Option<DeploymentId>,
    pub(crate) deployment_version: Option<String>,
    pub(crate) work_queue_id: Option<String>,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) context: Map<String, Value>,
    pub(crate) policy: RunPolicy,
    pub(crate) tags: Vec<String>,
    pub(crate) labels: Map<String, Value>,
    pub(crate) job_variables: Option<Map<String, Value>>,
    pub(crate) parent_task_run_id: Option<Uuid>,
    pub(crate) auto_scheduled: bool,
    pub(crate) state: ProposedState,
}

/// What is sent to change a flow run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunUpdate {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    flow_version: Patch<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    empirical_policy: Option<RunPolicy>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    infrastructure_pid: Patch<String>,
    #[serde(default)]
    job_variables: Option<Map<String, Value>>,
}

/// What flow runs can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "r.id"),
    Field::text("name", "r.name"),
    Field::tags("tags", "r.tags"),
    Field::text("deployment_id", "r.deployment_id"),
    Field::text("work_queue_name", "q.name"),
    Field::text("state.type", "r.state_type"),
    Field::text("state.name", "r.state_name"),
    Field::text("flow_version", "r.flow_version"),
    Field::time("start_time", "r.start_time"),
    Field::time("end_time", "r.end_time"),
    Field::time("expected_start_time", "r.expected_start_time"),
    Field::time("next_scheduled_start_time", "r.next_scheduled_start_time"),
    Field::text("parent_task_run_id", "r.parent_task_run_id"),
    Field::text("idempotency_key", "r.idempotency_key"),
];

/// What flow runs can be filtered by where only they are looked at.
pub(crate) const OWN_FIELDS: &[Field] = &[
    Field::text("id", "r.id"),
    Field::text("name", "r.name"),
    Field::text("deployment_id", "r.deployment_id"),
    Field::text("parent_task_run_id", "r.parent_task_run_id"),
];

const COLUMNS: &str = "r.id, r.created, r.updated, r.name, r.flow_id, r.state_id, r.deployment_id, r.deployment_version,
    r.work_queue_id, q.name, p.id, p.name, r.flow_version, r.parameters, r.idempotency_key, r.context, r.policy,
    r.tags, r.labels, r.parent_task_run_id, r.state_type, r.state_name, r.run_count, r.expected_start_time,
    r.next_scheduled_start_time, r.start_time, r.end_time, r.total_run_time, r.auto_scheduled, r.infrastructure_pid,
    r.job_variables, r.state_timestamp, s.doc";

const FROM: &str = "FROM flow_run r LEFT JOIN work_queue q ON q.id = r.work_queue_id
    LEFT JOIN work_pool p ON p.id = q.work_pool_id LEFT JOIN flow_run_state s ON s.id = r.state_id";

/// The further tables that a filter may speak of.
const FILTERED: &str =
    "JOIN flow f ON f.id = r.flow_id LEFT JOIN deployment d ON d.id = r.deployment_id";

// === impl RunView ===

impl RunView {
    pub(super) fn read(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<Self> {
        let mut view = Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            flow_id: row.get(4)?,
            state_id: row.get(5)?,
            deployment_id: row.get(6)?,
            deployment_version: row.get(7)?,
            work_queue_id: row.get(8)?,
            work_queue_name: row.get(9)?,
            work_pool_id: row.get(10)?,
            work_pool_name: row.get(11)?,
            flow_version: row.get(12)?,
            parameters: row.get(13)?,
            idempotency_key: row.get(14)?,
            context: row.get(15)?,
            empirical_policy: row.get(16)?,
            tags: row.get(17)?,
            labels: row.get(18)?,
            parent_task_run_id: row.get(19)?,
            state_type: row.get(20)?,
            state_name: row.get(21)?,
            run_count: row.get(22)?,
            expected_start_time: row.get(23)?,
            next_scheduled_start_time: row.get(24)?,
            start_time: row.get(25)?,
            end_time: row.get(26)?,
            total_run_time: row.get(27)?,
            estimated_run_time: row.get(27)?,
            estimated_start_time_delta: Span::default(),
            auto_scheduled: row.get(28)?,
            infrastructure_document_id: None,
            infrastructure_pid: row.get(29)?,
            created_by: None,
            job_variables: row.get(30)?,
            state: row.get(32)?,
        };
        let entered: Option<i64> = row.get(31)?;
        view.estimate(entered, now.as_microsecond());
        Ok(view)
    }

    /// Without the parts that the answer to a poll leaves out (3.8.8).
    pub(super) fn for_worker(mut self) -> Self {
        self.state = None;
        self.work_queue_name = None;
        self.work_pool_name = None;
        self.work_pool_id = None;
        self
    }

    fn estimate(&mut self, entered: Option<i64>, now: i64) {
        if self.state_type.as_deref() == Some("RUNNING") {
            self.estimated_run_time.0 += entered.map_or(0, |entered| now - entered);
        }
        let waits = self.end_time.is_none();
        let start = match self.start_time {
            Some(start) => Some(start.0.as_microsecond()),
            None => waits.then_some(now),
        };
        if let Some((start, expected)) = start.zip(self.expected_start_time) {
            self.estimated_start_time_delta.0 = (start - expected.0.as_microsecond()).max(0);
        }
    }
}

/// Makes a flow run in its first state, or finds the one with the same idempotency key. Says whether it was made.
pub(crate) fn create(tx: &mut Tx<'_>, run: NewRun) -> Result<(FlowRunId, bool), Error> {
    if let Some(key) = &run.idempotency_key {
        let found: Option<String> = tx
            .prepare_cached("SELECT id FROM flow_run WHERE flow_id = ? AND idempotency_key = ?")?
            .query_row([&run.flow_id.to_string(), key], |row| row.get(0))
            .optional()?;
        if let Some(id) = found.and_then(|id| id.parse().ok()) {
            return Ok((id, false));
        }
    }
    // Ordered by time, so that new rows go to the end of the table.
    let id = FlowRunId(Uuid::now_v7());
    let labels = labels(tx, &run)?;
    tx.prepare_cached(
        "INSERT INTO flow_run (id, created, updated, name, flow_id, deployment_id, deployment_version, work_queue_id,
            flow_version, parameters, idempotency_key, context, policy, tags, labels, job_variables,
            parent_task_run_id, auto_scheduled, run_count, total_run_time)
            VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0, 0)",
    )?
    .execute(params![
        id.to_string(),
        Micros(tx.now),
        run.name.unwrap_or_else(names::random),
        run.flow_id.to_string(),
        run.deployment_id.map(|id| id.to_string()),
        run.deployment_version,
        run.work_queue_id,
        run.flow_version,
        serde_json::to_string(&run.parameters)?,
        run.idempotency_key,
        serde_json::to_string(&run.context)?,
        serde_json::to_string(&run.policy)?,
        serde_json::to_string(&run.tags)?,
        serde_json::to_string(&labels)?,
        run.job_variables
            .map(|variables| serde_json::to_string(&variables))
            .transpose()?,
        run.parent_task_run_id.map(|id| id.to_string()),
        run.auto_scheduled,
    ])
    .map_err(|error| missing_flow(error, run.flow_id))?;
    states::propose(tx, id, &run.state, true)?;
    Ok((id, true))
}

/// Reads a flow run.
pub(crate) fn read(tx: &Tx<'_>, id: FlowRunId) -> Result<RunView, Error> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE r.id = ?"))?
        .query_row([id.to_string()], |row| RunView::read(row, tx.now))
        .optional()?
        .ok_or_else(|| Error::not_found("Flow run not found"))
}

/// Flow runs that meet a condition.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    sort: Option<&str>,
    page: Page,
) -> Result<Vec<RunView>, Error> {
    let select = format!("SELECT {COLUMNS} {FROM} {FILTERED}");
    condition.list(tx, &select, order(sort)?, page, |row| {
        RunView::read(row, tx.now)
    })
}

/// How many flow runs meet a condition.
pub(crate) fn count(tx: &Tx<'_>, condition: Condition) -> Result<u32, Error> {
    condition.count(tx, &format!("{FROM} {FILTERED}"))
}

/// The due flow runs of a queue, the longest due first.
pub(super) fn due(
    tx: &Tx<'_>,
    queue: &str,
    (after, before): (Option<Timestamp>, Option<Timestamp>),
    limit: u32,
) -> Result<Vec<RunView>, Error> {
    let rows = tx
        .prepare_cached(&format!(
            "SELECT {COLUMNS} {FROM} WHERE r.work_queue_id = ?1 AND r.state_type = 'SCHEDULED'
                AND r.retries_in_process = 0 AND r.next_scheduled_start_time BETWEEN ?2 AND ?3
                ORDER BY r.next_scheduled_start_time LIMIT ?4"
        ))?
        .query_map(
            params![
                queue,
                Micros(after.unwrap_or(Timestamp::UNIX_EPOCH)),
                Micros(before.unwrap_or(Timestamp::MAX)),
                limit
            ],
            |row| RunView::read(row, tx.now).map(RunView::for_worker),
        )?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// The state of a flow run that is paused.
pub(crate) fn find_pause(tx: &Tx<'_>, id: FlowRunId) -> Result<Option<State>, Error> {
    let found: Option<Option<State>> = tx
        .prepare_cached(
            "SELECT s.doc FROM flow_run r LEFT JOIN flow_run_state s ON s.id = r.state_id WHERE r.id = ?",
        )?
        .query_row([id.to_string()], |row| states::json(row, 0))
        .optional()?;
    let state = found.ok_or_else(|| Error::not_found("Flow run not found"))?;
    Ok(state.filter(|state| state.kind == StateType::Paused))
}

/// Changes a flow run.
pub(crate) fn update(tx: &Tx<'_>, id: FlowRunId, update: &RunUpdate) -> Result<(), Error> {
    let text = |value: Option<&Map<String, Value>>| value.map(serde_json::to_string).transpose();
    let changed = tx
        .prepare_cached(
            "UPDATE flow_run SET updated = ?2, name = coalesce(?3, name), parameters = coalesce(?4, parameters),
                policy = coalesce(?5, policy), retries_in_process = coalesce(?6, retries_in_process),
                tags = coalesce(?7, tags), job_variables = coalesce(?8, job_variables),
                flow_version = CASE WHEN ?9 THEN ?10 ELSE flow_version END,
                infrastructure_pid = CASE WHEN ?11 THEN ?12 ELSE infrastructure_pid END WHERE id = ?1",
        )?
        .execute(params![
            id.to_string(),
            Micros(tx.now),
            update.name,
            text(update.parameters.as_ref())?,
            update.empirical_policy.as_ref().map(serde_json::to_string).transpose()?,
            update
                .empirical_policy
                .as_ref()
                .map(|policy| policy.retry_type.as_deref() == Some("in_process")),
            update.tags.as_ref().map(serde_json::to_string).transpose()?,
            text(update.job_variables.as_ref())?,
            update.flow_version.changes(),
            update.flow_version,
            update.infrastructure_pid.changes(),
            update.infrastructure_pid,
        ])?;
    found(changed)
}

/// Lays labels over those a flow run has.
pub(crate) fn label(tx: &Tx<'_>, id: FlowRunId, labels: &Map<String, Value>) -> Result<(), Error> {
    let changed = tx
        .prepare_cached(
            "UPDATE flow_run SET updated = ?2, labels = json_patch(labels, ?3) WHERE id = ?1",
        )?
        .execute(params![
            id.to_string(),
            Micros(tx.now),
            serde_json::to_string(labels)?
        ])?;
    found(changed)
}

/// Deletes a flow run with its states and its log.
pub(crate) fn delete(tx: &Tx<'_>, id: FlowRunId) -> Result<(), Error> {
    logs::delete_of_run(tx, &id.to_string())?;
    found(tx.execute("DELETE FROM flow_run WHERE id = ?", [id.to_string()])?)
}

fn found(changed: usize) -> Result<(), Error> {
    match changed {
        0 => Err(Error::not_found("Flow run not found")),
        _ => Ok(()),
    }
}

/// Labels of the deployment or the flow, ours, and those that were sent, each over those before.
fn labels(tx: &Tx<'_>, run: &NewRun) -> Result<Map<String, Value>, Error> {
    let inherited: Option<String> = tx
        .prepare_cached(
            "SELECT coalesce((SELECT doc ->> '$.labels' FROM deployment WHERE id = ?1),
                (SELECT labels FROM flow WHERE id = ?2))",
        )?
        .query_row(
            params![
                run.deployment_id.map(|id| id.to_string()),
                run.flow_id.to_string()
            ],
            |row| row.get(0),
        )?;
    let mut labels: Map<String, Value> = match inherited {
        Some(text) => serde_json::from_str(&text)?,
        None => Map::new(),
    };
    labels.insert("prefect.flow.id".to_owned(), run.flow_id.to_string().into());
    if let Some(id) = run.deployment_id {
        labels.insert("prefect.deployment.id".to_owned(), id.to_string().into());
    }
    labels.extend(run.labels.clone());
    Ok(labels)
}

fn missing_flow(error: rusqlite::Error, flow: FlowId) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict(format!("there is no flow {flow}"))
        }
        _ => error.into(),
    }
}

fn order(sort: Option<&str>) -> Result<&'static str, Error> {
    Ok(match sort.unwrap_or("ID_DESC") {
        "ID_DESC" => "r.id DESC",
        "START_TIME_ASC" => "coalesce(r.start_time, r.expected_start_time), r.id",
        "START_TIME_DESC" => "coalesce(r.start_time, r.expected_start_time) DESC, r.id",
        "EXPECTED_START_TIME_ASC" => "r.expected_start_time, r.id",
        "EXPECTED_START_TIME_DESC" => "r.expected_start_time DESC, r.id",
        "NAME_ASC" => "r.name, r.id",
        "NAME_DESC" => "r.name DESC, r.id",
        "NEXT_SCHEDULED_START_TIME_ASC" => "r.next_scheduled_start_time, r.id",
        "END_TIME_DESC" => "r.end_time DESC, r.id",
        _ => {
            return Err(Error::field(
                &["sort"],
                "The embedded API does not sort by this",
            ));
        }
    })
}
