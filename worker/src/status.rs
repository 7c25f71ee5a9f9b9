//! The status server of a process: a page for people, the same as JSON at `/status`, `/livez` (the loops turn), `/readyz` (it can take work), `/health`
//! (as the reference's), and `/metrics`.
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

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use worker_api::ApiError;
use worker_config::settings::StatusSettings;
use worker_drivers::Health;

use crate::{
    board::Lines,
    dispatcher::Load,
    event::{Gate, Stage},
    metrics::{self, Metrics},
    notify::Report,
    seat::{Place, Seat},
    services::{Identity, Services},
    telemetry::chain,
};

mod page;

/// How long the loop may not turn before the process is not alive any more. It turns at least once a second.
const STUCK_AFTER: Duration = Duration::from_mins(1);

/// A loop that turned so lately is well: it does so each second.
const STEADY: Duration = Duration::from_secs(5);

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
    /// When one last succeeded.
    succeeded: Option<Timestamp>,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct Work {
    load: Load,
    gate: Gate,
    stage: Stage,
}

/// What the status server shows: each worker of the process.
type Seats = Arc<[Arc<Seat>]>;

/// The status server's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the status server cannot listen on {address}; give it another --status-port")]
pub(crate) struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What is to be seen of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// What the parts say.
    pub(crate) vitals: Arc<Vitals>,
    /// Who they belong to, and what they count.
    pub(crate) services: Arc<Services>,
}

/// What there is to see of a worker at one moment.
struct Sight {
    identity: Identity,
    kind: &'static str,
    api: String,
    poll: Poll,
    work: Work,
    driver: Health,
    lines: Lines,
    uptime: Duration,
    now: Timestamp,
}

/// One worker, or why there is none.
enum Sighting {
    Worker(Box<Sight>),
    None { pool: String, reason: String },
}

/// Serves until its owner drops it.
pub(crate) async fn serve(listener: tokio::net::TcpListener, seats: Seats) {
    let routes = Router::new()
        .route("/", get(page))
        .route("/status.js", get(script))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/status", get(whole))
        .route("/metrics", get(metrics))
        .with_state(seats);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "the status server has ended");
    }
}

/// Takes the port, so that a taken one is told at start-up.
pub(crate) async fn listen(
    settings: &StatusSettings,
) -> Result<tokio::net::TcpListener, ListenError> {
    let address = SocketAddr::new(settings.host, settings.port);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "serving /livez, /readyz, /health, /metrics, /status, and a page at /");
    Ok(listener)
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

async fn livez(State(seats): State<Seats>) -> impl IntoResponse {
    if is_stuck(&seats) {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Ready is who could take a flow run, from whichever pool: one that cannot be served is no reason to keep others from being.
async fn readyz(State(seats): State<Seats>) -> impl IntoResponse {
    let reasons: Vec<(&str, Option<String>)> = seats
        .iter()
        .map(|seat| (seat.pool.as_str(), not_ready(seat)))
        .collect();
    let code = if reasons.iter().any(|(_, reason)| reason.is_none()) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let line = |reason: Option<String>| reason.unwrap_or_else(|| "ok".to_owned());
    let alone = reasons.len() == 1;
    let lines = reasons.into_iter().map(|(pool, reason)| {
        if alone {
            line(reason)
        } else {
            format!("{pool}: {}", line(reason))
        }
    });
    let lines: Vec<String> = lines.collect();
    (code, lines.join("\n") + "\n")
}

/// The reference's probe (`--with-healthcheck`, 3.8.8), for charts and units that know only that one. Like it, it is about polling.
async fn health(State(seats): State<Seats>) -> impl IntoResponse {
    if is_stuck(&seats) {
        let message = json!({"message": "Worker may be unresponsive at this time"});
        (StatusCode::SERVICE_UNAVAILABLE, Json(message))
    } else {
        (StatusCode::OK, Json(json!({"message": "OK"})))
    }
}

/// Nobody else's page may show this one, and it runs no script but its own.
const GUARDS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
];

async fn page(State(seats): State<Seats>) -> impl IntoResponse {
    let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([html], GUARDS, page::render(&sightings(&seats)))
}

async fn script() -> impl IntoResponse {
    let javascript = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
    ([javascript], GUARDS, page::SCRIPT)
}

/// One worker as it always was; several in a list.
async fn whole(State(seats): State<Seats>) -> impl IntoResponse {
    let mut shown: Vec<Value> = sightings(&seats).into_iter().map(document).collect();
    Json(match shown.as_mut_slice() {
        [only] => only.take(),
        _ => json!({"version": env!("CARGO_PKG_VERSION"), "pools": shown}),
    })
}

fn document(sighting: Sighting) -> Value {
    let sight = match sighting {
        Sighting::Worker(sight) => *sight,
        Sighting::None { pool, reason } => {
            return json!({
                "version": env!("CARGO_PKG_VERSION"),
                "pool": pool,
                "claims_nothing_because": reason,
            });
        }
    };
    let Sight {
        identity,
        kind,
        api,
        poll,
        work: Work { load, gate, stage },
        driver,
        lines,
        uptime,
        now: _,
    } = sight;
    let closed = match gate {
        Gate::Open(_) => lines.paused,
        Gate::Full(reason) | Gate::Closed(reason) => Some(reason),
    };
    let down = match driver {
        Health::Up => None,
        Health::Down { reason } => Some(reason),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "worker": identity.worker,
        "pool": identity.pool,
        "driver": {"type": kind, "down_because": down},
        "api": api,
        "stage": format!("{stage:?}").to_lowercase(),
        "flow_runs": {"held": load.lives, "starting": load.starting, "waiting": load.waiting},
        "claims_nothing_because": closed,
        "poll": {"ever_succeeded": poll.succeeded.is_some(), "last_success": poll.succeeded, "error": poll.error},
        "uptime_seconds": uptime.as_secs(),
        "held": lines.held,
        "ended": lines.ended,
    })
}

