//! The session with a real socket: the test is the engine.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{MAX_STRANGERS, Session};
use crate::job::Intent;

struct Engine {
    stream: TcpStream,
}

impl Engine {
    fn connect(session: &Session) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", session.port)).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("it is open");
        Self { stream }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it is open");
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("it answers");
        bytes
    }

    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Lets the session take turns until something is so.
fn until(session: &mut Session, what: &str, so: impl Fn(&Session) -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !so(session) {
        assert!(Instant::now() < limit, "{what} did not happen");
        session.turn();
        std::thread::yield_now();
    }
}

fn connected() -> (Session, Engine) {
    let mut session = Session::open().expect("there is a port");
    let mut engine = Engine::connect(&session);
    let token = format!("{}\n", session.token);
    engine.send(token.as_bytes());
    until(&mut session, "the connection", |session| {
        session.engine.is_some()
    });
    (session, engine)
}

fn receipt() -> Vec<u8> {
    let json = br#"{"disposition":"ORCHESTRATION_ABORTED"}"#;
    [&[1, 0, 0, 0, 39], json.as_slice()].concat()
}

#[test]
fn a_receipt_is_stored_and_answered() {
    let (mut session, mut engine) = connected();
    engine.send(b"\0PF\x02\x01");
    until(&mut session, "the hello", |session| session.receipts);
    assert_eq!(engine.receive(5), b"\0PF\x02\x01");
    engine.send(&receipt());
    until(&mut session, "the receipt", |session| session.reported);
    assert_eq!(engine.receive(1), [2]);
    assert!(!session.send(Intent::Cancel), "it has concluded");
}

#[test]
fn a_receipt_that_was_not_agreed_on_is_none() {
    let (mut session, mut engine) = connected();
    engine.send(&receipt());
    until(&mut session, "the end", |session| session.engine.is_none());
    assert!(!session.reported);
    assert!(engine.is_closed());
}

#[test]
fn an_intent_is_sent_once_and_accepted() {
    for (intent, byte) in [(Intent::Cancel, b'c'), (Intent::Reschedule, b'r')] {
        let (mut session, mut engine) = connected();
        assert!(session.send(intent));
        assert!(session.is_waiting());
        assert!(!session.send(Intent::Reschedule), "there is at most one");
        assert_eq!(engine.receive(1), [byte]);
        engine.send(b"a");
        until(&mut session, "the answer", |session| !session.is_waiting());
    }
}

#[test]
fn a_receipt_that_crosses_an_intent_counts() {
    let (mut session, mut engine) = connected();
    engine.send(b"\0PF\x02\x01");
    until(&mut session, "the hello", |session| session.receipts);
    assert!(session.send(Intent::Cancel));
    engine.send(&receipt());
    until(&mut session, "the receipt", |session| session.reported);
    assert!(!session.is_waiting());
}

#[test]
fn an_engine_that_is_not_there_is_told_nothing() {
    let mut session = Session::open().expect("there is a port");
    assert!(!session.send(Intent::Cancel));
    let (mut session, engine) = connected();
    drop(engine);
    until(&mut session, "the end", |session| session.engine.is_none());
    assert!(!session.send(Intent::Cancel));
}

#[test]
fn a_token_is_good_once_and_others_never() {
    let mut session = Session::open().expect("there is a port");
    let mut stranger = Engine::connect(&session);
    stranger.send(b"00000000000000000000000000000000\n");
    stranger.stream.set_nonblocking(true).expect("it is open");
    let limit = Instant::now() + Duration::from_secs(10);
    while !stranger.is_closed() {
        assert!(Instant::now() < limit, "it was let in");
        session.turn();
    }
    assert!(session.engine.is_none());
    let (session, _engine) = connected();
    assert!(session.listener.is_none());
    TcpStream::connect(("127.0.0.1", session.port)).expect_err("nobody listens any more");
}

#[test]
fn strangers_are_few_and_do_not_keep_the_engine_out() {
    let mut session = Session::open().expect("there is a port");
    let silent: Vec<_> = (0..3 * MAX_STRANGERS)
        .map(|_| Engine::connect(&session))
        .collect();
    until(&mut session, "strangers", |session| {
        session.strangers.len() == MAX_STRANGERS
    });
    assert!(session.deadline().is_some());
    let mut engine = Engine::connect(&session);
    let token = format!("{}\n", session.token);
    engine.send(token.as_bytes());
    until(&mut session, "the connection", |session| {
        session.engine.is_some()
    });
    assert_eq!(session.strangers.len(), 0);
    drop(silent);
}
