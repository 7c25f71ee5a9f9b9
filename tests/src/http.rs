//! A small HTTP client for JSON: enough to stand beside a worker and look at the API it talks to.
//!
//! It speaks HTTP/1.0, one request a connection, so there is neither chunking nor reuse to get wrong. It is apart
//! from the worker's own client on purpose: what that one misreads, this one does not misread the same way.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::wait;

/// The longest a test's request may take; far above what a loaded machine needs.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An API on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    address: SocketAddr,
    base: &'static str,
    token: Option<&'static str>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; null when there is none, a string when it is not JSON.
    pub body: Value,
}

// === impl Api ===

impl Api {
    /// The API that listens there.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            base: "/api",
            token: None,
        }
    }

    /// What listens there and is no Prefect API, such as a status server: its paths begin at the root.
    pub fn at_root_of(address: SocketAddr) -> Self {
        Self {
            address,
            base: "",
            token: None,
        }
    }

    /// The same for one who has this token.
    #[must_use]
    pub fn with_token(self, token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// The base URL, as `PREFECT_API_URL` wants it.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.base)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads a path below the base URL.
    ///
    /// # Panics
    ///
    /// When there is no answer or one that is not 2xx.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.must("GET", path, None)
    }

    /// Posts a body to a path below the base URL.
    ///
    /// # Panics
    ///
    /// When there is no answer or one that is not 2xx.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.must("POST", path, Some(body))
    }

    /// Changes what is at a path below the base URL.
    ///
    /// # Panics
    ///
    /// When there is no answer or one that is not 2xx.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        self.must("PATCH", path, Some(body))
    }

    /// Deletes what is at a path below the base URL.
    ///
    /// # Panics
    ///
    /// When there is no answer or one that is not 2xx.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Value {
        self.must("DELETE", path, None)
    }

    /// Sends any request and returns whatever comes back.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let token = self
            .token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        write!(
            stream,
            "{method} {}{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             {token}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.base,
            self.address,
            body.len(),
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse_answer(&answer)
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        // A Prefect server on SQLite says so when its database is locked, and has done nothing then.
        let mut answer = Err(io::ErrorKind::NotConnected.into());
        wait::holds(TIMEOUT, || {
            answer = self.send(method, path, body);
            answer.as_ref().map_or(true, |answer| answer.status != 503)
        });
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }
}

/// Takes an answer apart.
fn parse_answer(bytes: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(invalid)?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).unwrap_or_else(|_| Value::from(body))
    };
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests;
