//! What a client asks before it asks for anything.

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};

use super::App;
use crate::{PREFECT_VERSION, error::Error};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/hello", get(async || Json("👋")))
        .route("/health", get(async || Json(true)))
        .route("/ready", get(async || Json(json!({ "message": "OK" }))))
        .route("/version", get(async || Json(PREFECT_VERSION)))
        .route("/admin/version", get(async || Json(PREFECT_VERSION)))
        .route("/admin/storage", get(storage))
        .route("/csrf-token", get(csrf))
        .route("/collections/views/{view}", get(collection))
}

async fn storage() -> Json<Value> {
    Json(json!({ "default_result_storage_block_id": null }))
}

/// What the reference knows of packages that one could install. Clients know those that are installed.
async fn collection() -> Json<Value> {
    Json(json!({}))
}

async fn csrf() -> Error {
    Error::Unprocessable("CSRF protection is disabled.".to_owned())
}
