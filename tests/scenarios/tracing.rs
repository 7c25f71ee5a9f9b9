//! Traces of flow runs, as a collector gets them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use worker_tests::wait;

use crate::{
    scene::{self, BOUND, Scene, lines_of, script, wait_for_status},
    stage::POOL,
};

/// The label by which Prefect's engine finds the span that a flow run is part of.
const LABEL: &str = "__OTEL_TRACEPARENT";

/// A collector on loopback.
struct Collector {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
}

/// One request to it.
#[derive(Clone)]
struct Post {
    head: String,
    body: Vec<u8>,
}

/// What a span says.
#[derive(Clone, Debug, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    begun: u64,
    ended: u64,
    attributes: Vec<(String, String)>,
    status: u64,
}

// === impl Collector ===

impl Collector {
    /// One that answers each request with the same status.
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let posts: Arc<Mutex<Vec<Post>>> = Arc::default();
        let kept = Arc::clone(&posts);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(post) = take(stream, status) {
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(post);
                }
            }
        });
        Self { address, posts }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn posts(&self) -> Vec<Post> {
        self.posts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn spans(&self) -> Vec<Span> {
        let posts = self.posts();
        posts.iter().flat_map(|post| spans(&post.body)).collect()
    }

    /// Waits until a trace has its root, and gives all of it.
    #[track_caller]
    fn trace_of(&self, run: &str) -> Vec<Span> {
        wait::until("the trace is there", BOUND, || {
            let spans = self.spans();
            let root = spans.iter().find(|span| {
                let named = ("prefect.flow-run.id".to_owned(), run.to_owned());
                span.attributes.contains(&named)
            });
            let Some(root) = root else {
                return Err(format!("{spans:?}"));
            };
            let trace = root.trace.clone();
            Ok(spans
                .into_iter()
                .filter(|span| span.trace == trace)
                .collect())
        })
    }
}

#[test]
fn a_run_is_one_trace_from_its_claim_to_its_report_and_its_job_knows_it() {
    let scene = Scene::set();
    let collector = Collector::start("200 OK");
    let directory = scene.directory("jobs");
    let seen = directory.join("seen");
    let lines = format!("echo \"$TRACEPARENT\" > {}; exit 3", seen.display());
    let command = script(&directory, "look.sh", &lines);
    let steps =
        json!([{"prefect.deployments.steps.set_working_directory": {"directory": directory}}]);
    let fields = json!({"job_variables": {"command": command}, "pull_steps": steps});
    let run = scene.run(&scene.deploy("traced", &fields));
    let program = scene
        .worker()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=canary%20seven")
        .with("OTEL_SERVICE_NAME", "flows");
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Crashed", &worker);
    let spans = collector.trace_of(&run);

    let root = find(&spans, "flow run");
    assert_eq!(root.trace, run.replace('-', ""));
    assert_eq!((root.parent.as_str(), root.status), ("", 2));
    let said = ("worker.end".to_owned(), "exit code 3".to_owned());
    assert!(root.attributes.contains(&said), "{root:?}");
    for name in ["claim", "prepare", "submit", "run", "report"] {
        let span = find(&spans, name);
        assert_eq!(span.parent, root.id, "{span:?}");
        assert!(
            root.begun <= span.begun && span.begun <= span.ended && span.ended <= root.ended,
            "{span:?} in {root:?}"
        );
    }
    assert_eq!(find(&spans, "pull").parent, find(&spans, "prepare").id);

    let parent = format!("00-{}-{}-01", root.trace, root.id);
    assert_eq!(lines_of(&seen), [parent.as_str()]);
    let labels = &scene.api().get(&format!("/flow_runs/{run}"))["labels"];
    assert_eq!(labels[LABEL], parent);
    let post = &collector.posts()[0];
    let head = post.head.to_ascii_lowercase();
    for said in [
        "post /v1/traces http/1.1",
        "content-type: application/x-protobuf",
        "x-tenant: canary seven",
    ] {
        assert!(head.contains(said), "no {said} in {head}");
    }
    assert!(!head.contains("authorization"), "{head}");
    let body = String::from_utf8_lossy(&post.body);
    assert!(body.contains("service.name") && body.contains("flows"));
}

