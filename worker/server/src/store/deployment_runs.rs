//! Flow runs made of a deployment: its parameters and theirs, checked.

use jiff::Timestamp;
use rusqlite::{params, types::Value as Sql};
use serde::Deserialize;
use serde_json::{Map, Value};
use worker_api::types::{DeploymentId, FlowRunId, ProposedState, StateType};

use super::{
    Tx,
    deployments::{self, DeploymentView},
    filter::{Condition, Page},
    notices, pools, queues,
    runs::{self, NewRun, RunView},
    states::StateCreate,
    value::{Micros, time},
};
use crate::{
    error::Error,
    orchestration::RunPolicy,
    validation::{self, Required},
};

/// What is sent to make a flow run of a deployment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunOfDeployment {
    #[serde(default)]
    state: Option<StateCreate>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    enforce_parameter_schema: Option<bool>,
    #[serde(default)]
    context: Option<Map<String, Value>>,
    #[serde(default, rename = "infrastructure_document_id")]
    _infrastructure_document_id: Option<Value>,
    #[serde(default)]
    empirical_policy: Option<RunPolicy>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
    #[serde(default)]
    parent_task_run_id: Option<uuid::Uuid>,
    #[serde(default)]
    work_queue_name: Option<String>,
    #[serde(default)]
    job_variables: Option<Map<String, Value>>,
}

/// What a served flow asks for: the runs of its own deployments.
#[derive(Debug, Deserialize)]
pub(crate) struct DeploymentPoll {
    deployment_ids: Vec<DeploymentId>,
    #[serde(default, deserialize_with = "time::deserialize")]
    scheduled_before: Option<Timestamp>,
    #[serde(flatten)]
    page: Page,
}

/// A poll is noted at most this often, so that polling does not become writing: microseconds.
const NOTED: i64 = 5_000_000;

/// The due flow runs of some deployments, the longest due first. Nothing is claimed by this.
pub(crate) fn due(tx: &Tx<'_>, poll: &DeploymentPoll) -> Result<Vec<RunView>, Error> {
    let ids = serde_json::to_value(&poll.deployment_ids)?;
    let noted = tx
        .prepare_cached(
            "INSERT INTO deployment_poll SELECT id, ?2 FROM deployment WHERE id IN (SELECT value FROM json_each(?1))
                ON CONFLICT (deployment_id) DO UPDATE SET last_polled = ?2 WHERE last_polled < ?2 - ?3",
        )?
        .execute(params![ids.to_string(), Micros(tx.now), NOTED])?;
    if noted > 0 {
        notices::statuses(tx)?;
    }
    let mut condition = Condition::default();
    condition.and(
        "r.deployment_id IN (SELECT value FROM json_each(?)) AND r.state_type = 'SCHEDULED'",
        [Sql::from(ids.to_string())],
    );
    if let Some(before) = poll.scheduled_before {
        condition.and(
            "r.next_scheduled_start_time <= ?",
            [Sql::from(before.as_microsecond())],
        );
    }
    runs::filter(
        tx,
        condition,
        Some("NEXT_SCHEDULED_START_TIME_ASC"),
        poll.page,
    )
}

/// Makes a flow run of a deployment. Says whether it was made.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    id: DeploymentId,
    run: RunOfDeployment,
) -> Result<(FlowRunId, bool), Error> {
    let deployment = deployments::read(tx, id)?;
    let mut parameters = deployment.object("parameters");
    parameters.extend(run.parameters.unwrap_or_default());
    if run
        .enforce_parameter_schema
        .unwrap_or_else(|| deployment.enforces())
    {
        check_parameters(&deployment, &parameters)?;
    }
    let job_variables = run.job_variables.unwrap_or_default();
    if let Some(pool) = &deployment.work_pool_name {
        let layers = [&deployment.object("job_variables"), &job_variables];
        validation::check_job_variables(
            &pools::read(tx, pool)?.template()?,
            &layers,
            Required::Checked,
        )
        .map_err(|error| Error::Unprocessable(format!("Error creating flow run: {error}")))?;
    }
    let work_queue_id = match (&run.work_queue_name, &deployment.work_pool_name) {
        (None, _) => deployment.work_queue_id.clone(),
        (Some(queue), Some(pool)) => Some(queues::ensure(tx, pool, queue)?.id),
        (Some(queue), None) => {
            return Err(Error::Bad(format!(
                "Cannot create flow run in work queue {queue} because deployment {id} is not associated with a work pool. Please remove work_pool_name and try again."
            )));
        }
    };
    let mut tags = deployment.tags();
    tags.extend(run.tags.unwrap_or_default());
    tags.sort_unstable();
    tags.dedup();
    let state = run
        .state
        .map_or_else(|| ProposedState::new(StateType::Scheduled), Into::into);
    let new = NewRun {
        name: run.name.filter(|name| !name.is_empty()),
        flow_id: deployment.flow_id.parse().map_err(|_| Error::Panicked)?,
        flow_version: None,
        deployment_id: Some(id),
        deployment_version: deployment
            .doc
            .get("version")
            .and_then(Value::as_str)
            .map(str::to_owned),
        work_queue_id,
        parameters,
        idempotency_key: run.idempotency_key,
        context: run.context.unwrap_or_default(),
        policy: run.empirical_policy.unwrap_or_default(),
        tags,
        labels: run.labels.unwrap_or_default(),
        job_variables: Some(job_variables),
        parent_task_run_id: run.parent_task_run_id,
        auto_scheduled: false,
        state,
    };
    runs::create(tx, new)
}

fn check_parameters(
    deployment: &DeploymentView,
    parameters: &Map<String, Value>,
) -> Result<(), Error> {
    let Some(schema) = deployment
        .doc
        .get("parameter_openapi_schema")
        .filter(|schema| schema.is_object())
    else {
        return Err(Error::Conflict(
            "Error updating deployment: Cannot update parameters because parameter schema enforcement is enabled and the deployment does not have a valid parameter schema.".to_owned(),
        ));
    };
    validation::check(
        &Value::Object(parameters.clone()),
        schema,
        Required::Checked,
        false,
    )
    .map_err(|error| Error::Conflict(format!("Error creating flow run: {error}")))
}
