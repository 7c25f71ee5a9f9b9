//! `/flows`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use worker_api::types::FlowId;

use super::{App, Query, made};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::Condition,
        flows::{self, FlowCreate, FlowUpdate, FlowView},
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/flows/", post(create))
        .route("/flows/filter", post(filter))
        .route("/flows/count", post(count))
        .route("/flows/{id}", get(read).patch(update).delete(remove))
        .route("/flows/name/{name}", get(read_by_name))
}

async fn create(
    State(app): State<App>,
    Body(flow): Body<FlowCreate>,
) -> Result<(StatusCode, Json<FlowView>), Error> {
    app.store
        .run(move |tx| flows::create(tx, &flow))
        .await
        .map(made)
}

async fn read(State(app): State<App>, Params(id): Params<FlowId>) -> Result<Json<FlowView>, Error> {
    app.store.run(move |tx| flows::read(tx, id)).await.map(Json)
}

async fn read_by_name(
    State(app): State<App>,
    Params(name): Params<String>,
) -> Result<Json<FlowView>, Error> {
    app.store
        .run(move |tx| flows::read_by_name(tx, &name))
        .await
        .map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<FlowView>>, Error> {
    let mut condition = Condition::default();
    condition.add("flows", query.flows.as_ref(), flows::FIELDS)?;
    let found = app
        .store
        .run(move |tx| flows::filter(tx, condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn count(State(app): State<App>, Body(query): Body<Query>) -> Result<Json<u32>, Error> {
    let mut condition = Condition::default();
    condition.add("flows", query.flows.as_ref(), flows::FIELDS)?;
    app.store
        .run(move |tx| condition.count(tx, "FROM flow f"))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(id): Params<FlowId>,
    Body(update): Body<FlowUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| flows::update(tx, id, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(id): Params<FlowId>) -> Result<StatusCode, Error> {
    app.store.run(move |tx| flows::delete(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
