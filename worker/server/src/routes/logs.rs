//! `/logs`.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::App;
use crate::{
    body::Body,
    error::Error,
    store::{
        filter::{Condition, Page},
        logs::{self, LogCreate, LogView},
    },
};

#[derive(Debug, Deserialize)]
struct LogQuery {
    #[serde(default)]
    logs: Option<Map<String, Value>>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(flatten)]
    page: Page,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/logs/", post(create))
        .route("/logs/filter", post(filter))
}

async fn create(
    State(app): State<App>,
    Body(entries): Body<Vec<LogCreate>>,
) -> Result<(StatusCode, Json<()>), Error> {
    app.store.run(move |tx| logs::create(tx, &entries)).await?;
    Ok((StatusCode::CREATED, Json(())))
}

async fn filter(
    State(app): State<App>,
    Body(query): Body<LogQuery>,
) -> Result<Json<Vec<LogView>>, Error> {
    let mut condition = Condition::default();
    condition.add("logs", query.logs.as_ref(), logs::FIELDS)?;
    let found = app
        .store
        .run(move |tx| logs::filter(tx, condition, query.sort.as_deref(), query.page))
        .await?;
    Ok(Json(found))
}
