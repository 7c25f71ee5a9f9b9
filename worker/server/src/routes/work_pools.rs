//! `/work_pools`, and what a worker polls.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};

use serde_json::Value;

use super::{App, Query};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::Condition,
        pools::{self, PoolCreate, PoolUpdate, PoolView},
        scheduled::{self, Poll, ScheduledView},
        usage as slots,
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/work_pools/", post(create))
        .route("/work_pools/filter", post(filter))
        .route("/work_pools/{name}", get(read).patch(update).delete(remove))
        .route("/work_pools/count", post(count))
        .route("/work_pools/{name}/concurrency_status", post(usage))
        .route("/work_pools/{name}/get_scheduled_flow_runs", post(poll))
}

async fn create(
    State(app): State<App>,
    Body(pool): Body<PoolCreate>,
) -> Result<(StatusCode, Json<PoolView>), Error> {
    let view = app.store.run(move |tx| pools::create(tx, &pool)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read(
    State(app): State<App>,
    Params(name): Params<String>,
) -> Result<Json<PoolView>, Error> {
    app.store
        .run(move |tx| pools::read(tx, &name))
        .await
        .map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<PoolView>>, Error> {
    let mut condition = Condition::default();
    condition.add("work_pools", query.work_pools.as_ref(), pools::FIELDS)?;
    let found = app
        .store
        .run(move |tx| pools::filter(tx, condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn count(State(app): State<App>, Body(query): Body<Query>) -> Result<Json<u32>, Error> {
    let mut condition = Condition::default();
    condition.add("work_pools", query.work_pools.as_ref(), pools::FIELDS)?;
    app.store
        .run(move |tx| condition.count(tx, "FROM work_pool p"))
        .await
        .map(Json)
}

async fn usage(State(app): State<App>, Params(name): Params<String>) -> Result<Json<Value>, Error> {
    app.store
        .run(move |tx| slots::of_pool(tx, &name))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(name): Params<String>,
    Body(update): Body<PoolUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| pools::update(tx, &name, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(name): Params<String>) -> Result<StatusCode, Error> {
    app.store.run(move |tx| pools::delete(tx, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn poll(
    State(app): State<App>,
    Params(name): Params<String>,
    Body(poll): Body<Poll>,
) -> Result<Json<Vec<ScheduledView>>, Error> {
    let found = app
        .store
        .run(move |tx| scheduled::poll(tx, &name, &poll))
        .await?;
    Ok(Json(found))
}
