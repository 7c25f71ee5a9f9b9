//! The routes, each resource in a file of its own.
//!
//! A handler reads the request, runs one command on the database and answers; what is decided is decided below.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{self, Gate},
    error::Error,
    events::Hub,
    faults::{self, Interception},
    store::{
        self, Store,
        filter::{Condition, Page},
        pools, queues, runs,
    },
};

mod admin;
mod artifacts;
mod automations;
mod blocks;
mod concurrency;
mod deployment_schedules;
mod deployments;
mod events;
mod flow_runs;
mod flows;
mod inputs;
mod logs;
mod socket;
mod states;
mod task_runs;
mod variables;
mod work_pools;
mod work_queues;
mod worker_channel;
mod workers;

pub(crate) use self::logs::Followers;

/// What every handler can reach.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) followers: Followers,
    pub(crate) gate: Gate,
    /// Wakes the scheduler.
    pub(crate) deployments_changed: Arc<Notify>,
    /// Says when to end what would otherwise go on.
    pub(crate) drain: CancellationToken,
}

/// What clients send to a `filter` or `count` route. Other keys are ignored, as the reference does.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Query {
    #[serde(default)]
    flows: Option<Map<String, Value>>,
    #[serde(default)]
    flow_runs: Option<Map<String, Value>>,
    #[serde(default)]
    task_runs: Option<Map<String, Value>>,
    #[serde(default)]
    deployments: Option<Map<String, Value>>,
    #[serde(default)]
    work_pools: Option<Map<String, Value>>,
    #[serde(default, alias = "work_queues")]
    work_pool_queues: Option<Map<String, Value>>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(flatten)]
    page: Page,
}

/// The largest bodies of the reference's clients are batches of logs, of up to 3 MB.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

// === impl Query ===

impl Query {
    /// The condition on a flow run and all that it belongs to.
    fn on_flow_runs(&self) -> Result<Condition, Error> {
        let mut condition = self.on_deployments()?;
        condition.add("flow_runs", self.flow_runs.as_ref(), runs::FIELDS)?;
        Ok(condition)
    }

    /// The condition on a deployment and all that it belongs to.
    fn on_deployments(&self) -> Result<Condition, Error> {
        let mut condition = Condition::default();
        condition.add("flows", self.flows.as_ref(), store::flows::FIELDS)?;
        condition.add(
            "deployments",
            self.deployments.as_ref(),
            store::deployments::FIELDS,
        )?;
        condition.add("work_pools", self.work_pools.as_ref(), pools::FIELDS)?;
        condition.add(
            "work_pool_queues",
            self.work_pool_queues.as_ref(),
            queues::FIELDS,
        )?;
        Ok(condition)
    }
}

/// All routes under `/api`.
pub(crate) fn router(app: App, interception: Interception) -> Router {
    let gate = app.gate.clone();
    let api = Router::new()
        .merge(admin::routes())
        .merge(work_pools::routes())
        .merge(work_queues::routes())
        .merge(workers::routes())
        .merge(worker_channel::routes())
        .merge(flows::routes())
        .merge(deployments::routes())
        .merge(deployment_schedules::routes())
        .merge(flow_runs::routes())
        .merge(states::routes())
        .merge(task_runs::routes())
        .merge(inputs::routes())
        .merge(artifacts::routes())
        .merge(automations::routes())
        .merge(logs::routes())
        .merge(blocks::routes())
        .merge(variables::routes())
        .merge(concurrency::routes())
        .merge(events::routes());
    Router::new()
        .nest("/api", api)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(gate, auth::check))
        .layer(middleware::from_fn_with_state(
            interception,
            faults::intercept,
        ))
}

async fn unknown(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let detail = if path.starts_with("/api/") {
        format!("the embedded API has no {method} {path}; a Prefect server may have it")
    } else {
        // As the reference says it, so that clients know what it means: the API is elsewhere.
        "Not Found".to_owned()
    };
    (StatusCode::NOT_FOUND, Json(json!({ "detail": detail }))).into_response()
}

async fn wrong_method() -> Response {
    let body = Json(json!({ "detail": "Method Not Allowed" }));
    (StatusCode::METHOD_NOT_ALLOWED, body).into_response()
}

/// The answer to a request that makes something: 201 when it was made, 200 when it was there.
fn made<T: Serialize>((view, is_new): (T, bool)) -> (StatusCode, Json<T>) {
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    (status, Json(view))
}
