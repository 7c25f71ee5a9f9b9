//! `/flow_runs`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, patch, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;
use worker_api::types::{
    DeploymentId, FlowId, FlowRunId, OrchestrationResult, ProposedState, StateType,
};

use super::{App, Query, made};
use crate::{
    body::{Body, Params},
    error::Error,
    orchestration::RunPolicy,
    store::{
        Tx, pools, queues,
        runs::{self, NewRun, RunUpdate, RunView},
        states::{self, StateCreate},
    },
};

/// What is sent to create a flow run without a deployment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunCreate {
    flow_id: FlowId,
    #[serde(default)]
    state: Option<StateCreate>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    flow_version: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    context: Option<Map<String, Value>>,
    #[serde(default)]
    parent_task_run_id: Option<Uuid>,
    #[serde(default, rename = "infrastructure_document_id")]
    _infrastructure_document_id: Option<Value>,
    #[serde(default)]
    empirical_policy: Option<RunPolicy>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    work_pool_name: Option<String>,
    #[serde(default)]
    work_queue_name: Option<String>,
    #[serde(default)]
    job_variables: Option<Map<String, Value>>,
    /// Deprecated in the reference, and still sent.
    #[serde(default)]
    deployment_id: Option<DeploymentId>,
}

#[derive(Debug, Deserialize)]
struct Proposal {
    state: StateCreate,
    #[serde(default)]
    force: bool,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/flow_runs/", post(create))
        .route("/flow_runs/filter", post(filter))
        .route("/flow_runs/count", post(count))
        .route("/flow_runs/{id}", get(read).patch(update).delete(remove))
        .route("/flow_runs/{id}/labels", patch(label))
        .route("/flow_runs/{id}/set_state", post(set_state))
}

async fn create(
    State(app): State<App>,
    Body(run): Body<RunCreate>,
) -> Result<(StatusCode, Json<RunView>), Error> {
    let answer = app
        .store
        .run(move |tx| {
            let run = run.resolve(tx)?;
            let (id, is_new) = runs::create(tx, run)?;
            Ok((runs::read(tx, id)?, is_new))
        })
        .await?;
    Ok(made(answer))
}

async fn read(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
) -> Result<Json<RunView>, Error> {
    app.store.run(move |tx| runs::read(tx, id)).await.map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<RunView>>, Error> {
    let condition = query.on_flow_runs()?;
    let found = app
        .store
        .run(move |tx| runs::filter(tx, condition, query.sort.as_deref(), query.page))
        .await?;
    Ok(Json(found))
}

async fn count(State(app): State<App>, Body(query): Body<Query>) -> Result<Json<u32>, Error> {
    let condition = query.on_flow_runs()?;
    app.store
        .run(move |tx| runs::count(tx, condition))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
    Body(update): Body<RunUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| runs::update(tx, id, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn label(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
    Body(labels): Body<Map<String, Value>>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| runs::label(tx, id, &labels))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
) -> Result<StatusCode, Error> {
    app.store.run(move |tx| runs::delete(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_state(
    State(app): State<App>,
    Params(id): Params<FlowRunId>,
    Body(proposal): Body<Proposal>,
) -> Result<(StatusCode, Json<OrchestrationResult>), Error> {
    let proposed = ProposedState::from(proposal.state);
    let outcome = app
        .store
        .run(move |tx| states::propose(tx, id, &proposed, proposal.force))
        .await?;
    Ok(made((outcome.result, outcome.stored)))
}

// === impl RunCreate ===

impl RunCreate {
    fn resolve(self, tx: &Tx<'_>) -> Result<NewRun, Error> {
        let work_queue_id = match (&self.work_pool_name, &self.work_queue_name) {
            (Some(pool), Some(queue)) => Some(queues::read(tx, pool, queue)?.id),
            (Some(pool), None) => Some(pools::read(tx, pool)?.default_queue_id),
            (None, _) => None,
        };
        Ok(NewRun {
            name: self.name.filter(|name| !name.is_empty()),
            flow_id: self.flow_id,
            flow_version: self.flow_version,
            deployment_id: self.deployment_id,
            deployment_version: None,
            work_queue_id,
            parameters: self.parameters.unwrap_or_default(),
            idempotency_key: self.idempotency_key,
            context: self.context.unwrap_or_default(),
            policy: self.empirical_policy.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            labels: self.labels.unwrap_or_default(),
            job_variables: self.job_variables,
            parent_task_run_id: self.parent_task_run_id,
            auto_scheduled: false,
            state: self
                .state
                .map_or_else(|| ProposedState::new(StateType::Pending), Into::into),
        })
    }
}
