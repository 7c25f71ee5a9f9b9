//! Schedules of deployments, and the flow runs they make ahead of time.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use worker_api::types::{DeploymentId, FlowId, ProposedState, StateType};

use super::{
    Tx,
    runs::{self, NewRun},
    states,
    value::{Micros, Raw},
};
use crate::{error::Error, orchestration::RunPolicy, schedule::Schedule};

/// A schedule as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScheduleView {
    pub(crate) id: String,
    created: Micros,
    updated: Micros,
    deployment_id: String,
    schedule: Raw,
    active: bool,
    max_scheduled_runs: Option<u32>,
    parameters: Raw,
    slug: Option<String>,
}

/// What is sent to create a schedule, or to change one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleCreate {
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    schedule: Option<Map<String, Value>>,
    #[serde(default)]
    max_scheduled_runs: Option<u32>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    slug: Option<String>,
    #[serde(default)]
    replaces: Option<String>,
}

/// How many runs a schedule has made ahead, at least (3.8.8).
const AHEAD: usize = 3;
/// All runs due within this time are made ahead, so that a schedule shorter than the scheduler's own pace loses none.
const HORIZON: SignedDuration = SignedDuration::from_mins(1);
/// How many runs a schedule has made ahead, at most (3.8.8).
const MOST: usize = 100;

const SELECT: &str = "SELECT id, created, updated, deployment_id, schedule, active, max_scheduled_runs, parameters, slug
    FROM schedule";

// === impl ScheduleView ===

impl ScheduleView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            deployment_id: row.get(3)?,
            schedule: row.get(4)?,
            active: row.get(5)?,
            max_scheduled_runs: row.get(6)?,
            parameters: row.get(7)?,
            slug: row.get(8)?,
        })
    }
}

// === impl ScheduleCreate ===

impl ScheduleCreate {
    fn normalized(&self, now: Timestamp) -> Result<String, Error> {
        let given = self.schedule.as_ref().ok_or_else(|| {
            Error::Unprocessable(
                "Unable to create new deployment schedules without a schedule configuration."
                    .to_owned(),
            )
        })?;
        let stored = Schedule::normalize(given, now)
            .map_err(|error| Error::field(&["schedules"], format!("Value error, {error}")))?;
        Ok(stored.to_string())
    }
}

