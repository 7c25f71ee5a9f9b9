//! `/v2/concurrency_limits`: the lease a run has on a slot of its deployment.
//!
//! Other limits are not built in, and a name that no limit has restricts nobody. The engine asks for each tag of a task
//! (`tag:<name>`), so the question has to be answered.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use crate::{
    body::{Body, Params},
    error::Error,
    store::leases,
};

#[derive(Debug, Deserialize)]
struct Renewal {
    lease_duration: f64,
}

/// What the reference allows a lease to last (3.8.8).
const DURATION: std::ops::RangeInclusive<f64> = 60.0..=86_400.0;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/concurrency_limits/leases/{id}/renew", post(renew))
        .route("/v2/concurrency_limits/increment-with-lease", post(acquire))
        .route("/v2/concurrency_limits/decrement-with-lease", post(release))
}

async fn renew(
    State(app): State<App>,
    Params(lease): Params<Uuid>,
    Body(renewal): Body<Renewal>,
) -> Result<StatusCode, Error> {
    if !DURATION.contains(&renewal.lease_duration) {
        return Err(Error::field(
            &["lease_duration"],
            "Input should be between 60 and 86400 seconds",
        ));
    }
    let duration = SignedDuration::try_from_secs_f64(renewal.lease_duration).unwrap_or_default();
    app.store
        .run(move |tx| leases::renew(tx, lease, duration))
        .await?;
    Ok(StatusCode::OK)
}

async fn acquire() -> Json<Value> {
    Json(json!({ "lease_id": Uuid::new_v4(), "limits": [] }))
}

async fn release() -> StatusCode {
    StatusCode::NO_CONTENT
}