#[test]
fn a_run_that_is_part_of_a_trace_stays_part_of_it() {
    let scene = Scene::set();
    let collector = Collector::start("200 OK");
    let run = scene.run(&scene.deploy_command("true"));
    let parent = json!({LABEL: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
    scene
        .api()
        .patch(&format!("/flow_runs/{run}/labels"), &parent);
    let program = scene.worker().with(
        "WORKER_TRACES_ENDPOINT",
        format!("{}/v1/traces", collector.url()),
    );
    let worker = program.start(&["--pool", POOL]);
    scene.wait_for(&run, "Completed", &worker);
    let spans = collector.trace_of(&run);
    let root = find(&spans, "flow run");
    assert_eq!(root.trace, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((root.parent.as_str(), root.status), ("b7ad6b7169203331", 1));
}

#[test]
fn a_collector_that_refuses_costs_no_run_anything_and_without_one_nothing_is_added() {
    let scene = Scene::set();
    let collector = Collector::start("400 Bad Request");
    let deployment = scene.deploy_command("true");
    let program = scene
        .worker()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let arguments = ["--pool", POOL, "--with-healthcheck", "--status-port", "0"];
    let worker = program.start(&arguments);
    let runs = scene.runs(5, &deployment);
    scene.wait_for_all(&runs, "Completed", &worker);
    wait::until("the loss is told", BOUND, || {
        let said = worker.stderr();
        if said.contains("traces cannot be sent") {
            Ok(())
        } else {
            Err(said)
        }
    });
    let metrics = scene::text(&wait_for_status(&worker).get("/metrics"));
    let lost = metrics
        .lines()
        .find(|line| line.starts_with("worker_trace_spans_lost_total{"));
    assert!(lost.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    drop(worker);
    let program = scene.worker();
    let worker = program.start(&["--pool", POOL]);
    let run = scene.run(&deployment);
    scene.wait_for(&run, "Completed", &worker);
    let flow_run = scene.api().get(&format!("/flow_runs/{run}"));
    assert!(flow_run["labels"].get(LABEL).is_none(), "{flow_run}");
}

// === functions ===

#[track_caller]
fn find(spans: &[Span], name: &str) -> Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(span), None) => span.clone(),
        _ => panic!("not one {name} in {spans:?}"),
    }
}

/// Reads one request, and answers it.
fn take(mut stream: TcpStream, status: &str) -> Option<Post> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            length => read.extend_from_slice(&buffer[..length]),
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())?;
    let mut body = read.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => body.extend_from_slice(&buffer[..count]),
        }
    }
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    Some(Post { head, body })
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for of_resource in messages(request, 1) {
        for of_scope in messages(&of_resource, 2) {
            found.extend(messages(&of_scope, 2).iter().map(|bytes| span(bytes)));
        }
    }
    found
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    for (field, value) in fields(bytes) {
        match (field, value) {
            (1, Field::Bytes(id)) => span.trace = hex(&id),
            (2, Field::Bytes(id)) => span.id = hex(&id),
            (4, Field::Bytes(id)) => span.parent = hex(&id),
            (5, Field::Bytes(name)) => span.name = text(&name),
            (7, Field::Number(time)) => span.begun = time,
            (8, Field::Number(time)) => span.ended = time,
            (9, Field::Bytes(pair)) => {
                let name = messages(&pair, 1).concat();
                let value = messages(&messages(&pair, 2).concat(), 1).concat();
                span.attributes.push((text(&name), text(&value)));
            }
            (15, Field::Bytes(status)) => {
                let code = fields(&status).into_iter().find(|(field, _)| *field == 3);
                if let Some((_, Field::Number(code))) = code {
                    span.status = code;
                }
            }
            _ => {}
        }
    }
    span
}

/// A field of a message in protobuf's encoding.
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn messages(bytes: &[u8], wanted: u64) -> Vec<Vec<u8>> {
    let found = fields(bytes).into_iter();
    found
        .filter_map(|(field, value)| match value {
            Field::Bytes(bytes) if field == wanted => Some(bytes),
            _ => None,
        })
        .collect()
}

fn fields(bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut rest)),
            1 => {
                let (number, after) = rest.split_at(8);
                rest = after;
                Field::Number(u64::from_le_bytes(number.try_into().expect("eight bytes")))
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)).expect("it is short");
                let (value, after) = rest.split_at(length);
                rest = after;
                Field::Bytes(value.to_vec())
            }
            kind => panic!("a field of kind {kind}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, after) = rest.split_first().expect("a number has an end");
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
