//! An API in the test's own process with a Docker pool, a worker for it, and the engine as somebody else sees it.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use worker_server::{Server, ServerOptions};
use worker_tests::{
    http::Api,
    program::{Program, Running},
    wait,
};

use crate::PROGRAM;

/// How long anything may take that a loaded machine does in a second.
pub(crate) const BOUND: Duration = Duration::from_secs(40);

/// How soon a run page has to say what has happened.
pub(crate) const WITHIN: Duration = Duration::from_secs(15);

/// Jobs of these tests run in this image: a shell and what belongs to it.
pub(crate) const IMAGE: &str = "worker-test/busybox:1";

pub(crate) const POOL: &str = "docker-pool";

/// The API and what is in it.
pub(crate) struct Stage {
    server: Server,
    _runtime: Runtime,
}

/// How many deployments there are.
static DEPLOYMENTS: AtomicUsize = AtomicUsize::new(0);

/// The states that end a flow run.
const FINAL: [&str; 4] = ["Completed", "Failed", "Cancelled", "Crashed"];

// === impl Stage ===

impl Stage {
    pub(crate) fn set() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let server = runtime
            .block_on(Server::start(ServerOptions::default()))
            .expect("an API can be started on loopback");
        let stage = Self {
            server,
            _runtime: runtime,
        };
        create_pool(&stage.api(), POOL, &json!({}));
        stage
    }

    pub(crate) fn api(&self) -> Api {
        Api::at(self.server.address())
    }

    pub(crate) fn worker(&self) -> Program {
        worker(&self.api()).with("WORKER_STOP_GRACE", "2")
    }

    /// Makes a flow run of a command in a container, with these job variables; its id.
    pub(crate) fn run(&self, command: &str, more: &Value) -> String {
        self.run_with(command, more, &json!({}))
    }

    /// The same, of a deployment with these fields.
    pub(crate) fn run_with(&self, command: &str, more: &Value, fields: &Value) -> String {
        let mut variables = json!({
            "command": command,
            "image": IMAGE,
            "image_pull_policy": "Never",
            "network_mode": "none",
            "container_create_kwargs": {"init": true},
        });
        let all = variables.as_object_mut().expect("it is written above");
        all.extend(more.as_object().cloned().unwrap_or_default());
        let mut deployment = json!({"job_variables": variables});
        let all = deployment.as_object_mut().expect("it is written above");
        all.extend(fields.as_object().cloned().unwrap_or_default());
        run(&self.api(), &deployment)
    }

    /// The state a flow run is in: its name and its message.
    pub(crate) fn state(&self, run: &str) -> (String, String) {
        let state = &self.api().get(&format!("/flow_runs/{run}"))["state"];
        (text(&state["name"]), text(&state["message"]))
    }

    /// Waits until a flow run has ended; its last state, which nothing has followed.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, run: &str, worker: &Running) -> (String, String) {
        self.wait_for_end_within(BOUND, run, worker)
    }

    /// The same, within a time that begins now.
    #[track_caller]
    pub(crate) fn wait_for_end_within(
        &self,
        bound: Duration,
        run: &str,
        worker: &Running,
    ) -> (String, String) {
        let state = wait::until("the run has ended", bound, || {
            let (name, message) = self.state(run);
            if FINAL.contains(&name.as_str()) {
                return Ok((name, message));
            }
            Err(format!(
                "{name} {message}; the worker says: {}",
                worker.stderr()
            ))
        });
        let states = self
            .api()
            .get(&format!("/flow_run_states/?flow_run_id={run}"));
        let names = states
            .as_array()
            .into_iter()
            .flatten()
            .map(|state| text(&state["name"]));
        let ends = names.filter(|name| FINAL.contains(&name.as_str())).count();
        assert_eq!(ends, 1, "it ended more than once: {states}");
        state
    }

    pub(crate) fn cancel(&self, run: &str) {
        let state = json!({"state": {"type": "CANCELLING"}, "force": false});
        self.api()
            .post(&format!("/flow_runs/{run}/set_state"), &state);
    }

    /// What is in the log of a flow run so far, a line for each entry.
    pub(crate) fn log(&self, run: &str) -> String {
        let filter = json!({"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"});
        let entries = self.api().post("/logs/filter", &filter);
        let lines = entries.as_array().into_iter().flatten();
        lines
            .map(|entry| text(&entry["message"]))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

// === functions ===

/// A worker with a state directory of its own that looks often.
pub(crate) fn worker(api: &Api) -> Program {
    worker_of(Program::new(PROGRAM), api)
}

/// The same of any worker program.
pub(crate) fn worker_of(program: Program, api: &Api) -> Program {
    program
        .with("PREFECT_API_URL", api.url())
        .with("DOCKER_HOST", host())
        .with("PREFECT_WORKER_QUERY_SECONDS", "0.4")
        .with("PREFECT_WORKER_CANCELLATION_POLL_SECONDS", "0.4")
        .with("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.2")
}

/// A Docker pool as a worker makes it, with these values as defaults of its variables.
pub(crate) fn create_pool(api: &Api, name: &str, defaults: &Value) {
    let mut template = worker_drivers::docker::default_template();
    for (name, value) in defaults.as_object().into_iter().flatten() {
        template["variables"]["properties"][name]["default"] = value.clone();
    }
    let pool = json!({"name": name, "type": "docker", "base_job_template": template});
    api.post("/work_pools/", &pool);
}

/// A deployment with these fields, and a flow run of it that is due; the run's id.
pub(crate) fn run(api: &Api, fields: &Value) -> String {
    let flow = text(&fields["flow"]);
    let flow = if flow.is_empty() {
        "command".to_owned()
    } else {
        flow
    };
    let id = api.post("/flows/", &json!({ "name": flow }))["id"].clone();
    // One of the same name would be the same deployment.
    let name = format!("test-{}", DEPLOYMENTS.fetch_add(1, Ordering::Relaxed));
    let mut deployment = json!({"name": name, "flow_id": id, "work_pool_name": POOL});
    let all = deployment.as_object_mut().expect("it is written above");
    let fields = fields.as_object().cloned().unwrap_or_default();
    all.extend(fields.into_iter().filter(|(name, _)| name != "flow"));
    let deployment = text(&api.post("/deployments/", &deployment)["id"]);
    let path = format!("/deployments/{deployment}/create_flow_run");
    text(&api.post(&path, &json!({}))["id"])
}

/// Where the engine is.
pub(crate) fn host() -> String {
    std::env::var("WORKER_TEST_DOCKER_HOST").unwrap_or_else(|_| {
        panic!("WORKER_TEST_DOCKER_HOST is not set; `tests/docker/engine start` starts an engine and says it")
    })
}

/// What the Docker command line says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    docker_at(&host(), arguments)
}

pub(crate) fn docker_at(host: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .env("DOCKER_HOST", host)
        .args(arguments)
        .output()
        .expect("the Docker command line is installed");
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The containers of a flow run: those that run, or all.
pub(crate) fn containers_of(run: &str, all: bool) -> Vec<String> {
    containers_at(&host(), run, all)
}

/// The same on another engine.
pub(crate) fn containers_at(host: &str, run: &str, all: bool) -> Vec<String> {
    let filter = format!("label=io.prefect.flow-run-id={run}");
    let mut arguments = vec!["ps", "--quiet", "--no-trunc", "--filter", &filter];
    if all {
        arguments.push("--all");
    }
    let listed = docker_at(host, &arguments);
    listed.lines().map(str::to_owned).collect()
}

/// Waits until a flow run has a container that runs; its id.
#[track_caller]
pub(crate) fn wait_for_container(run: &str, worker: &Running) -> String {
    wait::until("the container runs", BOUND, || {
        containers_of(run, false)
            .pop()
            .ok_or_else(|| worker.stderr())
    })
}

/// A JSON text as a text; empty when it is something else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
