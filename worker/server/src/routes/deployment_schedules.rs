//! `/deployments/{id}/schedules`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, patch},
};
use uuid::Uuid;
use worker_api::types::DeploymentId;

use super::App;
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        deployments,
        schedules::{self, ScheduleCreate, ScheduleView},
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/deployments/{id}/schedules", get(list).post(create))
        .route(
            "/deployments/{id}/schedules/{schedule}",
            patch(update).delete(remove),
        )
}

async fn list(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
) -> Result<Json<Vec<ScheduleView>>, Error> {
    app.store
        .run(move |tx| {
            let deployment = deployments::read(tx, id)?;
            schedules::of_deployment(tx, &deployment.id)
        })
        .await
        .map(Json)
}

async fn create(
    State(app): State<App>,
    Params(id): Params<DeploymentId>,
    Body(given): Body<Vec<ScheduleCreate>>,
) -> Result<(StatusCode, Json<Vec<ScheduleView>>), Error> {
    let made = app
        .store
        .run(move |tx| {
            deployments::read(tx, id)?;
            schedules::add(tx, id, &given)
        })
        .await?;
    app.deployments_changed.notify_one();
    Ok((StatusCode::CREATED, Json(made)))
}

async fn update(
    State(app): State<App>,
    Params((id, schedule)): Params<(DeploymentId, Uuid)>,
    Body(given): Body<ScheduleCreate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| schedules::update(tx, id, schedule, &given))
        .await?;
    app.deployments_changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(app): State<App>,
    Params((id, schedule)): Params<(DeploymentId, Uuid)>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| schedules::delete(tx, id, schedule))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
