//! A client of a few lines, so that a test sees what really comes over the socket.

use std::{io, time::Duration};

use axum::http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use worker_server::{Faults, Server, ServerOptions};

/// A server and what a test needs of it.
pub(crate) struct Api {
    pub(crate) server: Server,
    pub(crate) faults: Faults,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Api {
    pub(crate) async fn start() -> Self {
        let faults = Faults::new();
        let options = ServerOptions {
            faults: Some(faults.clone()),
            ..ServerOptions::default()
        };
        let server = Server::start(options).await.expect("a server starts");
        Self { server, faults }
    }

    /// Sends a request on a connection of its own and reads until the server closes it.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /api{path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.server.address()).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let text = String::from_utf8(bytes).expect("the answer is text");
        let (head, text) = text
            .split_once("\r\n\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Answer {
            status: status.expect("an answer has a status"),
            head: head.to_lowercase(),
            text: text.to_owned(),
        })
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, "", body)
            .await
            .expect("the server answers")
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.accepted()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, Some(&body)).await.accepted()
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) {
        self.send(Method::PATCH, path, Some(&body)).await.accepted();
    }

    /// Makes the pool `p`.
    pub(crate) async fn pool(&self) -> Value {
        self.post("/work_pools/", json!({ "name": "p", "type": "process" }))
            .await
    }

    /// Makes the deployment `f/d` in the pool `p`, with further fields, and gives its id.
    pub(crate) async fn deployment(&self, more: Value) -> String {
        let flow = self.post("/flows/", json!({ "name": "f" })).await;
        let mut body = json!({ "name": "d", "flow_id": flow["id"], "work_pool_name": "p" });
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(more);
        id(&self.post("/deployments/", body).await)
    }

    /// Makes a flow run of a deployment and gives its id.
    pub(crate) async fn run(&self, deployment: &str) -> String {
        let path = format!("/deployments/{deployment}/create_flow_run");
        id(&self.post(&path, json!({})).await)
    }

    /// Proposes a state and gives the whole answer.
    pub(crate) async fn propose(&self, run: &str, kind: &str) -> Value {
        let path = format!("/flow_runs/{run}/set_state");
        self.post(&path, json!({ "state": { "type": kind } })).await
    }

    /// The ids of the flow runs that a poll hands out.
    pub(crate) async fn poll(&self, body: Value) -> Vec<String> {
        let found = self
            .post("/work_pools/p/get_scheduled_flow_runs", body)
            .await;
        let found = found.as_array().expect("a list");
        found.iter().map(|entry| id(&entry["flow_run"])).collect()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text).expect("the answer is JSON")
    }

    /// The body of an answer that must be a success.
    fn accepted(self) -> Value {
        assert!(self.status < 300, "{} {}", self.status, self.text);
        self.json()
    }
}

/// The id of whatever has one.
pub(crate) fn id(value: &Value) -> String {
    value["id"].as_str().expect("it has an id").to_owned()
}

/// A time so many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> String {
    let span = jiff::SignedDuration::from_secs(seconds);
    (jiff::Timestamp::now() + span).to_string()
}

/// Asks again until an answer is right, for a bounded time.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let Ok(found) = tokio::time::timeout(PATIENCE, asking).await else {
        panic!("{what} did not happen in time");
    };
    found
}