/// The schedules of a deployment, the newest first, as the reference lists them.
pub(crate) fn of_deployment(tx: &Tx<'_>, deployment: &str) -> Result<Vec<ScheduleView>, Error> {
    let rows = tx
        .prepare_cached(&format!(
            "{SELECT} WHERE deployment_id = ? ORDER BY updated DESC, id"
        ))?
        .query_map([deployment], ScheduleView::read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Puts schedules in the place of all that are there.
pub(crate) fn replace(
    tx: &Tx<'_>,
    deployment: &str,
    given: &[ScheduleCreate],
) -> Result<(), Error> {
    tx.execute("DELETE FROM schedule WHERE deployment_id = ?", [deployment])?;
    for schedule in given {
        create(tx, deployment, schedule)?;
    }
    Ok(())
}

/// Changes schedules by slug when all have one, and else replaces them; what is missing is kept (3.8.8).
pub(crate) fn merge(tx: &Tx<'_>, deployment: &str, given: &[ScheduleCreate]) -> Result<(), Error> {
    let existing = of_deployment(tx, deployment)?;
    let stored_slugs =
        !existing.is_empty() && existing.iter().all(|schedule| schedule.slug.is_some());
    let given_slugs = given.iter().all(|schedule| schedule.slug.is_some());
    match (stored_slugs, given_slugs) {
        (false, _) => return replace(tx, deployment, given),
        (true, false) => {
            return Err(Error::Unprocessable(
                "Please provide a slug for each schedule in your request to ensure schedules are updated correctly.".to_owned(),
            ));
        }
        (true, true) => {}
    }
    for schedule in given {
        let slug = schedule.replaces.as_ref().or(schedule.slug.as_ref());
        match existing
            .iter()
            .find(|existing| existing.slug.as_ref() == slug)
        {
            Some(found) => change(tx, &found.id, schedule)?,
            None => create(tx, deployment, schedule)?,
        }
    }
    Ok(())
}

/// Adds schedules to those of a deployment.
pub(crate) fn add(
    tx: &Tx<'_>,
    deployment: DeploymentId,
    given: &[ScheduleCreate],
) -> Result<Vec<ScheduleView>, Error> {
    let deployment = deployment.to_string();
    let before = of_deployment(tx, &deployment)?;
    for schedule in given {
        create(tx, &deployment, schedule)?;
    }
    let mut after = of_deployment(tx, &deployment)?;
    after.retain(|schedule| before.iter().all(|known| known.id != schedule.id));
    Ok(after)
}

/// Changes one schedule of a deployment; the runs it has made ahead go away.
pub(crate) fn update(
    tx: &Tx<'_>,
    deployment: DeploymentId,
    id: Uuid,
    given: &ScheduleCreate,
) -> Result<(), Error> {
    let deployment = deployment.to_string();
    let known = of_deployment(tx, &deployment)?;
    let id = id.to_string();
    if known.iter().all(|schedule| schedule.id != id) {
        return Err(Error::not_found("Schedule not found."));
    }
    change(tx, &id, given)?;
    delete_runs(tx, &deployment)
}

/// Deletes one schedule of a deployment; the runs it has made ahead go away.
pub(crate) fn delete(tx: &Tx<'_>, deployment: DeploymentId, id: Uuid) -> Result<(), Error> {
    let deleted = tx.execute(
        "DELETE FROM schedule WHERE id = ? AND deployment_id = ?",
        [id.to_string(), deployment.to_string()],
    )?;
    match deleted {
        0 => Err(Error::not_found("Schedule not found.")),
        _ => delete_runs(tx, &deployment.to_string()),
    }
}

/// Deletes the runs that a deployment's schedules have made ahead and nobody has taken.
pub(crate) fn delete_runs(tx: &Tx<'_>, deployment: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM flow_run WHERE deployment_id = ?1 AND state_type = 'SCHEDULED' AND auto_scheduled = 1
            AND next_scheduled_start_time > ?2",
        params![deployment, Micros(tx.now)],
    )?;
    Ok(())
}

/// Makes the runs that are to be there ahead of time. Says how many were new.
pub(crate) fn make_runs(tx: &mut Tx<'_>) -> Result<usize, Error> {
    let active: Vec<Due> = tx
        .prepare_cached(
            "SELECT s.id, s.schedule, s.parameters, s.max_scheduled_runs, d.id, d.flow_id, d.work_queue_id, d.doc
                FROM schedule s JOIN deployment d ON d.id = s.deployment_id WHERE s.active AND NOT d.paused",
        )?
        .query_map([], Due::read)?
        .collect::<Result<_, _>>()?;
    let mut made = 0;
    for due in active {
        made += due.make(tx)?;
    }
    Ok(made)
}

fn create(tx: &Tx<'_>, deployment: &str, given: &ScheduleCreate) -> Result<(), Error> {
    tx.prepare_cached("INSERT INTO schedule VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            Uuid::new_v4().to_string(),
            deployment,
            Micros(tx.now),
            given.active.unwrap_or(true),
            given.slug,
            given.normalized(tx.now)?,
            serde_json::to_string(&given.parameters.clone().unwrap_or_default())?,
            given.max_scheduled_runs,
        ])
        .map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Error::Conflict(
                "Schedule slugs must be unique within a deployment, which must exist.".to_owned(),
            ),
            _ => error.into(),
        })?;
    Ok(())
}

