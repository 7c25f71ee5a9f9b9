//! A server on loopback that answers as a test tells it, and keeps what it was asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use futures::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::{Client, ClientOptions, RetryPolicy};

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) url: url::Url,
    script: Arc<Script>,
    _tasks: JoinSet<()>,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, headers and body.
    Full(u16, Vec<(&'static str, String)>, Bytes),
    /// 200 and half of a body.
    Truncated,
    /// 200 and a body without end.
    Endless,
    /// Nothing, ever.
    Hang,
}

#[derive(Debug, Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<Asked>>,
    csrf: Mutex<Option<Reply>>,
}

// === impl TestServer ===

impl TestServer {
    /// A server that gives these answers in this order and then 204. `GET /csrf-token` is not part of it: there is no such protection.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let script = Arc::new(Script {
            replies: Mutex::new(replies.into_iter().collect()),
            ..Script::default()
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url: url.parse().unwrap(),
            script,
            _tasks: tasks,
        }
    }

    /// What is answered to `GET /csrf-token` from now on.
    pub(crate) fn csrf(&self, reply: Reply) {
        *lock(&self.script.csrf) = Some(reply);
    }

    /// Another answer at the end of the script.
    pub(crate) fn then(&self, reply: Reply) {
        lock(&self.script.replies).push_back(reply);
    }

    /// What it was asked so far, without the question for a CSRF token.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = lock(&self.script.asked);
        let is_call = |asked: &&Asked| !asked.path.starts_with("/api/csrf-token");
        asked.iter().filter(is_call).cloned().collect()
    }

    /// How often it was asked for a CSRF token.
    pub(crate) fn csrf_asked(&self) -> usize {
        let all = lock(&self.script.asked).len();
        all - self.asked().len()
    }

    /// Options for it: no delay between tries, and a short limit for each.
    pub(crate) fn options(&self) -> ClientOptions {
        options(&self.url)
    }

    /// A client for it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Full(status, Vec::new(), Bytes::new())
    }

    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::Full(status, Vec::new(), Bytes::from(text.to_owned()))
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub(crate) fn detail(status: u16, detail: &str) -> Self {
        Self::json(status, &json!({ "detail": detail }))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Full(_, headers, _) = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

// === impl Asked ===

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

// === functions ===

/// Options for a server at a URL.
pub(crate) fn options(url: &url::Url) -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            first_delay: Duration::ZERO,
            max_delay: Duration::ZERO,
            ..RetryPolicy::default()
        },
        ..ClientOptions::new(url.clone())
    }
}

/// A server whose connections, one after the other, answer so many requests with 204, read one more and close without a word.
/// It gives no sign before, like one whose idle connection just timed out. It has no CSRF protection.
pub(crate) async fn closing_server(
    connections: impl IntoIterator<Item = usize>,
) -> (url::Url, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let connections: Vec<usize> = connections.into_iter().collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for answers in connections {
            let (mut connection, _) = listener.accept().await.unwrap();
            for turn in 0..=answers {
                let mut buffer = [0; 4096];
                let read = connection.read(&mut buffer).await.unwrap();
                assert!(read > 0, "a request was expected");
                if turn < answers {
                    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                    connection.write_all(answer).await.unwrap();
                }
            }
        }
    });
    (url.parse().unwrap(), tasks)
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let is_csrf = path.starts_with("/api/csrf-token");
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    lock(&script.asked).push(Asked {
        method: parts.method.to_string(),
        path,
        headers: parts.headers,
        body,
    });
    let reply = if is_csrf {
        let disabled = Reply::detail(422, "CSRF protection is disabled.");
        lock(&script.csrf).clone().unwrap_or(disabled)
    } else {
        let reply = lock(&script.replies).pop_front();
        reply.unwrap_or_else(|| Reply::status(204))
    };
    respond(reply).await
}

async fn respond(reply: Reply) -> Response {
    match reply {
        Reply::Full(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        Reply::Truncated => {
            let beginning = stream::iter([Ok(Bytes::from_static(b"[{\"id\":"))]);
            let end = stream::once(async {
                // What there is so far is only written when there is nothing more for now.
                tokio::task::yield_now().await;
                Err(io::Error::other("scripted"))
            });
            Response::new(Body::from_stream(beginning.chain(end)))
        }
        Reply::Endless => {
            let chunk = Bytes::from(vec![b' '; 1024 * 1024]);
            Response::new(Body::from_stream(stream::repeat_with(move || {
                Ok::<_, Infallible>(chunk.clone())
            })))
        }
        Reply::Hang => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
