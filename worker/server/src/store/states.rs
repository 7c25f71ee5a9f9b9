//! States: a proposal is weighed with the facts of its flow run, and what was decided is stored.

use std::{collections::BTreeSet, str::FromStr};

use jiff::SignedDuration;
use rusqlite::{OptionalExtension, Row, params};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;
use worker_api::types::{
    FlowRunId, OrchestrationResult, ProposedState, State, StateDetails, StateId, StateType,
};

use super::{
    Tx, leases, task_runs,
    value::{Micros, Raw},
};
use crate::{
    error::Error,
    events::{Event, Subject},
    orchestration::{Decision, Facts, Limit, Record, RunPolicy, Slots, Stored, decide},
};

/// A state as clients propose it. One unknown key, and it is refused, as the reference does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateCreate {
    #[serde(rename = "type")]
    kind: KnownType,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    state_details: StateDetails,
    #[serde(default)]
    data: Option<Value>,
}

/// A state type the orchestration has rules for.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct KnownType(StateType);

/// What became of a proposal, and whether a state was stored.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: OrchestrationResult,
    pub(crate) stored: bool,
}

/// What is read before a decision.
struct Loaded {
    subject: Subject,
    current: Option<State>,
    deployment_id: Option<String>,
    deployment_found: bool,
    has_infrastructure: bool,
    parent_task_run_id: Option<Uuid>,
    record: Record,
    limit: Option<u32>,
    options: Option<Options>,
}

/// What a deployment says about runs that find no slot.
#[derive(Debug, Default, Deserialize)]
struct Options {
    #[serde(default)]
    collision_strategy: Option<String>,
    #[serde(default)]
    grace_period_seconds: Option<u32>,
}

/// How long a slot is held for a run that was claimed and has not started (3.8.8).
const GRACE: SignedDuration = SignedDuration::from_secs(300);

const LOAD: &str = "SELECT r.name, r.deployment_id, r.infrastructure_pid, r.parent_task_run_id, r.policy,
    r.run_count, r.start_time, r.end_time, r.total_run_time, r.expected_start_time, r.next_scheduled_start_time,
    s.doc, d.id, d.name, d.concurrency_limit,
    CASE WHEN d.concurrency_limit IS NOT NULL THEN d.doc ->> '$.concurrency_options' END,
    f.id, f.name, q.id, q.name, p.id, p.name, p.type, r.tags, f.tags, d.doc ->> '$.tags'
    FROM flow_run r JOIN flow f ON f.id = r.flow_id
    LEFT JOIN flow_run_state s ON s.id = r.state_id
    LEFT JOIN deployment d ON d.id = r.deployment_id
    LEFT JOIN work_queue q ON q.id = r.work_queue_id
    LEFT JOIN work_pool p ON p.id = q.work_pool_id
    WHERE r.id = ?";

// === impl StateCreate ===

impl From<StateCreate> for ProposedState {
    fn from(state: StateCreate) -> Self {
        Self {
            kind: state.kind.0,
            name: state.name,
            message: state.message,
            state_details: state.state_details,
            data: state.data,
        }
    }
}

// === impl KnownType ===

impl TryFrom<String> for KnownType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match StateType::from(text) {
            StateType::Other(_) => Err(
                "Input should be 'SCHEDULED', 'PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED', 'PAUSED' or 'CANCELLING'",
            ),
            known => Ok(Self(known)),
        }
    }
}

// === impl Loaded ===

impl Loaded {
    fn read(id: FlowRunId, row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            subject: Subject {
                flow_run_id: id,
                flow_run_name: row.get(0)?,
                flow: pair(row, 16)?,
                deployment: pair(row, 12)?,
                work_queue: pair(row, 18)?,
                work_pool: pair(row, 20)?,
                work_pool_type: row.get(22)?,
                tags: tags(row, &[23, 24, 25])?,
            },
            deployment_id: row.get(1)?,
            has_infrastructure: row
                .get::<_, Option<String>>(2)?
                .is_some_and(|pid| !pid.is_empty()),
            parent_task_run_id: parse(row, 3)?,
            record: Record {
                policy: json::<RunPolicy>(row, 4)?.unwrap_or_default(),
                run_count: row.get(5)?,
                start_time: time(row, 6)?,
                end_time: time(row, 7)?,
                total_run_time: SignedDuration::from_micros(row.get(8)?),
                expected_start_time: time(row, 9)?,
                next_scheduled_start_time: time(row, 10)?,
            },
            current: json(row, 11)?,
            deployment_found: row.get::<_, Option<String>>(12)?.is_some(),
            limit: row.get(14)?,
            options: json(row, 15)?,
        })
    }

    fn slots(&self, tx: &Tx<'_>) -> Result<Slots, Error> {
        let Some(deployment) = &self.deployment_id else {
            return Ok(Slots::Unlimited);
        };
        let Some(slots) = self.limit else {
            return Ok(if self.deployment_found {
                Slots::Unlimited
            } else {
                Slots::DeploymentGone
            });
        };
        let lease = self
            .current
            .as_ref()
            .and_then(|state| state.state_details.deployment_concurrency_lease_id);
        let options = self.options.as_ref();
        Ok(Slots::Limited(Limit {
            slots,
            taken: leases::count(tx, deployment)?,
            cancel_new: options
                .is_some_and(|options| options.collision_strategy.as_deref() == Some("CANCEL_NEW")),
            grace: options
                .and_then(|options| options.grace_period_seconds)
                .map_or(GRACE, |seconds| SignedDuration::from_secs(seconds.into())),
            lease_alive: match lease {
                Some(lease) => leases::is_alive(tx, lease)?,
                None => false,
            },
        }))
    }
}

