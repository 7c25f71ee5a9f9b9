//! A worker that is killed at every request to the API server, on its way out and on its way back: the next one finishes, and there is one Job.

use std::{collections::HashSet, fs, thread};

use serde_json::json;
use worker_tests::{
    gate::{Gate, Rules},
    program::Program,
    wait,
};

use crate::stage::{BOUND, POOL, Stage};

/// How many points there are at least where the worker reads: its Job, its pods and their output have two each, though not in the same order each time.
const READS: usize = 4;

/// How many points are played at the same time.
const TOGETHER: usize = 4;

/// What came of a worker that was to die at a point.
enum Fate {
    /// It died there; what it was about to do.
    Died(String),
    /// It was finished before it came to it.
    Finished,
}

/// What the worker asks for when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// In the life of a run that completes.
    Changes,
    Reads,
    /// While it ends a run that was cancelled.
    Deletions,
}

/// Requests about Jobs, pods and Secrets. All of a worker's are about its one flow run.
struct Steps {
    asks: Asks,
    /// What was asked before: it is asked again until it is as it should be.
    known: HashSet<String>,
}

#[test]
fn a_worker_killed_at_any_change_leaves_one_job_that_runs_once() {
    let deaths = play_all(Asks::Changes);
    for step in ["POST secrets", "POST jobs", "PATCH secrets", "DELETE jobs"] {
        for way in ["before", "after"] {
            let there = |at: &String| *at == format!("{way} {step}");
            assert!(deaths.iter().any(there), "never {way} {step}: {deaths:#?}");
        }
    }
}

#[test]
fn a_worker_killed_while_it_looks_leaves_one_job_that_runs_once() {
    let deaths = play_all(Asks::Reads);
    assert!(deaths.len() >= READS, "{deaths:#?}");
}

#[test]
fn a_worker_killed_while_it_ends_a_job_leaves_nothing_that_runs() {
    let deaths = play_all(Asks::Deletions);
    for step in ["DELETE jobs", "DELETE pods"] {
        for way in ["before", "after"] {
            let there = |at: &String| *at == format!("{way} {step}");
            assert!(deaths.iter().any(there), "never {way} {step}: {deaths:#?}");
        }
    }
}

/// Plays every point there is; what workers were about to do when they died.
fn play_all(asks: Asks) -> Vec<String> {
    let mut deaths = Vec::new();
    for first in (0..).step_by(TOGETHER) {
        let fates: Vec<Fate> = thread::scope(|scope| {
            let plays =
                (first..first + TOGETHER).map(|point| scope.spawn(move || play(asks, point)));
            let plays: Vec<_> = plays.collect();
            let ends = plays.into_iter().map(thread::ScopedJoinHandle::join);
            ends.map(|end| end.expect("the reason is above")).collect()
        });
        let before = deaths.len();
        deaths.extend(fates.into_iter().filter_map(|fate| match fate {
            Fate::Died(at) => Some(at),
            Fate::Finished => None,
        }));
        if deaths.len() < before + TOGETHER {
            break;
        }
    }
    deaths
}

/// One flow run, one worker that dies at a point, one that follows it.
fn play(asks: Asks, point: usize) -> Fate {
    let stage = Stage::set();
    let (command, end) = match asks {
        Asks::Changes | Asks::Reads => ("sh -c 'echo it ran; sleep 1'", "Completed"),
        Asks::Deletions => ("sleep 600", "Cancelled"),
    };
    let run = stage.run(command, &json!({}));
    let records = ["jobs", "pods", "secrets"].map(|kind| (kind, stage.cluster.record(kind, &run)));
    let steps = Steps {
        asks,
        known: HashSet::new(),
    };
    let (gate, address) = Gate::before_address(stage.cluster.address(), point, steps);
    let worker = stage.worker().with("PREFECT_API_KEY", "canary-key");
    let kubeconfig = write_kubeconfig(&worker, &format!("http://{address}"));
    let worker = worker.with("KUBECONFIG", kubeconfig);
    let first = worker.start(&["--pool", POOL, "--name", "ada"]);
    gate.aim(first.pid());
    if asks == Asks::Deletions {
        stage.wait_for_pod(&run, &first);
        stage.cancel(&run);
    }
    let is_done = || stage.state(&run).0 == end && stage.cluster.left_of(&run).is_empty();
    let fate = wait::until("it dies or finishes", BOUND, || {
        if let Some(at) = gate.died_at() {
            return Ok(Fate::Died(at));
        }
        if is_done() {
            return Ok(Fate::Finished);
        }
        Err(first.stderr())
    });
    if let Fate::Died(at) = &fate {
        first.finish();
        let second = worker.start(&["--pool", POOL, "--name", "ada"]);
        let (ended, message) = stage.wait_for_end(&run, &second);
        assert_eq!(ended, end, "killed {at}: {message}");
        let nothing_left = || stage.cluster.left_of(&run).is_empty();
        assert!(
            wait::holds(BOUND, nothing_left),
            "killed {at}: {:?} is left",
            stage.cluster.left_of(&run)
        );
    }
    for (kind, record) in &records {
        // Nobody was killed so often that a Secret had to be made anew.
        let made = wait::holds(BOUND, || record.count() >= 1);
        assert!(made, "the cluster tells of no {kind}");
        assert_eq!(record.count(), 1, "{kind} for one flow run");
    }
    fate
}

/// How a worker finds what listens at a URL in the place of a cluster.
fn write_kubeconfig(worker: &Program, url: &str) -> String {
    let path = worker.directory("cluster").join("kubeconfig");
    let named = |name: &str, what: serde_json::Value| json!([{"name": "gate", name: what}]);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gate",
        "clusters": named("cluster", json!({"server": url})),
        "contexts": named("context", json!({"cluster": "gate", "user": "gate"})),
        "users": named("user", json!({})),
    });
    fs::write(&path, kubeconfig.to_string()).expect("there is room");
    path.display().to_string()
}

// === impl Steps ===

impl Rules for Steps {
    fn find_request(&mut self, piece: &str) -> Option<String> {
        let line = piece.lines().next()?;
        let request = line.strip_suffix(" HTTP/1.1")?;
        let (method, path) = request.split_once(' ')?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (_, what) = path.split_once("/namespaces/")?;
        let mut parts = what.split('/').skip(1);
        let (kind, name, of_it) = (parts.next()?, parts.next(), parts.next());
        let name = match (method, kind, name, of_it) {
            ("GET", _, Some(_), of_it) => {
                format!("GET one of {kind} {}", of_it.unwrap_or_default())
            }
            // What belongs to all flow runs, such as a watch, is asked by their owner.
            ("GET", ..) if !query.contains("worker.io%2Fjob") => return None,
            _ => format!("{method} {kind}"),
        };
        let is_asked = match self.asks {
            Asks::Changes => method != "GET",
            Asks::Reads => method == "GET",
            Asks::Deletions => method == "DELETE",
        };
        (is_asked && self.known.insert(name.clone())).then_some(name)
    }
}