async fn metrics(State(seats): State<Seats>) -> impl IntoResponse {
    let places: Vec<Status> = seats
        .iter()
        .filter_map(|seat| match seat.place() {
            Place::Working(status) => Some(status),
            _ => None,
        })
        .collect();
    let all: Vec<&Metrics> = places
        .iter()
        .map(|status| status.services.metrics.as_ref())
        .collect();
    // Workers of one process share a client.
    let requests = places.first().map(|status| status.services.client.tally());
    (
        [("content-type", "text/plain; version=0.0.4")],
        metrics::render(&all, seats.len() > 1, &requests.unwrap_or_default()),
    )
}

fn is_stuck(seats: &Seats) -> bool {
    seats.iter().any(|seat| seat.is_stuck())
}

fn not_ready(seat: &Seat) -> Option<String> {
    match seat.place() {
        Place::Working(status) => status.vitals.not_ready(),
        Place::Beginning(reason) | Place::Away(reason) => Some(reason),
        Place::Over => Some("shutting down".to_owned()),
    }
}

fn sightings(seats: &Seats) -> Vec<Sighting> {
    seats
        .iter()
        .map(|seat| match seat.place() {
            Place::Working(status) => Sighting::Worker(Box::new(status.sight())),
            Place::Beginning(reason) | Place::Away(reason) => Sighting::None {
                pool: seat.pool.clone(),
                reason,
            },
            Place::Over => Sighting::None {
                pool: seat.pool.clone(),
                reason: "its worker has ended".to_owned(),
            },
        })
        .collect()
}

// === impl Status ===

impl Status {
    fn sight(&self) -> Sight {
        let services = &self.services;
        Sight {
            identity: services.identity.clone(),
            kind: services.driver.kind().as_str(),
            api: services.client.base_url().to_string(),
            poll: self.vitals.poll(),
            work: self.vitals.work(),
            driver: services.driver.health().borrow().clone(),
            lines: services.board.read(),
            uptime: self.vitals.began.elapsed(),
            now: Timestamp::now(),
        }
    }
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
            succeeded: Some(Timestamp::now()),
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

    /// Whether the loop has not turned for longer than it ever may.
    pub(crate) fn is_stuck(&self) -> bool {
        self.rested() > STUCK_AFTER
    }

    /// How long ago the loop last turned.
    fn rested(&self) -> Duration {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(turned)
    }

    /// What a supervisor is told.
    pub(crate) fn report(&self) -> Report {
        let Work { load, stage, .. } = self.work();
        let reason = self.not_ready();
        let held = format!(
            "flow runs held: {}, of them starting: {}",
            load.lives, load.starting
        );
        Report {
            ready: reason.is_none(),
            ending: stage > Stage::Working,
            alive: self.rested() < STEADY,
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
            _ => succeeded
                .is_none()
                .then(|| "the work pool was not polled yet".to_owned()),
        }
    }
}
