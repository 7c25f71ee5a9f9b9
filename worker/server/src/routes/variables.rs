//! `/variables`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::App;
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        filter::{Condition, Page},
        variables::{self, Key, VariableCreate, VariableUpdate, VariableView},
    },
};

#[derive(Debug, Deserialize)]
struct VariableQuery {
    #[serde(default)]
    variables: Option<Map<String, Value>>,
    #[serde(flatten)]
    page: Page,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/variables/", post(create))
        .route("/variables/filter", post(filter))
        .route("/variables/count", post(count))
        .route(
            "/variables/{id}",
            get(async |state, Params(id): Params<Uuid>| read(state, Key::Id(id)).await)
                .patch(async |state, Params(id): Params<Uuid>, body| {
                    update(state, Key::Id(id), body).await
                })
                .delete(async |state, Params(id): Params<Uuid>| remove(state, Key::Id(id)).await),
        )
        .route(
            "/variables/name/{name}",
            get(async |state, Params(name): Params<String>| read(state, Key::Name(name)).await)
                .patch(async |state, Params(name): Params<String>, body| {
                    update(state, Key::Name(name), body).await
                })
                .delete(async |state, Params(name): Params<String>| {
                    remove(state, Key::Name(name)).await
                }),
        )
}

async fn create(
    State(app): State<App>,
    Body(variable): Body<VariableCreate>,
) -> Result<(StatusCode, Json<VariableView>), Error> {
    let view = app
        .store
        .run(move |tx| variables::create(tx, &variable))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<VariableQuery>,
) -> Result<Json<Vec<VariableView>>, Error> {
    let mut condition = Condition::default();
    condition.add("variables", query.variables.as_ref(), variables::FIELDS)?;
    let found = app
        .store
        .run(move |tx| variables::filter(tx, condition, query.page))
        .await?;
    Ok(Json(found))
}

async fn count(
    State(app): State<App>,
    Body(query): Body<VariableQuery>,
) -> Result<Json<u32>, Error> {
    let mut condition = Condition::default();
    condition.add("variables", query.variables.as_ref(), variables::FIELDS)?;
    app.store
        .run(move |tx| condition.count(tx, "FROM variable v"))
        .await
        .map(Json)
}

async fn read(State(app): State<App>, key: Key) -> Result<Json<VariableView>, Error> {
    app.store
        .run(move |tx| variables::read(tx, &key))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    key: Key,
    Body(update): Body<VariableUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| variables::update(tx, &key, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, key: Key) -> Result<StatusCode, Error> {
    app.store.run(move |tx| variables::delete(tx, &key)).await?;
    Ok(StatusCode::NO_CONTENT)
}
