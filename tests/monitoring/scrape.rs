//! A worker with work, and a Prometheus that watches it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use worker_tests::{
    files::root,
    http::Api,
    prefect::free_address,
    program::{Program, Running},
    wait,
};

use crate::{BOUND, PROGRAM, tool};

/// The worker's pool.
const POOL: &str = "demo";

/// A worker on an embedded API.
pub(crate) struct Watched {
    api: Api,
    status: Api,
    worker: Running,
    _server: Running,
    _homes: [Program; 2],
}

/// A Prometheus that scrapes every second and knows the alerts.
pub(crate) struct Prometheus {
    api: Api,
    process: Child,
    _directory: TempDir,
}

/// An alert that is not quiet.
#[derive(Debug)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) state: String,
}

// === impl Watched ===

impl Watched {
    pub(crate) fn start() -> Self {
        let home = Program::new(PROGRAM);
        let address = free_address().expect("loopback has a free port");
        let api = Api::at(address);
        let server = home.start(&["server", "--port", &address.port().to_string()]);
        wait::until("the embedded API answers", BOUND, || {
            match api.send("GET", "/health", None) {
                Ok(answer) if answer.status == 200 => Ok(()),
                _ => Err(server.stderr()),
            }
        });
        let program = Program::new(PROGRAM).with("PREFECT_API_URL", api.url());
        let status = free_address().expect("loopback has a free port");
        let port = status.port().to_string();
        let mut arguments = vec!["--pool", POOL, "--type", "process", "--limit", "4"];
        arguments.extend(["--with-healthcheck", "--status-port", &port]);
        let worker = program.start(&arguments);
        let status = Api::at_root_of(status);
        wait::until("the worker takes flow runs", BOUND, || {
            match status.send("GET", "/readyz", None) {
                Ok(answer) if answer.status == 200 => Ok(()),
                _ => Err(worker.stderr()),
            }
        });
        Self {
            api,
            status,
            worker,
            _server: server,
            _homes: [home, program],
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.status.address()
    }

    /// Runs a command to its end, which is to be in that state.
    pub(crate) fn run(&self, command: &str, state: &str) {
        let flow = self.api.post("/flows/", &json!({"name": command}));
        let deployment = self.api.post(
            "/deployments/",
            &json!({
                "name": command,
                "flow_id": flow["id"],
                "work_pool_name": POOL,
                "job_variables": {"command": command},
            }),
        );
        let path = format!("/deployments/{}/create_flow_run", text(&deployment["id"]));
        let id = text(&self.api.post(&path, &json!({}))["id"]);
        wait::until(&format!("the run is {state}"), BOUND, || {
            let run = self.api.get(&format!("/flow_runs/{id}"));
            match text(&run["state"]["name"]) {
                name if name == state => Ok(()),
                name => Err(format!("{name}; the worker says: {}", self.worker.stderr())),
            }
        });
    }

    /// What a scrape gets.
    pub(crate) fn numbers(&self) -> String {
        let answer = self.status.send("GET", "/metrics", None);
        text(&answer.expect("the worker answers").body)
    }

    /// The names of all that it exposes.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let numbers = self.numbers();
        let lines = numbers
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        lines
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }
}

// === impl Prometheus ===

impl Prometheus {
    pub(crate) fn scraping(target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [root().join("deploy/prometheus/alerts.yaml")],
            "scrape_configs": [{"job_name": "worker", "static_configs": [{"targets": [target.to_string()]}]}],
        });
        // JSON is YAML.
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).expect("it can be written");
        let address = free_address().expect("loopback has a free port");
        let process = Command::new(tool("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus can be started");
        let prometheus = Self {
            api: Api::at_root_of(address),
            process,
            _directory: directory,
        };
        wait::until("Prometheus scrapes", BOUND, || {
            match prometheus.api.send("GET", "/-/ready", None) {
                Ok(answer) if answer.status == 200 && prometheus.has_data("up == 1") => Ok(()),
                Ok(answer) => Err(answer.body.to_string()),
                Err(error) => Err(error.to_string()),
            }
        });
        prometheus
    }

    /// Whether a query has a number to show.
    pub(crate) fn has_data(&self, query: &str) -> bool {
        let path = format!("/api/v1/query?query={}", escaped(query));
        let Ok(answer) = self.api.send("GET", &path, None) else {
            return false;
        };
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let results = answer.body["data"]["result"].as_array().expect("a vector");
        results.iter().any(|result| {
            let value = result["value"][1]
                .as_str()
                .and_then(|value| value.parse::<f64>().ok());
            value.is_some_and(f64::is_finite)
        })
    }

    /// The alerts that are pending or firing.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let answer = self.api.get("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().expect("a list");
        alerts
            .iter()
            .map(|alert| Alert {
                name: text(&alert["labels"]["alertname"]),
                state: text(&alert["state"]),
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

// === functions ===

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A text as a part of a query string.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
