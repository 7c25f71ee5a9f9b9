//! `/work_pools/{pool}/queues`, and `/work_queues` by id.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::Value;
use worker_api::types::WorkQueueId;

use super::{App, Query};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::Condition,
        queues::{self, QueueCreate, QueueUpdate, QueueView},
        runs::RunView,
        scheduled::{self, Poll},
        usage as slots,
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/work_pools/{name}/queues", post(create))
        .route("/work_pools/{name}/queues/", post(create))
        .route("/work_pools/{name}/queues/filter", post(filter_of_pool))
        .route(
            "/work_pools/{name}/queues/{queue}",
            get(read).patch(update).delete(remove),
        )
        .route("/work_queues/filter", post(filter))
        .route("/work_queues/", post(create_without_pool))
        .route("/work_queues/name/{name}", get(read_without_pool))
        .route(
            "/work_queues/{id}",
            get(read_by_id).patch(update_by_id).delete(remove_by_id),
        )
        .route("/work_queues/{id}/get_runs", post(runs))
        .route("/work_queues/{id}/status", get(status))
        .route("/work_queues/{id}/concurrency_status", post(usage))
}

async fn create(
    State(app): State<App>,
    Params(pool): Params<String>,
    Body(queue): Body<QueueCreate>,
) -> Result<(StatusCode, Json<QueueView>), Error> {
    let view = app
        .store
        .run(move |tx| queues::create(tx, &pool, &queue))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read(
    State(app): State<App>,
    Params((pool, queue)): Params<(String, String)>,
) -> Result<Json<QueueView>, Error> {
    let view = app
        .store
        .run(move |tx| queues::read(tx, &pool, &queue))
        .await?;
    Ok(Json(view))
}

async fn read_by_id(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
) -> Result<Json<QueueView>, Error> {
    app.store
        .run(move |tx| queues::read_by_id(tx, id))
        .await
        .map(Json)
}

async fn filter_of_pool(
    State(app): State<App>,
    Params(pool): Params<String>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<QueueView>>, Error> {
    find(&app, Some(pool), query).await
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<Query>,
) -> Result<Json<Vec<QueueView>>, Error> {
    find(&app, None, query).await
}

async fn find(
    app: &App,
    pool: Option<String>,
    query: Query,
) -> Result<Json<Vec<QueueView>>, Error> {
    let mut condition = Condition::default();
    condition.add(
        "work_queues",
        query.work_pool_queues.as_ref(),
        queues::FIELDS,
    )?;
    let found = app
        .store
        .run(move |tx| queues::filter(tx, pool.as_deref(), condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn update(
    State(app): State<App>,
    Params((pool, queue)): Params<(String, String)>,
    Body(update): Body<QueueUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| queues::update(tx, &pool, &queue, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(app): State<App>,
    Params((pool, queue)): Params<(String, String)>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| queues::delete(tx, &pool, &queue))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update_by_id(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
    Body(update): Body<QueueUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| {
            let queue = queues::read_by_id(tx, id)?;
            queues::update(tx, &queue.work_pool_name, &queue.name, &update)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_by_id(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| {
            let queue = queues::read_by_id(tx, id)?;
            queues::delete(tx, &queue.work_pool_name, &queue.name)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn runs(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
    Body(poll): Body<Poll>,
) -> Result<Json<Vec<RunView>>, Error> {
    app.store
        .run(move |tx| scheduled::of_queue(tx, id, &poll))
        .await
        .map(Json)
}

async fn status(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
) -> Result<Json<Value>, Error> {
    app.store
        .run(move |tx| queues::health(tx, id))
        .await
        .map(Json)
}

async fn usage(
    State(app): State<App>,
    Params(id): Params<WorkQueueId>,
) -> Result<Json<Value>, Error> {
    app.store
        .run(move |tx| slots::of_queue(tx, id))
        .await
        .map(Json)
}

async fn create_without_pool() -> Error {
    Error::Unprocessable(
        "the embedded API has no work queues outside of pools: name a work pool".to_owned(),
    )
}

async fn read_without_pool(Params(name): Params<String>) -> Error {
    Error::not_found(format!(
        "the embedded API has no work queues outside of pools: name the work pool of queue '{name}'"
    ))
}