/// Weighs a proposal and stores what was decided.
pub(crate) fn propose(
    tx: &mut Tx<'_>,
    id: FlowRunId,
    proposed: &ProposedState,
    force: bool,
) -> Result<Outcome, Error> {
    let loaded = tx
        .prepare_cached(LOAD)?
        .query_row([id.to_string()], |row| Loaded::read(id, row))
        .optional()?
        .ok_or_else(|| Error::Missing(format!("Flow run with id {id} not found")))?;
    let facts = Facts {
        now: tx.now,
        state_id: StateId(Uuid::now_v7()),
        lease_id: Uuid::new_v4(),
        force,
        flow_run_id: id,
        has_deployment: loaded.deployment_id.is_some(),
        has_infrastructure: loaded.has_infrastructure,
        parent_task_run_id: loaded.parent_task_run_id,
        record: &loaded.record,
        slots: loaded.slots(tx)?,
    };
    match decide(loaded.current.as_ref(), proposed, &facts) {
        Decision::Keep { status, details } => Ok(Outcome {
            result: OrchestrationResult {
                state: loaded.current,
                status,
                details,
            },
            stored: false,
        }),
        Decision::Store(stored) => {
            store(tx, &loaded, &stored)?;
            let event = Event::state_change(&loaded.subject, loaded.current.as_ref(), &stored);
            tx.publish(event)?;
            Ok(Outcome {
                result: OrchestrationResult {
                    state: Some(stored.state),
                    status: stored.status,
                    details: stored.details,
                },
                stored: true,
            })
        }
    }
}

/// The states a flow run has been in, the first one first.
pub(crate) fn of_run(tx: &Tx<'_>, id: FlowRunId) -> Result<Vec<Raw>, Error> {
    let rows = tx
        .prepare_cached("SELECT doc FROM flow_run_state WHERE flow_run_id = ? ORDER BY number")?
        .query_map([id.to_string()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Reads a state.
pub(crate) fn read(tx: &Tx<'_>, id: Uuid) -> Result<Raw, Error> {
    tx.prepare_cached("SELECT doc FROM flow_run_state WHERE id = ?")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Error::not_found("Flow run state not found"))
}

fn store(tx: &Tx<'_>, loaded: &Loaded, stored: &Stored) -> Result<(), Error> {
    let run = loaded.subject.flow_run_id.to_string();
    let Stored { state, record, .. } = stored;
    let state_id = state.id.to_string();
    tx.prepare_cached(
        "INSERT INTO flow_run_state (id, flow_run_id, timestamp, doc) VALUES (?, ?, ?, ?)",
    )?
    .execute(params![
        state_id,
        run,
        Micros(state.timestamp),
        serde_json::to_string(state)?
    ])?;
    tx.prepare_cached(
        "UPDATE flow_run SET updated = ?2, state_id = ?3, state_type = ?4, state_name = ?5, state_timestamp = ?6,
            run_count = ?7, start_time = ?8, end_time = ?9, total_run_time = ?10, expected_start_time = ?11,
            next_scheduled_start_time = ?12, policy = ?13, retries_in_process = ?14 WHERE id = ?1",
    )?
    .execute(params![
        run,
        Micros(tx.now),
        state_id,
        state.kind.as_str(),
        state.name,
        Micros(state.timestamp),
        record.run_count,
        record.start_time.map(Micros),
        record.end_time.map(Micros),
        i64::try_from(record.total_run_time.as_micros()).unwrap_or(i64::MAX),
        record.expected_start_time.map(Micros),
        record.next_scheduled_start_time.map(Micros),
        serde_json::to_string(&record.policy)?,
        record.policy.retry_type.as_deref() == Some("in_process"),
    ])?;
    if let Some(deployment) = &loaded.deployment_id {
        leases::apply(tx, deployment, &run, stored.slot)?;
    }
    if let Some(parent) = loaded.parent_task_run_id {
        task_runs::mirror(tx, parent, loaded.subject.flow_run_id, state)?;
    }
    Ok(())
}

fn pair(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<(String, String)>> {
    let id: Option<String> = row.get(index)?;
    let name: Option<String> = row.get(index + 1)?;
    Ok(id.zip(name))
}

/// The tags of several columns, each once.
fn tags(row: &Row<'_>, columns: &[usize]) -> rusqlite::Result<BTreeSet<String>> {
    let mut tags = BTreeSet::new();
    for column in columns {
        tags.extend(json::<Vec<String>>(row, *column)?.unwrap_or_default());
    }
    Ok(tags)
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<jiff::Timestamp>> {
    let time: Option<Micros> = row.get(index)?;
    Ok(time.map(|Micros(time)| time))
}

fn parse<T: FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(index)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Reads a column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(index)?.as_str_or_null().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })?;
    text.map(serde_json::from_str).transpose().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}