fn change(tx: &Tx<'_>, id: &str, given: &ScheduleCreate) -> Result<(), Error> {
    let schedule = match &given.schedule {
        Some(_) => Some(given.normalized(tx.now)?),
        None => None,
    };
    tx.prepare_cached(
        "UPDATE schedule SET updated = ?2, active = coalesce(?3, active), slug = coalesce(?4, slug),
            schedule = coalesce(?5, schedule), parameters = coalesce(?6, parameters),
            max_scheduled_runs = coalesce(?7, max_scheduled_runs) WHERE id = ?1",
    )?
    .execute(params![
        id,
        Micros(tx.now),
        given.active,
        given.slug,
        schedule,
        given.parameters.as_ref().map(serde_json::to_string).transpose()?,
        given.max_scheduled_runs,
    ])?;
    Ok(())
}

/// A schedule with what its runs need of the deployment.
struct Due {
    id: String,
    schedule: Value,
    parameters: Map<String, Value>,
    max: Option<u32>,
    deployment_id: String,
    flow_id: String,
    work_queue_id: Option<String>,
    doc: Map<String, Value>,
}

// === impl Due ===

impl Due {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            schedule: states::json(row, 1)?.unwrap_or_default(),
            parameters: states::json(row, 2)?.unwrap_or_default(),
            max: row.get(3)?,
            deployment_id: row.get(4)?,
            flow_id: row.get(5)?,
            work_queue_id: row.get(6)?,
            doc: states::json(row, 7)?.unwrap_or_default(),
        })
    }

    fn make(&self, tx: &mut Tx<'_>) -> Result<usize, Error> {
        let schedule = match Schedule::parse(&self.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                tracing::warn!(schedule_id = %self.id, %error, "schedule makes no runs");
                return Ok(0);
            }
        };
        let most = self
            .max
            .map_or(MOST, |max| usize::try_from(max).unwrap_or(MOST));
        let horizon = tx.now.checked_add(HORIZON).unwrap_or(tx.now);
        let times: Vec<Timestamp> = schedule
            .after(tx.now)
            .take(most)
            .enumerate()
            .take_while(|(index, time)| *index < AHEAD || *time <= horizon)
            .map(|(_, time)| time)
            .collect();
        let mut made = 0;
        for time in times {
            made += usize::from(self.make_one(tx, time)?);
        }
        Ok(made)
    }

    fn make_one(&self, tx: &mut Tx<'_>, time: Timestamp) -> Result<bool, Error> {
        let key = format!("scheduled {} {} {time}", self.deployment_id, self.id);
        let known: Option<i64> = tx
            .prepare_cached("SELECT 1 FROM flow_run WHERE flow_id = ? AND idempotency_key = ?")?
            .query_row([&self.flow_id, &key], |row| row.get(0))
            .optional()?;
        if known.is_some() {
            return Ok(false);
        }
        let text = |key: &str| self.doc.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut parameters = self
            .doc
            .get("parameters")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        parameters.extend(self.parameters.clone());
        let tags = self.doc.get("tags").and_then(Value::as_array);
        let mut tags: Vec<String> = tags
            .into_iter()
            .flatten()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .collect();
        tags.push("auto-scheduled".to_owned());
        let mut state = ProposedState::new(StateType::Scheduled).because("Flow run scheduled");
        state.state_details.scheduled_time = Some(time);
        let (_, made) = runs::create(
            tx,
            NewRun {
                name: None,
                flow_id: FlowId(self.flow_id.parse().map_err(|_| Error::Panicked)?),
                flow_version: None,
                deployment_id: self.deployment_id.parse().ok(),
                deployment_version: text("version"),
                work_queue_id: self.work_queue_id.clone(),
                parameters,
                idempotency_key: Some(key),
                context: Map::new(),
                policy: RunPolicy::default(),
                tags,
                labels: Map::new(),
                job_variables: Some(Map::new()),
                parent_task_run_id: None,
                auto_scheduled: true,
                state,
            },
        )?;
        Ok(made)
    }
}
