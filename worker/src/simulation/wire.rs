//! The line between a worker and its API: bytes are passed on as they come, while the worker lives.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::steps::Steps;
use crate::task::{self, Task};

/// Requests that come round and round, whatever the flow runs do. Dying at one of them is dying between two other steps.
const ROUTINE: [&str; 4] = [
    "/get_scheduled_flow_runs",
    "/workers/heartbeat",
    "/flow_runs/filter",
    "GET /api/work_pools/",
];

/// What is answered while the API is away.
const AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// The server at the far end, and whether it can be reached.
#[derive(Clone, Debug)]
pub(super) struct FarEnd {
    pub(super) server: SocketAddr,
    pub(super) away: Arc<AtomicBool>,
}

/// The line. It is cut when this is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    /// The API as the worker sees it.
    pub(super) url: Url,
    lost: Lost,
    _relaying: Task<()>,
}

/// A claim that was on its way when its worker died, and may still arrive.
#[derive(Debug)]
pub(super) struct Letter {
    to: TcpStream,
    request: Vec<u8>,
}

type Lost = Arc<Mutex<Option<Letter>>>;

/// What is known of the request that a connection is about.
#[derive(Debug)]
struct Request {
    line: String,
    routine: bool,
}

// === impl Wire ===

impl Wire {
    /// A line to a server.
    pub(super) async fn to(far_end: FarEnd, steps: Steps) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let lost = Lost::default();
        let relaying = relay_all(listener, far_end, steps, Arc::clone(&lost));
        Self {
            url: format!("http://{address}/api").parse().expect("a URL"),
            lost,
            _relaying: task::spawn("wire", relaying),
        }
    }

    /// The claim at which the worker died, if it died at one.
    pub(super) fn lost(&self) -> Option<Letter> {
        self.lost.lock().expect("nobody panics with it").take()
    }
}

async fn relay_all(listener: TcpListener, far_end: FarEnd, steps: Steps, lost: Lost) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.expect("a connection");
                connections.push(relay(near, &far_end, &steps, &lost));
            }
            Some(_ended) = connections.next() => {}
        }
    }
}

/// Passes on the bytes of one connection. A client sends no request before it has read the last answer, so each turn is one request.
async fn relay(
    mut near: TcpStream,
    far_end: &FarEnd,
    steps: &Steps,
    lost: &Lost,
) -> std::io::Result<()> {
    let mut far = TcpStream::connect(far_end.server).await?;
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut request: Option<Request> = None;
    let mut answered = false;
    loop {
        tokio::select! {
            read = near.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                if far_end.away.load(Ordering::Relaxed) {
                    near.write_all(AWAY).await?;
                    return Ok(());
                }
                if answered || request.is_none() {
                    answered = false;
                    let asked = request.insert(Request::read(bytes));
                    if !asked.routine && steps.count(&asked.line) {
                        if asked.is_claim() {
                            let letter = Letter { to: far, request: bytes.to_vec() };
                            lost.lock().expect("nobody panics with it").replace(letter);
                        }
                        // Whoever sent it is dead in a moment.
                        return std::future::pending().await;
                    }
                }
                steps.live().await;
                far.write_all(bytes).await?;
            }
            read = far.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                let is_first = !std::mem::replace(&mut answered, true);
                if let Some(asked) = request.as_ref().filter(|asked| is_first && !asked.routine) {
                    steps.count(format!("answer to {}", asked.line));
                }
                steps.live().await;
                near.write_all(bytes).await?;
            }
        }
    }
}

// === impl Request ===

impl Request {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let route = text.lines().next().unwrap_or_default().to_owned();
        // A proposal's state says more than its route.
        let state = text
            .split_once("\"type\":\"")
            .and_then(|(_, rest)| rest.split('"').next())
            .filter(|_| route.contains("/set_state"));
        Self {
            routine: ROUTINE.iter().any(|routine| route.contains(routine)),
            line: match state {
                Some(state) => format!("{route}: {state}"),
                None => route,
            },
        }
    }

    fn is_claim(&self) -> bool {
        self.line.ends_with(": PENDING")
    }
}

// === impl Letter ===

impl Letter {
    /// Lets the request arrive, and waits until the server has answered nobody.
    pub(super) async fn deliver(mut self) {
        self.to
            .write_all(&self.request)
            .await
            .expect("the server reads");
        let read = self.to.read(&mut [0; 1024]).await.expect("an answer");
        assert!(read > 0, "the server has answered");
    }
}
