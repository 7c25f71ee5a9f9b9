//! The status server: `/livez` (the loops turn), `/readyz` (it can take work), `/health` (as the reference's), `/metrics`, `/status`.
//!
//! Liveness never depends on the API or an engine: their outage must not become a restart loop. A loop that does not turn is another
//! matter, and [`watch_over`] ends the process for it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;

use worker_api::ApiError;

use crate::{
    dispatcher::Load,
    event::{Gate, Stage},
    metrics::Metrics,
    notify::Report,
    telemetry::chain,
};

/// How long the loop may not turn before the process is not alive any more. It turns at least once a second.
const STUCK_AFTER: Duration = Duration::from_mins(1);

/// What the parts of a worker say of themselves. Written by one part each, read by probes.
#[derive(Debug)]
pub(crate) struct Vitals {
    began: std::time::Instant,
    /// Milliseconds after `began` at which the loop last turned.
    turned: AtomicU64,
    poll: Mutex<Poll>,
    work: Mutex<Work>,
}

#[derive(Clone, Debug, Default)]
struct Poll {
    succeeded: bool,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct Work {
    load: Load,
    gate: Gate,
    stage: Stage,
}

/// What the status server serves.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// What the parts say.
    pub(crate) vitals: Arc<Vitals>,
    /// The numbers.
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves until its owner drops it.
pub(crate) async fn serve(listener: tokio::net::TcpListener, status: Status) {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/status", get(whole))
        .route("/metrics", get(metrics))
        .with_state(status);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "the status server has ended");
    }
}

/// Takes the port, so that a taken one is told at start-up.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(address).await
}

/// Ends the process when the loop is stuck: what would go on looking alive and doing nothing is worth less than a restart.
pub(crate) fn watch_over(vitals: &Arc<Vitals>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let vitals = Arc::downgrade(vitals);
    crate::task::thread("watchdog", move || {
        while let Some(vitals) = vitals.upgrade() {
            if vitals.is_stuck() {
                tracing::error!(
                    "the loop has not turned for {STUCK_AFTER:?}; ending, so that a fresh process takes over"
                );
                std::process::abort();
            }
            drop(vitals);
            // A plain park is a bounded wait that nobody cuts short.
            std::thread::park_timeout(Duration::from_secs(5));
        }
    })
}

async fn livez(State(status): State<Status>) -> impl IntoResponse {
    if status.vitals.is_stuck() {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn readyz(State(status): State<Status>) -> impl IntoResponse {
    match status.vitals.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// The reference's probe (`--with-healthcheck`, 3.8.8), for charts and units that know only that one. Like it, it is about polling.
async fn health(State(status): State<Status>) -> impl IntoResponse {
    if status.vitals.is_stuck() {
        let message = json!({"message": "Worker may be unresponsive at this time"});
        (StatusCode::SERVICE_UNAVAILABLE, Json(message))
    } else {
        (StatusCode::OK, Json(json!({"message": "OK"})))
    }
}

async fn whole(State(status): State<Status>) -> impl IntoResponse {
    let Poll { succeeded, error } = status.vitals.poll();
    let Work { load, gate, stage } = status.vitals.work();
    let closed = match gate {
        Gate::Open(_) => None,
        Gate::Full(reason) | Gate::Closed(reason) => Some(reason),
    };
    Json(json!({
        "stage": format!("{stage:?}").to_lowercase(),
        "flow_runs": {"held": load.lives, "starting": load.starting, "waiting": load.waiting},
        "claims_nothing_because": closed,
        "poll": {"ever_succeeded": succeeded, "error": error},
        "uptime_seconds": status.vitals.began.elapsed().as_secs(),
    }))
}

async fn metrics(State(status): State<Status>) -> impl IntoResponse {
    (
        [("content-type", "text/plain; version=0.0.4")],
        status.metrics.render(),
    )
}

// === impl Vitals ===

impl Vitals {
    pub(crate) fn new() -> Self {
        Self {
            began: std::time::Instant::now(),
            turned: AtomicU64::new(0),
            poll: Mutex::default(),
            work: Mutex::new(Work {
                load: Load::default(),
                gate: Gate::Closed("starting".to_owned()),
                stage: Stage::Working,
            }),
        }
    }

    /// The loop has turned, and this is what it holds.
    pub(crate) fn turned(&self, load: Load, gate: Gate, stage: Stage) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(now, Ordering::Relaxed);
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Work { load, gate, stage };
    }

    pub(crate) fn poll_succeeded(&self) {
        *self.poll.lock().unwrap_or_else(PoisonError::into_inner) = Poll {
            succeeded: true,
            error: None,
        };
    }

    pub(crate) fn poll_failed(&self, error: &ApiError) {
        self.poll
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .error = Some(chain(error));
    }

    fn poll(&self) -> Poll {
        self.poll
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn work(&self) -> Work {
        self.work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_stuck(&self) -> bool {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(turned) > STUCK_AFTER
    }

    /// What a supervisor is told.
    pub(crate) fn report(&self) -> Report {
        let Work { load, stage, .. } = self.work();
        let reason = self.not_ready();
        let held = format!(
            "{} flow run(s) held, {} of them starting",
            load.lives, load.starting
        );
        Report {
            ready: reason.is_none(),
            ending: stage > Stage::Working,
            status: reason.map_or(held.clone(), |reason| format!("{held}; {reason}")),
        }
    }

    /// Why the worker could not take a flow run now. A full worker is ready: it will take the next one.
    fn not_ready(&self) -> Option<String> {
        let Poll { succeeded, error } = self.poll();
        let work = self.work();
        if work.stage > Stage::Working {
            return Some("shutting down".to_owned());
        }
        if let Some(error) = error {
            return Some(error);
        }
        match work.gate {
            Gate::Closed(reason) if work.load.lives == 0 => Some(reason),
            _ => (!succeeded).then(|| "the work pool was not polled yet".to_owned()),
        }
    }
}
