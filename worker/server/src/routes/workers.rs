//! `/work_pools/{pool}/workers`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{delete, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::App;
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::{Condition, Page},
        workers::{self, Heartbeat, WorkerView},
    },
};

#[derive(Debug, Deserialize)]
struct WorkerQuery {
    #[serde(default)]
    workers: Option<Map<String, Value>>,
    #[serde(flatten)]
    page: Page,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/work_pools/{name}/workers/heartbeat", post(heartbeat))
        .route("/work_pools/{name}/workers/filter", post(filter))
        .route("/work_pools/{name}/workers/{worker}", delete(remove))
}

async fn heartbeat(
    State(app): State<App>,
    Params(pool): Params<String>,
    Body(heartbeat): Body<Heartbeat>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| workers::heartbeat(tx, &pool, &heartbeat))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn filter(
    State(app): State<App>,
    Params(pool): Params<String>,
    Body(query): Body<WorkerQuery>,
) -> Result<Json<Vec<WorkerView>>, Error> {
    let mut condition = Condition::default();
    condition.add("workers", query.workers.as_ref(), workers::FIELDS)?;
    let found = app
        .store
        .run(move |tx| workers::filter(tx, &pool, condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn remove(
    State(app): State<App>,
    Params((pool, worker)): Params<(String, String)>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| workers::delete(tx, &pool, &worker))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
