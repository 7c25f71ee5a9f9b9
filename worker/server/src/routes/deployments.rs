//! `/deployments`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use worker_api::types::DeploymentId;

use super::{App, Query, made};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        deployment_runs::{self, DeploymentPoll, RunOfDeployment},
        deployments::{self, DeploymentBody, DeploymentView},
        queues::{self, QueueView},
        runs::{self, RunView},
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/deployments/", post(upsert))
        .route("/deployments/filter", post(filter))
        .route("/deployments/count", post(count))
        .route("/deployments/get_scheduled_flow_runs", post(scheduled))
        .route("/deployments/{id}", get(read).patch(update).delete(remove))
        .route("/deployments/name/{flow}/{name}", get(read_by_name))
        .route("/deployments/{id}/create_flow_run", post(create_run))
        .route("/deployments/{id}/schedule", post(make_runs))
        .route("/deployments/{id}/work_queue_check", get(check_queues))
        .route("/deployments/{id}/pause_deployment", post(pause))
        .route("/deployments/{id}/resume_deployment", post(resume))
}

async fn upsert(
    State(app): State<App>,
    Body(body): Body<DeploymentBody>,
) -> Result<(StatusCode, Json<DeploymentView>), Error> {
    let answer = app
        .store
        .run(move |tx| deployments::upsert(tx, &body))
        .await?;
    app.deployments_changed.notify_one();
    Ok(made(answer))
}

async fn read(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<Json<DeploymentView>, Error> {
    app.store
        .run(move |tx| deployments::read(tx, id))
        .await
        .map(Json)
}

async fn read_by_name(
    State(app): State<App>,
    Params((flow, name)): Params<(String, String)>,
) -> Result<Json<DeploymentView>, Error> {
    app.store
        .run(move |tx| deployments::read_by_name(tx, &flow, &name))
        .await
        .map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<DeploymentView>>, Error> {
    let condition = query.on_deployments()?;
    if query.flow_runs.is_some() || query.task_runs.is_some() {
        return Err(Error::field(
            &["flow_runs"],
            "The embedded API does not filter deployments by their runs",
        ));
    }
    let found = app
        .store
        .run(move |tx| deployments::filter(tx, condition, query.sort.as_deref(), query.page))
        .await?;
    Ok(Json(found))
}

async fn count(State(app): State<App>, Body(query): Body<Query>) -> Result<Json<u32>, Error> {
    let condition = query.on_deployments()?;
    app.store
        .run(move |tx| condition.count(tx, deployments::FROM))
        .await
        .map(Json)
}

/// What a served flow polls, which is in no pool.
async fn scheduled(
    State(app): State<App>,
    Body(poll): Body<DeploymentPoll>,
) -> Result<Json<Vec<RunView>>, Error> {
    app.store
        .run(move |tx| deployment_runs::due(tx, &poll))
        .await
        .map(Json)
}

/// The runs of a deployment's schedules are made ahead at their own pace; to ask for it only brings it forward.
async fn make_runs(State(app): State<App>, Params(id): Params<DeploymentId>) -> Result<(), Error> {
    app.store
        .run(move |tx| deployments::read(tx, id).map(drop))
        .await?;
    app.deployments_changed.notify_one();
    Ok(())
}

/// The queue of a deployment, in a list.
async fn check_queues(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<Json<Vec<QueueView>>, Error> {
    app.store
        .run(move |tx| {
            let queue = deployments::read(tx, id)?.work_queue_id;
            let queue = queue.and_then(|id| id.parse().ok());
            queue
                .map(|id| queues::read_by_id(tx, id))
                .into_iter()
                .collect()
        })
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
    Body(body): Body<DeploymentBody>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| deployments::update(tx, id, &body))
        .await?;
    app.deployments_changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<StatusCode, Error> {
    app.store.run(move |tx| deployments::delete(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn create_run(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
    Body(run): Body<RunOfDeployment>,
) -> Result<(StatusCode, Json<RunView>), Error> {
    let answer = app
        .store
        .run(move |tx| {
            let (run_id, is_new) = deployment_runs::create(tx, id, run)?;
            Ok((runs::read(tx, run_id)?, is_new))
        })
        .await?;
    Ok(made(answer))
}

async fn pause(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| deployments::pause(tx, id, true))
        .await?;
    Ok(StatusCode::OK)
}

async fn resume(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| deployments::pause(tx, id, false))
        .await?;
    app.deployments_changed.notify_one();
    Ok(StatusCode::OK)
}
