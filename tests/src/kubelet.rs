//! A kubelet that runs nothing: it plays the pods of one namespace as their commands or a test say, through the API of a cluster without nodes.
//!
//! It shows how we read the API, not what a kubelet does. What a pod's container would run says how it begins, as words of [`Step::read`]; with no
//! such word it starts and ends well. What follows is for the test to order.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{http::Api, wait};

pub use self::step::Step;

mod logs;
mod step;

/// A kubelet, for as long as its process lives.
#[derive(Debug)]
pub struct Kubelet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    namespace: String,
    node: String,
    /// By their names, which no other has after them.
    pods: Mutex<HashMap<String, Played>>,
    /// For which flow runs there were pods, and how many.
    met: Mutex<HashMap<String, usize>>,
}

/// A pod that is played.
#[derive(Debug)]
struct Played {
    /// As it was seen last.
    pod: Value,
    has_begun: bool,
    has_ended: bool,
    leaves: bool,
}

/// What there is to do about a pod.
enum Task {
    Begin(String),
    End(String),
}

/// How many pods are dealt with at the same time.
const HANDS: usize = 4;

/// How many may wait for that. More wait in the watch.
const QUEUE: usize = 1000;

/// How long it may take until a pod is there that a test wants to play. A loaded machine needs most.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long to wait before a cluster that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(300);

/// The label of a pod that says for which flow run it is.
const FLOW_RUN: &str = "prefect.io/flow-run-id";

// === impl Kubelet ===

