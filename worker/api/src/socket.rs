//! Web sockets: opened over the same client as every request, so that proxies, certificates and headers are one thing.
//!
//! A socket introduces itself, speaks JSON text frames, and notices when the other side has gone silent. Who needs one again opens a new
//! one: reconnecting is its owner's affair.

mod events;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use reqwest::{Request, Response, Upgraded};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

pub use self::events::{EVENTS_PAGE, EventSink, EventStream};
use worker_config::Secret;

use crate::{ApiError, Client, request::Call};

/// Why a socket cannot be had, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SocketError {
    /// The server answered the request for it with something else.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The server closed it and said so.
    #[error("{what}: closed by the server with code {code}: {reason}")]
    Closed {
        /// The socket.
        what: String,
        /// The code, by RFC 6455; 1005 when there was none.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// It broke, or nobody answers on it any more.
    #[error("{what}: lost: {reason}")]
    Lost {
        /// The socket.
        what: String,
        /// What was seen.
        reason: String,
    },
    /// The server said something that makes no sense here.
    #[error("{what}: unexpected frame: {reason}")]
    Unexpected {
        /// The socket.
        what: String,
        /// What was expected.
        reason: String,
    },
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    what: String,
    stream: WebSocketStream<Upgraded>,
    ping: Interval,
    heard: Instant,
    /// Text that came while something else was waited for.
    early: VecDeque<String>,
}

/// How a socket says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Introduction {
    /// By the subprotocol `prefect` and a first frame with the token.
    Frame,
    /// By the headers of the request alone.
    Headers,
}

/// How long a socket may take until it is open and introduced (`WorkPoolWorkerChannel`, 3.8.8).
const SETUP: Duration = Duration::from_secs(10);

/// How often the other side is asked whether it is there. Proxies close connections that are silent for a minute.
const PING: Duration = Duration::from_secs(20);

/// How long it may be silent. Two questions were left unanswered then.
const SILENCE: Duration = Duration::from_secs(45);

/// The largest message: an event with a state message of 100 kB three times over, or a pool with a large template, fits many times.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

// === impl SocketError ===

impl SocketError {
    /// Whether a new socket may do better without anybody changing anything. A server that closes for policy or protocol (1008, 1002) will
    /// do so again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_transient(),
            Self::Closed { code, .. } => !matches!(code, 1002 | 1003 | 1008),
            Self::Lost { .. } => true,
            Self::Unexpected { .. } => false,
        }
    }
}

// === impl Client ===

impl Client {
    /// Opens a socket and introduces this client, within a limit of time.
    pub(crate) async fn open_socket(
        &self,
        call: Call,
        introduction: Introduction,
    ) -> Result<Socket, SocketError> {
        let what = call.what(&self.shared);
        timeout(SETUP, self.open_and_introduce(&what, call, introduction))
            .await
            .unwrap_or_else(|_| Err(lost(&what, format!("not open within {SETUP:?}"))))
    }

    async fn open_and_introduce(
        &self,
        what: &str,
        call: Call,
        introduction: Introduction,
    ) -> Result<Socket, SocketError> {
        let key = generate_key();
        let mut request = call.request(self)?;
        ask_for_upgrade(&mut request, &key, introduction);
        let response = self
            .shared
            .sockets
            .execute(request)
            .await
            .map_err(|error| {
                // The innermost cause, as for every request.
                lost(what, crate::request::root_cause(&error))
            })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(what, response).await.into());
        }
        check_acceptance(what, &response, &key)?;
        let upgraded = response
            .upgrade()
            .await
            .map_err(|error| lost(what, crate::request::root_cause(&error)))?;
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MAX_MESSAGE);
        config.max_frame_size = Some(MAX_MESSAGE);
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        let mut socket = Socket::new(what.to_owned(), stream);
        if introduction == Introduction::Frame {
            self.introduce(&mut socket).await?;
        }
        Ok(socket)
    }

    async fn introduce(&self, socket: &mut Socket) -> Result<(), SocketError> {
        let token = self.shared.token.as_ref().map(Secret::expose);
        socket
            .send(&json!({ "type": "auth", "token": token }))
            .await?;
        let answer = socket.receive().await?;
        if answer.get("type").and_then(Value::as_str) == Some("auth_success") {
            Ok(())
        } else {
            Err(socket.unexpected("expected auth_success"))
        }
    }
}

fn ask_for_upgrade(request: &mut Request, key: &str, introduction: Introduction) {
    let headers = request.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONNECTION, fixed("Upgrade"));
    headers.insert(header::UPGRADE, fixed("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, fixed("13"));
    let key = HeaderValue::from_str(key).expect("base64 is a legal header value");
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    if introduction == Introduction::Frame {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, fixed("prefect"));
    }
}

