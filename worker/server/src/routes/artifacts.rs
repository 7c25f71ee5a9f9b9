//! `/artifacts`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{App, Query};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        artifacts::{self, ArtifactCreate, ArtifactUpdate, ArtifactView, FIELDS, FROM},
        filter::Condition,
    },
};

#[derive(Debug, Deserialize)]
struct ArtifactQuery {
    #[serde(default)]
    artifacts: Option<Map<String, Value>>,
    #[serde(flatten)]
    query: Query,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/artifacts/", post(create))
        .route(
            "/artifacts/filter",
            post(async |state, body| filter(state, body, false).await),
        )
        .route(
            "/artifacts/latest/filter",
            post(async |state, body| filter(state, body, true).await),
        )
        .route(
            "/artifacts/count",
            post(async |state, body| count(state, body, false).await),
        )
        .route(
            "/artifacts/latest/count",
            post(async |state, body| count(state, body, true).await),
        )
        .route("/artifacts/{id}", get(read).patch(update).delete(remove))
        .route("/artifacts/{id}/latest", get(read_latest))
}

// === impl ArtifactQuery ===

impl ArtifactQuery {
    fn condition(&self, only_latest: bool) -> Result<Condition, Error> {
        let mut condition = self.query.on_flow_runs()?;
        condition.add("artifacts", self.artifacts.as_ref(), FIELDS)?;
        if only_latest {
            artifacts::only_latest(&mut condition);
        }
        Ok(condition)
    }
}

async fn create(
    State(app): State<App>,
    Body(artifact): Body<ArtifactCreate>,
) -> Result<(StatusCode, Json<ArtifactView>), Error> {
    let view = app
        .store
        .run(move |tx| artifacts::create(tx, &artifact))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read(
    State(app): State<App>,
    Params(id): Params<Uuid>,
) -> Result<Json<ArtifactView>, Error> {
    app.store
        .run(move |tx| artifacts::read(tx, id))
        .await
        .map(Json)
}

async fn read_latest(
    State(app): State<App>,
    Params(key): Params<String>,
) -> Result<Json<ArtifactView>, Error> {
    app.store
        .run(move |tx| artifacts::read_latest(tx, &key))
        .await
        .map(Json)
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<ArtifactQuery>,
    only_latest: bool,
) -> Result<Json<Vec<ArtifactView>>, Error> {
    let condition = query.condition(only_latest)?;
    let Query { sort, page, .. } = query.query;
    let found = app
        .store
        .run(move |tx| artifacts::filter(tx, condition, sort.as_deref(), page))
        .await?;
    Ok(Json(found))
}

async fn count(
    State(app): State<App>,
    Body(query): Body<ArtifactQuery>,
    only_latest: bool,
) -> Result<Json<u32>, Error> {
    let condition = query.condition(only_latest)?;
    app.store
        .run(move |tx| condition.count(tx, FROM))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Body(update): Body<ArtifactUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| artifacts::update(tx, id, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(id): Params<Uuid>) -> Result<StatusCode, Error> {
    app.store.run(move |tx| artifacts::delete(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
