//! `/task_runs`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use uuid::Uuid;
use worker_api::types::{
    OrchestrationDetails, OrchestrationResult, OrchestrationStatus, ProposedState,
};

use super::{App, Query, made};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::Condition,
        runs,
        states::StateCreate,
        task_runs::{self, TaskRunCreate, TaskRunUpdate, TaskRunView},
    },
};

#[derive(Debug, Deserialize)]
struct Proposal {
    state: StateCreate,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/task_runs/", post(create))
        .route("/task_runs/filter", post(filter))
        .route("/task_runs/count", post(count))
        .route("/task_runs/{id}", get(read).patch(rename).delete(remove))
        .route("/task_runs/{id}/set_state", post(set_state))
}

fn condition(query: &Query) -> Result<Condition, Error> {
    let mut condition = Condition::default();
    condition.add("task_runs", query.task_runs.as_ref(), task_runs::FIELDS)?;
    condition.add("flow_runs", query.flow_runs.as_ref(), runs::OWN_FIELDS)?;
    Ok(condition)
}

async fn create(
    State(app): State<App>,
    Body(run): Body<TaskRunCreate>,
) -> Result<(StatusCode, Json<TaskRunView>), Error> {
    app.store
        .run(move |tx| task_runs::create(tx, run))
        .await
        .map(made)
}

async fn read(
    State(app): State<App>,
    Params(id): Params<Uuid>,
) -> Result<Json<TaskRunView>, Error> {
    app.store
        .run(move |tx| task_runs::read(tx, id))
        .await
        .map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<TaskRunView>>, Error> {
    let condition = condition(&query)?;
    let found = app
        .store
        .run(move |tx| task_runs::filter(tx, condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn count(State(app): State<App>, Body(query): Body<Query>) -> Result<Json<u32>, Error> {
    let condition = condition(&query)?;
    app.store
        .run(move |tx| task_runs::count(tx, condition))
        .await
        .map(Json)
}

async fn rename(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Body(update): Body<TaskRunUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| task_runs::update(tx, id, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(id): Params<Uuid>) -> Result<StatusCode, Error> {
    app.store.run(move |tx| task_runs::delete(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_state(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Body(proposal): Body<Proposal>,
) -> Result<(StatusCode, Json<OrchestrationResult>), Error> {
    let proposed = ProposedState::from(proposal.state);
    let state = app
        .store
        .run(move |tx| task_runs::set_state(tx, id, &proposed))
        .await?;
    let details = OrchestrationDetails {
        kind: Some("accept_details".to_owned()),
        ..OrchestrationDetails::default()
    };
    let result = OrchestrationResult {
        state: Some(state),
        status: OrchestrationStatus::Accept,
        details,
    };
    Ok((StatusCode::CREATED, Json(result)))
}