impl Kubelet {
    /// Plays the pods of a namespace. `api`: of the cluster, as somebody who may do everything. `folder`: with the certificate by which the
    /// cluster knows its nodes, as `tests/kubernetes/cluster` makes it.
    ///
    /// # Errors
    /// When it cannot serve what pods write.
    pub fn start(api: Api, namespace: &str, folder: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            api,
            namespace: namespace.to_owned(),
            node: format!("node-of-{namespace}"),
            pods: Mutex::default(),
            met: Mutex::default(),
        });
        let port = logs::serve(folder, Arc::clone(&shared))?;
        shared.join(port);
        let (tasks_tx, tasks_rx) = sync_channel(QUEUE);
        let tasks_rx = Arc::new(Mutex::new(tasks_rx));
        for _ in 0..HANDS {
            let (shared, tasks_rx) = (Arc::clone(&shared), Arc::clone(&tasks_rx));
            thread::spawn(move || shared.work(&tasks_rx));
        }
        let watching = Arc::clone(&shared);
        thread::spawn(move || {
            loop {
                // A watch ends, or its cluster does. The next begins with all there is.
                watching.watch(&tasks_tx).ok();
                wait::holds(AGAIN, || false);
            }
        });
        Ok(Self { shared })
    }

    /// Has the pod of a flow run come to this.
    ///
    /// # Panics
    /// When it has none, and none comes.
    #[track_caller]
    pub fn play(&self, run: &str, step: &Step) {
        let find = || {
            let pods = self.shared.lock();
            let of_run = |pod: &Value| pod["metadata"]["labels"][FLOW_RUN] == run;
            let mut found = pods.iter();
            let found = found.find(|(_, one)| of_run(&one.pod) && one.has_begun && !one.leaves);
            found.map(|(name, _)| name.clone()).ok_or("it has none")
        };
        let name = wait::until("a pod can be played", PATIENCE, find);
        self.shared.play(&name, step);
    }

    /// Has all pods come to this that have begun and not ended. How many there are.
    pub fn play_all(&self, step: &Step) -> usize {
        self.play_some(usize::MAX, step)
    }

    /// The same of so many at the most.
    pub fn play_some(&self, most: usize, step: &Step) -> usize {
        let pods = self.shared.lock();
        let open = pods
            .iter()
            .filter(|(_, one)| one.has_begun && !one.has_ended && !one.leaves);
        let open = open.map(|(name, _)| name.clone()).take(most);
        let open: Vec<String> = open.collect();
        drop(pods);
        thread::scope(|scope| {
            for part in open.chunks(open.len().div_ceil(HANDS).max(1)) {
                scope.spawn(move || part.iter().for_each(|name| self.shared.play(name, step)));
            }
        });
        open.len()
    }

    /// How many pods there ever were for a flow run.
    pub fn pods_of(&self, run: &str) -> usize {
        let met = self.shared.met.lock();
        let met = met.unwrap_or_else(PoisonError::into_inner);
        met.get(run).copied().unwrap_or_default()
    }

    /// How many pods have begun, and of them have ended.
    pub fn counts(&self) -> (usize, usize) {
        let pods = self.shared.lock();
        let begun = pods.values().filter(|one| one.has_begun);
        let ended = begun.clone().filter(|one| one.has_ended);
        (begun.count(), ended.count())
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Played>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, pod: &Value, below: &str) -> String {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        format!("/api/v1/namespaces/{}/pods/{name}{below}", self.namespace)
    }

    /// Asks until the cluster answers. What it refuses is gone, or not as it was.
    fn ask(&self, method: &str, path: &str, body: &Value) -> bool {
        let mut answer = Err(io::ErrorKind::NotConnected.into());
        wait::holds(PATIENCE, || {
            answer = self.api.send(method, path, Some(body));
            answer.as_ref().is_ok_and(|answer| answer.status < 500)
        });
        answer.is_ok_and(|answer| answer.status < 300)
    }

    /// Makes the node, which says where pods' output is.
    fn join(&self, port: u16) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}});
        self.ask(
            "DELETE",
            &format!("/api/v1/nodes/{}", self.node),
            &json!({}),
        );
        self.ask("POST", "/api/v1/nodes", &node);
        let mut node = node;
        node["status"] = json!({
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        });
        let path = format!("/api/v1/nodes/{}/status", self.node);
        assert!(self.ask("PUT", &path, &node), "the node cannot be made");
    }

    fn watch(&self, tasks_tx: &SyncSender<Task>) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.api.address())?;
        // From no version on: it begins with all there is. This version of HTTP has no pieces.
        let path = format!("/api/v1/namespaces/{}/pods?watch=1", self.namespace);
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        for line in lines {
            let mut event: Value = serde_json::from_str(&line?)?;
            let pod = event["object"].take();
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => self.see(pod, tasks_tx),
                Some("DELETED") => {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    self.lock().remove(name);
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn see(&self, pod: Value, tasks_tx: &SyncSender<Task>) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.to_owned();
        let leaves = !pod["metadata"]["deletionTimestamp"].is_null();
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let has_ended = matches!(phase, "Succeeded" | "Failed");
        let mut pods = self.lock();
        let is_new = !pods.contains_key(&name);
        let played = pods.entry(name.clone()).or_insert(Played {
            pod: Value::Null,
            has_begun: false,
            has_ended: false,
            leaves: false,
        });
        played.pod = pod;
        played.has_ended |= has_ended;
        let leaves_now = leaves && !std::mem::replace(&mut played.leaves, leaves);
        drop(pods);
        if is_new {
            self.meet(&name);
        }
        // Who listens lives as long as we do.
        if leaves_now {
            tasks_tx.send(Task::End(name)).ok();
        } else if is_new && !has_ended {
            tasks_tx.send(Task::Begin(name)).ok();
        }
    }

    fn meet(&self, name: &str) {
        let run = self.find(name).unwrap_or_default();
        let run = run["metadata"]["labels"][FLOW_RUN]
            .as_str()
            .unwrap_or_default();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        *met.entry(run.to_owned()).or_default() += 1;
    }

    fn work(&self, tasks_rx: &Mutex<Receiver<Task>>) {
        loop {
            let task = tasks_rx
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            match task {
                Ok(Task::Begin(name)) => self.begin(&name),
                Ok(Task::End(name)) => self.end(&name),
                Err(_) => return,
            }
        }
    }

    fn find(&self, name: &str) -> Option<Value> {
        self.lock().get(name).map(|played| played.pod.clone())
    }

    fn begin(&self, name: &str) {
        let Some(pod) = self.find(name) else { return };
        let steps = Step::read(&pod);
        if !steps.iter().any(Step::is_unplaced) {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"kind": "Node", "name": self.node},
            });
            self.ask("POST", &self.path(&pod, "/binding"), &binding);
        }
        for step in &steps {
            self.play(name, step);
        }
        if let Some(played) = self.lock().get_mut(name) {
            played.has_begun = true;
        }
    }

    /// What was asked to go does at once.
    fn end(&self, name: &str) {
        let Some(pod) = self.find(name) else { return };
        let runs = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
        if runs {
            self.play(name, &Step::Exit(143));
        }
        let last = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]},
        });
        self.ask("DELETE", &self.path(&pod, ""), &last);
    }

    fn play(&self, name: &str, step: &Step) {
        let Some(mut pod) = self.find(name) else {
            return;
        };
        pod["status"] = step.status(&pod);
        // As it is now, whatever was changed meanwhile.
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let path = self.path(&pod, "/status");
        if !self.ask("PUT", &path, &pod) {
            return;
        }
        if let Some(played) = self.lock().get_mut(name) {
            played.pod["status"] = pod["status"].take();
            played.has_ended |= step.is_end();
        }
    }

    /// What a pod has written, and whether more may come.
    fn output(&self, name: &str) -> (String, bool) {
        let pods = self.lock();
        let Some(played) = pods.get(name) else {
            return (String::new(), false);
        };
        let mut text = String::new();
        if !played.pod["spec"]["nodeName"].is_null() {
            // Writing to a text cannot fail.
            writeln!(text, "{name} is played").ok();
        }
        (text, !played.has_ended)
    }
}
