//! The shim's side of Prefect's attempt control session: one listener on loopback, one token, one engine.
//!
//! It is best effort in both directions: without it a job is stopped by signal alone and judged by its exit code.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::frame::{self, Decoder, Frame};
use crate::job::Intent;

/// How long a connection may take to say who it is, as the reference allows.
const TOKEN_WAIT: Duration = Duration::from_secs(5);

/// Connections that have not said who they are. Anybody on this machine can connect; a handful is enough for one engine.
const MAX_STRANGERS: usize = 4;

/// The control session of one attempt.
#[derive(Debug)]
pub(super) struct Session {
    /// Gone once the token was used.
    listener: Option<TcpListener>,
    port: u16,
    token: String,
    strangers: Vec<(Connection, Instant)>,
    engine: Option<Connection>,
    receipts: bool,
    /// Whether the engine said that the API knows how the attempt ended.
    pub(super) reported: bool,
    intent: Delivery,
}

/// How far an intent has come. There is at most one per attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    None,
    Sent,
    Accepted,
    Failed,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    decoder: Decoder,
}

// === impl Session ===

impl Session {
    /// Listens on a free port of loopback.
    pub(super) fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self {
            listener: Some(listener),
            port,
            token: Uuid::new_v4().simple().to_string(),
            strangers: Vec::new(),
            engine: None,
            receipts: false,
            reported: false,
            intent: Delivery::None,
        })
    }

    /// What the engine finds its way with.
    pub(super) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("PREFECT__CONTROL_PORT", self.port.to_string()),
            ("PREFECT__CONTROL_TOKEN", self.token.clone()),
        ]
    }

    /// What there is to wait on.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = self.listener.iter().map(TcpListener::as_fd);
        let strangers = self
            .strangers
            .iter()
            .map(|(connection, _)| connection.stream.as_fd());
        let engine = self
            .engine
            .iter()
            .map(|connection| connection.stream.as_fd());
        listener.chain(strangers).chain(engine)
    }

    /// When [`Self::turn`] has something to do even if nothing is received.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.strangers.iter().map(|&(_, deadline)| deadline).min()
    }

    /// Takes in whatever has arrived; never waits.
    pub(super) fn turn(&mut self) {
        self.accept();
        self.hear_strangers();
        self.hear_engine();
    }

    /// Tells the engine what the next signal means. Whether it goes on its way: an engine that never connected, or has said how it
    /// ended, is told nothing.
    pub(super) fn send(&mut self, intent: Intent) -> bool {
        let byte = match intent {
            Intent::Cancel => b'c',
            Intent::Reschedule => b'r',
            Intent::Plain => return false,
        };
        if self.reported || self.intent != Delivery::None {
            return false;
        }
        let Some(engine) = &mut self.engine else {
            return false;
        };
        let sent = engine.stream.write_all(&[byte]).is_ok();
        self.intent = if sent {
            Delivery::Sent
        } else {
            Delivery::Failed
        };
        sent
    }

    /// Whether an intent that was sent may still be accepted.
    pub(super) fn is_waiting(&self) -> bool {
        self.intent == Delivery::Sent && self.engine.is_some() && !self.reported
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if self.strangers.len() == MAX_STRANGERS {
                        self.strangers.remove(0);
                    }
                    let connection = Connection {
                        stream,
                        decoder: Decoder::default(),
                    };
                    self.strangers
                        .push((connection, Instant::now() + TOKEN_WAIT));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Out of descriptors, say: without the listener the loop would spin on it.
                Err(_) => self.listener = None,
            }
        }
    }

    fn hear_strangers(&mut self) {
        let now = Instant::now();
        for (mut connection, deadline) in std::mem::take(&mut self.strangers) {
            let open = connection.receive();
            match connection.decoder.next_frame() {
                Ok(Some(Frame::Token(token))) if self.admits(&token) => {
                    self.engine = Some(connection);
                    self.listener = None;
                    self.strangers.clear();
                    return;
                }
                Ok(None) if open && now < deadline => self.strangers.push((connection, deadline)),
                _ => {}
            }
        }
    }

    /// Whether it is the token, which is good once: the listener goes with it.
    fn admits(&self, token: &[u8]) -> bool {
        self.engine.is_none() && token.trim_ascii() == self.token.as_bytes()
    }

    fn hear_engine(&mut self) {
        let Some(mut engine) = self.engine.take() else {
            return;
        };
        let open = engine.receive();
        loop {
            match engine.decoder.next_frame() {
                Ok(Some(frame)) => {
                    if !self.obey(&mut engine, &frame) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(frame::Malformed) => return,
            }
        }
        if open {
            self.engine = Some(engine);
        }
    }

    /// Acts on a frame; whether the session goes on.
    fn obey(&mut self, engine: &mut Connection, frame: &Frame) -> bool {
        match *frame {
            Frame::Token(_) => false,
            Frame::Hello {
                version,
                capabilities,
            } => {
                let answer = frame::answer(version, capabilities);
                self.receipts = answer[4] != 0;
                engine.stream.write_all(&answer).is_ok()
            }
            Frame::Accepted => {
                if self.intent == Delivery::Sent {
                    self.intent = Delivery::Accepted;
                }
                false
            }
            Frame::Receipt => {
                if self.receipts && self.intent != Delivery::Accepted {
                    self.reported = true;
                    // An engine that has gone already needs no answer.
                    drop(engine.stream.write_all(&[frame::RECEIPT_STORED]));
                }
                false
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Reads what there is; whether more may come.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 1024];
        // A peer that sends without end is cut off by the decoder's limits.
        for _ in 0..8 {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.decoder.push(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
