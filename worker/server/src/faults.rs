//! Faults: what a test lets go wrong between a client and the server; and what was requested, so that it can count.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::stream;

use crate::listener::Cut;

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The handler does not run; this status is answered.
    Status {
        /// The status, such as 503.
        code: u16,
        /// The header `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The handler runs, but only after this time.
    Delay(Duration),
    /// The connection is cut; the handler does not run.
    ResetBeforeCommit,
    /// The handler runs, and the connection is cut before a byte of the answer is sent.
    ResetAfterCommit,
    /// The handler runs, and the connection is cut in the middle of the answer's body.
    TruncatedBody,
    /// The handler runs, and its status is answered with a body that is not JSON.
    Garbage,
    /// The handler runs, and its status is answered without a body.
    Empty,
    /// The handler runs, and its status is answered with this body: what a server of another release would say.
    Body(String),
    /// The handler does not run, and nothing is answered, until the client or the server gives up.
    Hang,
}

/// The faults that are still to come. Clones share them, so that a test keeps a handle on a running server.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Planned>>>);

/// How often each route was requested. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<HashMap<(Method, String), u64>>>);

/// What the middleware needs.
#[derive(Clone, Debug)]
pub(crate) struct Interception {
    pub(crate) faults: Option<Faults>,
    pub(crate) requests: Requests,
}

#[derive(Clone, Debug)]
struct Planned {
    method: Method,
    path: String,
    fault: Fault,
}

/// The largest answer that is held in memory to be cut in the middle.
const HELD: usize = 16 * 1024 * 1024;

// === impl Faults ===

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault for the next request of a route, behind those that are planned for it already.
    ///
    /// The path is written without `/api` and with parameters in braces, whatever their names:
    /// `/flow_runs/{id}/set_state`.
    pub fn next(&self, method: Method, path: &str, fault: Fault) {
        self.times(1, method, path, fault);
    }

    /// Plans a fault for the next so many requests of a route.
    pub fn times(&self, count: usize, method: Method, path: &str, fault: Fault) {
        let planned = Planned {
            method,
            path: template(path),
            fault,
        };
        self.lock().extend(std::iter::repeat_n(planned, count));
    }

    /// How many faults have not happened yet. A test that ends with some left has tested something else.
    pub fn remaining(&self) -> usize {
        self.lock().len()
    }

    /// Plans nothing any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn take(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut planned = self.lock();
        let index = planned
            .iter()
            .position(|planned| planned.method == *method && planned.path == path)?;
        planned.remove(index).map(|planned| planned.fault)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Requests ===

impl Requests {
    /// How often a route was requested, faults included. The path is written as for [`Faults::next`].
    pub fn count(&self, method: &Method, path: &str) -> u64 {
        let key = (method.clone(), template(path));
        self.lock().get(&key).copied().unwrap_or(0)
    }

    /// How many requests there were.
    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    /// Every route that was requested, and how often, in the order of paths.
    pub fn all(&self) -> Vec<(Method, String, u64)> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .map(|((method, path), count)| (method.clone(), path.clone(), *count))
            .collect();
        all.sort_by(|a, b| (&a.1, a.0.as_str()).cmp(&(&b.1, b.0.as_str())));
        all
    }

    /// Starts counting anew.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn note(&self, method: Method, path: String) {
        *self.lock().entry((method, path)).or_insert(0) += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Method, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request, and lets go wrong what is to go wrong with it.
pub(crate) async fn intercept(
    State(interception): State<Interception>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let path = template(path.map_or("/unknown", MatchedPath::as_str));
    interception.requests.note(method.clone(), path.clone());
    let fault = interception
        .faults
        .and_then(|faults| faults.take(&method, &path));
    let Some(fault) = fault else {
        return next.run(request).await;
    };
    tracing::debug!(%method, path, ?fault, "injected fault");
    let cut = request.extensions().get::<ConnectInfo<Cut>>();
    let cut = cut.map(|ConnectInfo(cut)| cut.clone()).unwrap_or_default();
    match fault {
        Fault::Status { code, retry_after } => refuse(code, retry_after),
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            next.run(request).await
        }
        Fault::ResetBeforeCommit => {
            cut.cut();
            StatusCode::OK.into_response()
        }
        Fault::ResetAfterCommit => {
            let response = next.run(request).await;
            cut.cut();
            response
        }
        Fault::TruncatedBody => truncate(next.run(request).await, &cut).await,
        Fault::Garbage => replace(next.run(request).await, "<html>no gateway</html>"),
        Fault::Empty => replace(next.run(request).await, ""),
        Fault::Body(body) => replace(next.run(request).await, body),
        Fault::Hang => std::future::pending().await,
    }
}

fn refuse(code: u16, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::Json(serde_json::json!({ "exception_message": "injected fault" }));
    let mut response = (status, body).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn replace(response: Response, body: impl Into<Body>) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}

/// Promises the whole body and sends half of it. What has no body is not answered at all.
async fn truncate(response: Response, cut: &Cut) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, HELD).await.unwrap_or_default();
    if bytes.is_empty() {
        cut.cut();
        return StatusCode::OK.into_response();
    }
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.slice(..bytes.len() / 2);
    let end = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let parts_of_it: [Result<Bytes, std::io::Error>; 2] = [Ok(half), Err(end)];
    Response::from_parts(parts, Body::from_stream(stream::iter(parts_of_it)))
}

/// A path with its parameters made anonymous, so that it does not matter what they are called.
fn template(path: &str) -> String {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let mut template = String::with_capacity(path.len());
    for segment in path.trim_matches('/').split('/') {
        template.push('/');
        template.push_str(if segment.starts_with('{') {
            "{}"
        } else {
            segment
        });
    }
    template
}
