//! `/automations`: there are none, and none can be made. Clients that only look, or tidy up, get an answer to that.

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{delete, get, post},
};
use serde_json::Value;

use super::App;
use crate::error::Error;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/automations/", post(create))
        .route("/automations/filter", post(none))
        .route("/automations/count", post(async || Json(0)))
        .route("/automations/related-to/{resource}", get(none))
        .route("/automations/owned-by/{resource}", delete(removed))
        .route(
            "/automations/{id}",
            get(missing).put(missing).patch(missing).delete(missing),
        )
}

async fn create() -> Error {
    Error::Unprocessable(
        "the embedded API has no automations and no triggers: leave them out, or use a Prefect server".to_owned(),
    )
}

async fn none() -> Json<Vec<Value>> {
    Json(Vec::new())
}

async fn removed() -> StatusCode {
    StatusCode::ACCEPTED
}

async fn missing() -> Error {
    Error::not_found("Automation not found")
}
