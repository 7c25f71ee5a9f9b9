//! The cluster's API without its certificates, by `kubectl proxy`: tests look often, and each `kubectl` would cost as much as a pod.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::Value;
use worker_tests::http::Api;

use crate::stage::{NAMESPACE, command, text};

/// A way to the cluster's API, which ends with the test.
pub(crate) struct ClusterApi {
    proxy: Child,
    address: SocketAddr,
}

/// What the cluster tells of objects of one kind, from a moment on.
pub(crate) struct Record(Arc<Mutex<BTreeSet<String>>>);

// === impl ClusterApi ===

impl ClusterApi {
    pub(crate) fn open() -> Self {
        let mut proxy = command(NAMESPACE, &["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command line of Kubernetes is installed");
        let mut said = String::new();
        let output = proxy.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut said);
        read.expect("it says where it listens");
        let address = said.trim().rsplit(' ').next().unwrap_or_default();
        let address = address.parse();
        let address = address.unwrap_or_else(|_| panic!("no address in {said:?}"));
        Self { proxy, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn api(&self) -> Api {
        Api::at_root_of(self.address)
    }

    /// What there is of this kind that belongs to a flow run.
    pub(crate) fn of_run(&self, kind: &str, run: &str) -> Vec<Value> {
        let listed = self.api().get(&path(NAMESPACE, kind, run));
        listed["items"].as_array().cloned().unwrap_or_default()
    }

    /// The names of all that is left of a flow run.
    pub(crate) fn left_of(&self, run: &str) -> Vec<String> {
        let kinds = ["jobs", "pods", "secrets"].iter();
        let all = kinds.flat_map(|kind| self.of_run(kind, run));
        all.map(|one| text(&one["metadata"]["name"])).collect()
    }

    /// The second part of the cluster's version.
    pub(crate) fn minor_version(&self) -> u32 {
        let minor = text(&self.api().get("/version")["minor"]);
        let digits = minor.trim_end_matches(|one: char| !one.is_ascii_digit());
        digits.parse().expect("a cluster has a version")
    }

    /// Begins to record which objects of a kind the cluster has for a flow run.
    pub(crate) fn record(&self, kind: &str, run: &str) -> Record {
        let uids = Arc::new(Mutex::new(BTreeSet::new()));
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let path = path(NAMESPACE, kind, run);
        write!(
            stream,
            "GET {path}&watch=true HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.address
        )
        .expect("it listens");
        let seen = Arc::clone(&uids);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // Before the first object come the lines of the answer's head.
                let Ok(told) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let uid = text(&told["object"]["metadata"]["uid"]);
                if !uid.is_empty() {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(uid);
                }
            }
        });
        Record(uids)
    }
}

impl Drop for ClusterApi {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.proxy.kill().ok();
        self.proxy.wait().ok();
    }
}

// === impl Record ===

impl Record {
    /// How many objects there ever were.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

// === functions ===

fn path(namespace: &str, kind: &str, run: &str) -> String {
    let group = if kind == "jobs" { "apis/batch" } else { "api" };
    // Ours are known by the attempt as well, which the Secret of a Job has for a label.
    let label = if kind == "secrets" {
        format!("prefect-worker.io%2Fjob%3D{run}.1")
    } else {
        format!("prefect.io%2Fflow-run-id%3D{run}")
    };
    format!("/{group}/v1/namespaces/{namespace}/{kind}?labelSelector={label}")
}