/// Sees that the answer is one to our request, not a cached one to somebody else's (RFC 6455, 4.1).
fn check_acceptance(what: &str, response: &Response, key: &str) -> Result<(), SocketError> {
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    let wanted = derive_accept_key(key.as_bytes());
    if accepted.is_some_and(|value| value.as_bytes() == wanted.as_bytes()) {
        Ok(())
    } else {
        Err(lost(what, "the handshake was not answered".to_owned()))
    }
}

// === impl Socket ===

impl Socket {
    fn new(what: String, stream: WebSocketStream<Upgraded>) -> Self {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            what,
            stream,
            ping,
            heard: Instant::now(),
            early: VecDeque::new(),
        }
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &impl Serialize) -> Result<(), SocketError> {
        let text = serde_json::to_string(frame)
            .expect("our types have text keys only, which JSON can express");
        let sent = timeout(SETUP, self.stream.send(Message::text(text))).await;
        match sent {
            Ok(sent) => sent.map_err(|error| self.broken(&error)),
            Err(_) => Err(lost(&self.what, format!("could not send within {SETUP:?}"))),
        }
    }

    /// Waits for the next frame. Dropping the future loses nothing.
    pub(crate) async fn receive(&mut self) -> Result<Value, SocketError> {
        let text = match self.early.pop_front() {
            Some(text) => text,
            None => loop {
                if let Message::Text(text) = self.hear().await? {
                    break text.to_string();
                }
            },
        };
        let frame: Map<String, Value> =
            serde_json::from_str(&text).map_err(|_| self.unexpected("expected a JSON object"))?;
        Ok(Value::Object(frame))
    }

    /// Waits until everything sent so far has arrived at the other side: it answers a ping after what came before it.
    pub(crate) async fn confirm(&mut self) -> Result<(), SocketError> {
        const MARK: &[u8] = b"confirm";
        let mark = tungstenite::Bytes::from_static(MARK);
        let confirming = async {
            let ping = Message::Ping(mark);
            self.stream.send(ping).await.map_err(|e| self.broken(&e))?;
            loop {
                match self.hear().await? {
                    Message::Pong(payload) if payload.as_ref() == MARK => return Ok(()),
                    Message::Text(text) => self.early.push_back(text.to_string()),
                    _ => {}
                }
            }
        };
        match timeout(SETUP, confirming).await {
            Ok(confirmed) => confirmed,
            Err(_) => Err(lost(&self.what, "it does not confirm".to_owned())),
        }
    }

    /// Says goodbye. Whether it is heard does not matter.
    pub(crate) async fn close(mut self) {
        timeout(Duration::from_secs(1), self.stream.close(None))
            .await
            .map(Result::ok)
            .ok();
    }

    /// The next message of any kind. Cancel-safe: each branch is, and a ping that was begun is sent with whatever is sent next.
    async fn hear(&mut self) -> Result<Message, SocketError> {
        loop {
            tokio::select! {
                message = self.stream.next() => {
                    let message = message.ok_or_else(|| lost(&self.what, "the connection has ended".to_owned()))?;
                    let message = message.map_err(|error| self.broken(&error))?;
                    self.heard = Instant::now();
                    match message {
                        Message::Close(frame) => return Err(self.closed(frame)),
                        message => return Ok(message),
                    }
                }
                _ = self.ping.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(lost(&self.what, format!("silent for {SILENCE:?}")));
                    }
                    let ping = Message::Ping(tungstenite::Bytes::new());
                    self.stream.send(ping).await.map_err(|error| self.broken(&error))?;
                }
            }
        }
    }

    fn closed(&self, frame: Option<CloseFrame>) -> SocketError {
        let (code, reason) = match frame {
            Some(frame) => (frame.code.into(), frame.reason.to_string()),
            None => (1005, String::new()),
        };
        SocketError::Closed {
            what: self.what.clone(),
            code,
            reason,
        }
    }

    fn broken(&self, error: &tungstenite::Error) -> SocketError {
        lost(&self.what, error.to_string())
    }

    /// The error for a frame that makes no sense.
    pub(crate) fn unexpected(&self, reason: impl Into<String>) -> SocketError {
        SocketError::Unexpected {
            what: self.what.clone(),
            reason: reason.into(),
        }
    }
}

fn lost(what: &str, reason: String) -> SocketError {
    SocketError::Lost {
        what: what.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
