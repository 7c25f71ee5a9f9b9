//! The control session between a shim and an engine, with the test for an engine.

use std::{fs, path::PathBuf, time::Duration};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use worker_drivers::{
    Handle, Intent, LogCursor, Outcome, Program, StopRequest,
    conformance::{Behaviour, Scene},
};

use crate::subject::SubprocessSubject;

const BOUND: Duration = Duration::from_secs(30);

/// A job that says where its session is, and runs until it is stopped or a file `done` appears.
const ENGINE: &str = "sh -c 'trap \"exit 9\" TERM; echo $PREFECT__CONTROL_PORT $PREFECT__CONTROL_TOKEN; pwd; \
                      while ! [ -e done ]; do sleep 0.02; done; exit 7'";

struct Engine {
    handle: Handle,
    stream: TcpStream,
    directory: PathBuf,
}

impl Engine {
    /// Starts a job, and connects in its place.
    async fn start(scene: &Scene<'_>) -> Self {
        let mut job = scene.job(&Behaviour::Exit(0));
        job.program = Program::Command {
            line: ENGINE.to_owned(),
            engine: true,
        };
        let submitted = scene.submit(&scene.plan(&job)).await;
        let handle = submitted.expect("it starts").into_handle();
        let lines = scene
            .driver
            .logs(&handle, LogCursor::default())
            .take(2)
            .collect::<Vec<_>>();
        let lines = timeout(BOUND, lines).await.expect("it writes");
        let lines: Vec<_> = lines
            .into_iter()
            .map(|line| line.expect("it can be read").text)
            .collect();
        let (port, token) = lines[0].split_once(' ').expect("both are set");
        let port: u16 = port.parse().expect("it is a port");
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        stream
            .write_all(format!("{token}\n\0PF\u{2}\u{1}").as_bytes())
            .await
            .expect("it listens");
        let mut engine = Self {
            handle,
            stream,
            directory: PathBuf::from(&lines[1]),
        };
        assert_eq!(engine.receive(5).await, b"\0PF\x02\x01");
        engine
    }

    async fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(BOUND, self.stream.read_exact(&mut bytes))
            .await
            .expect("it answers")
            .expect("it is open");
        bytes
    }

    async fn stop(&self, scene: &Scene<'_>, intent: Intent) {
        let request = StopRequest {
            intent,
            grace: BOUND,
        };
        scene
            .driver
            .stop(&self.handle, request)
            .await
            .expect("it can be asked to stop");
    }
}

#[tokio::test]
async fn an_engine_that_reported_is_known_to_have() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let mut engine = Engine::start(&scene).await;
    let receipt = br#"{"disposition":"STATE_REPORTED","state_id":"x","state_name":"Failed","state_type":"FAILED"}"#;
    let length = u32::try_from(receipt.len())
        .expect("it is short")
        .to_be_bytes();
    engine
        .stream
        .write_all(&[&[1], &length[..], receipt].concat())
        .await
        .expect("it is open");
    assert_eq!(engine.receive(1).await, [2]);
    fs::write(engine.directory.join("done"), "").expect("there is room");
    let outcome = scene.ended(engine.handle.key).await;
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 7,
            reported: true
        }
    );
    scene.destroy(engine.handle.key).await;
}

#[tokio::test]
async fn an_engine_is_told_the_intent_before_the_signal() {
    let subject = SubprocessSubject::new();
    for (intent, byte) in [(Intent::Cancel, b'c'), (Intent::Reschedule, b'r')] {
        let mut scene = Scene::new(&subject).await;
        let mut engine = Engine::start(&scene).await;
        engine.stop(&scene, intent).await;
        assert_eq!(engine.receive(1).await, [byte]);
        engine.stream.write_all(b"a").await.expect("it is open");
        let outcome = scene.ended(engine.handle.key).await;
        assert_eq!(
            outcome,
            Outcome::Exited {
                code: 9,
                reported: false
            }
        );
        scene.destroy(engine.handle.key).await;
    }
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_stopped_all_the_same() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let mut engine = Engine::start(&scene).await;
    engine.stop(&scene, Intent::Cancel).await;
    assert_eq!(engine.receive(1).await, [b'c']);
    let outcome = scene.ended(engine.handle.key).await;
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 9,
            reported: false
        }
    );
    scene.destroy(engine.handle.key).await;
}

#[tokio::test]
async fn a_plain_stop_tells_an_engine_nothing() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let mut engine = Engine::start(&scene).await;
    engine.stop(&scene, Intent::Plain).await;
    scene.ended(engine.handle.key).await;
    let mut rest = Vec::new();
    // The session ends with its shim, in whatever way a connection ends.
    timeout(BOUND, engine.stream.read_to_end(&mut rest))
        .await
        .expect("it ends")
        .ok();
    assert_eq!(rest, b"");
    scene.destroy(engine.handle.key).await;
}
