//! `/flow_run_states`.

use axum::{Json, Router, extract::State, routing::get};
use serde::Deserialize;
use uuid::Uuid;
use worker_api::types::FlowRunId;

use super::App;
use crate::{
    body::{Args, Params},
    error::Error,
    store::{states, value::Raw},
};

#[derive(Debug, Deserialize)]
struct OfRun {
    flow_run_id: FlowRunId,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/flow_run_states/", get(list))
        .route("/flow_run_states/{id}", get(read))
}

async fn list(State(app): State<App>, Args(query): Args<OfRun>) -> Result<Json<Vec<Raw>>, Error> {
    app.store
        .run(move |tx| states::of_run(tx, query.flow_run_id))
        .await
        .map(Json)
}

async fn read(State(app): State<App>, Params(id): Params<Uuid>) -> Result<Json<Raw>, Error> {
    app.store
        .run(move |tx| states::read(tx, id))
        .await
        .map(Json)
}
