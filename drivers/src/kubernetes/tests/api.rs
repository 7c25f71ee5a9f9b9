//! The API of a cluster that is nothing but what a test has it answer, and a driver that knows no other.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::kubernetes::{
    Access, KubernetesDriver, KubernetesOptions, KubernetesSettings, act::Place, state::JobSeen,
};

pub(in crate::kubernetes) const KEY: &str = "11111111-1111-4111-8111-111111111111.1";
pub(in crate::kubernetes) const JOB: &str = "/apis/batch/v1/namespaces/flows/jobs/a";
pub(in crate::kubernetes) const PODS: &str = "/api/v1/namespaces/flows/pods";

/// How long anything may take that takes no time.
const BOUND: Duration = Duration::from_secs(30);

pub(in crate::kubernetes) struct Api {
    pub(in crate::kubernetes) driver: KubernetesDriver,
    asked_rx: watch::Receiver<Vec<String>>,
    _folder: TempDir,
}

pub(in crate::kubernetes) struct Question {
    /// Its method and path.
    pub(in crate::kubernetes) what: String,
    /// How often it has come, this time included.
    pub(in crate::kubernetes) count: usize,
    pub(in crate::kubernetes) body: Value,
}

pub(in crate::kubernetes) enum Answer {
    /// A status and a body.
    Of(u16, String),
    Never,
}

// === impl Api ===

impl Api {
    /// `settings`: as the worker has them. It answers `/version` by itself.
    pub(in crate::kubernetes) async fn start(
        settings: KubernetesSettings,
        answer: impl Fn(&Question) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (asked_tx, asked_rx) = watch::channel(Vec::new());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked_tx) = (Arc::clone(&answer), asked_tx.clone());
                thread::spawn(move || serve(stream, &asked_tx, &*answer));
            }
        });
        let folder = TempDir::new().expect("there is room");
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "worker", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "worker", "namespace": "flows"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("there is room");
        let options = KubernetesOptions {
            settings,
            access: Access::Kubeconfig(vec![kubeconfig]),
            namespaces: Vec::new(),
            pod_events: false,
        };
        let driver = KubernetesDriver::connect(options).await;
        Self {
            driver: driver.expect("the kubeconfig is one"),
            asked_rx,
            _folder: folder,
        }
    }

    pub(in crate::kubernetes) fn count(&self, what: &str) -> usize {
        let asked = self.asked_rx.borrow();
        asked.iter().filter(|one| *one == what).count()
    }

    pub(in crate::kubernetes) async fn wait_until_asked(&self, what: &str) {
        let mut asked_rx = self.asked_rx.clone();
        let is_asked = asked_rx.wait_for(|asked| asked.iter().any(|one| one == what));
        let waited = tokio::time::timeout(BOUND, is_asked).await;
        assert!(
            waited.is_ok(),
            "{what} is not among {:?}",
            self.asked_rx.borrow()
        );
    }

    pub(in crate::kubernetes) fn place(&self, job: &JobSeen) -> Place {
        Place::of_job(&self.driver.shared.clusters.home(), job)
    }
}

// === functions ===

fn serve(
    stream: TcpStream,
    asked_tx: &watch::Sender<Vec<String>>,
    answer: &dyn Fn(&Question) -> Answer,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let what = format!("{method} {}", target.split('?').next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut count = 0;
    asked_tx.send_modify(|asked| {
        asked.push(what.clone());
        count = asked.iter().filter(|one| **one == what).count();
    });
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let answered = if what == "GET /version" {
        Answer::Of(200, version())
    } else {
        answer(&Question { what, count, body })
    };
    let Answer::Of(status, text) = answered else {
        // Until whoever asks has had enough.
        reader.read_line(&mut line).ok();
        return None;
    };
    let head = format!(
        "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let mut stream = reader.into_inner();
    stream.write_all((head + &text).as_bytes()).ok()
}

fn version() -> String {
    let names = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let version: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), "1".into()))
        .collect();
    Value::Object(version).to_string()
}

/// The Job `a`, made long ago.
pub(in crate::kubernetes) fn job(backoff_limit: u32, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": "a", "namespace": "flows", "uid": "job", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"prefect-worker.io/job": KEY},
            "annotations": {"prefect-worker.io/pod-watch-timeout-seconds": "60"},
        },
        "spec": {"backoffLimit": backoff_limit, "template": {}},
        "status": status,
    })
}

/// A pod of it, whose container is in this state.
pub(in crate::kubernetes) fn pod(name: &str, second: u32, phase: &str, state: &Value) -> Value {
    let main = json!({
        "name": "main", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "containerID": "containerd://8c9c",
    });
    let made = format!("2026-01-01T00:00:{second:02}Z");
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": made});
    json!({
        "metadata": {
            "name": name, "namespace": "flows", "uid": name, "creationTimestamp": made,
            "labels": {"prefect-worker.io/job": KEY},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "job"}],
        },
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": phase, "conditions": [scheduled], "containerStatuses": [main]},
    })
}

/// A pod that has ended with this code.
pub(in crate::kubernetes) fn ended_pod(name: &str, second: u32, code: i32) -> Value {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let state = json!({"terminated": {"exitCode": code, "reason": "Error"}});
    pod(name, second, phase, &state)
}

pub(in crate::kubernetes) fn ok(answer: &Value) -> Answer {
    Answer::Of(200, answer.to_string())
}

pub(in crate::kubernetes) fn listed(items: &[Value]) -> Answer {
    ok(&json!({"metadata": {}, "items": items}))
}

/// Nothing is there of that name.
pub(in crate::kubernetes) fn missing() -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "NotFound", "message": "not found", "code": 404,
    });
    Answer::Of(404, status.to_string())
}

pub(in crate::kubernetes) fn seen(job: &Value) -> JobSeen {
    JobSeen::of(&serde_json::from_value(job.clone()).expect("it is a Job")).expect("it is ours")
}
