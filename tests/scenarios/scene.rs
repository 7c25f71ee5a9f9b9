//! An API in the test's own process, so that a test can let it go wrong, take it away and bring it back; a pool, and
//! whatever a test deploys to it.
//!
//! What a test asks of it to see how a flow run fares goes over routes that the worker does not use, so that looking
//! uses up no fault that is meant for the worker.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use worker_server::{Faults, Requests, Server, ServerOptions, Storage};
use worker_tests::{
    http::Api,
    program::{Program, Running},
    wait,
};

use crate::{PROGRAM, stage::POOL};

/// How long anything may take that a loaded machine does in a second: less than the test runner gives a test, so that
/// a test which waits in vain says for what.
pub(crate) const BOUND: Duration = Duration::from_secs(40);

/// The API and what is in it. Everything ends with it but jobs, so a job that waits gives up by itself.
#[derive(Debug)]
pub(crate) struct Scene {
    faults: Faults,
    options: ServerOptions,
    server: Option<Server>,
    runtime: Runtime,
    home: Program,
}

/// The states that end a flow run.
const FINAL: [&str; 4] = ["Completed", "Failed", "Cancelled", "Crashed"];

// === impl Scene ===

impl Scene {
    /// An API with a pool of type process.
    pub(crate) fn set() -> Self {
        let scene = Self::without_pool();
        scene.create_pool(POOL, "process");
        scene
    }

    /// An API with nothing in it.
    pub(crate) fn without_pool() -> Self {
        Self::open(|_| Storage::Memory)
    }

    /// An API with a pool of type process that keeps its data while it is away.
    pub(crate) fn lasting() -> Self {
        let scene = Self::open(|home| Storage::File(home.directory("api").join("prefect.db")));
        scene.create_pool(POOL, "process");
        scene
    }

    fn open(storage: impl FnOnce(&Program) -> Storage) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let home = Program::new(PROGRAM);
        let faults = Faults::new();
        let options = ServerOptions {
            storage: storage(&home),
            faults: Some(faults.clone()),
            ..ServerOptions::default()
        };
        let mut scene = Self {
            faults,
            options,
            server: None,
            runtime,
            home,
        };
        scene.bring_back();
        scene
    }

    /// Ends the API, with all its connections.
    pub(crate) fn take_away(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }

    /// Starts the API again, where it was.
    pub(crate) fn bring_back(&mut self) {
        let server = self
            .runtime
            .block_on(Server::start(self.options.clone()))
            .expect("an API can be started on loopback");
        self.options.listen = server.address();
        self.server = Some(server);
    }

    /// What is to go wrong.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What was asked of the API so far, by anybody.
    pub(crate) fn requests(&self) -> Requests {
        self.server.as_ref().expect("the API is there").requests()
    }

    /// A way to the API that is not the worker's.
    pub(crate) fn api(&self) -> Api {
        Api::at(self.options.listen)
    }

    /// A worker with a state directory of its own that knows where the API is and looks at it often.
    pub(crate) fn worker(&self) -> Program {
        Program::new(PROGRAM)
            .with("PREFECT_API_URL", self.api().url())
            .with("PREFECT_CLIENT_MAX_RETRIES", "0")
            .with("PREFECT_WORKER_QUERY_SECONDS", "0.4")
            .with("PREFECT_WORKER_HEARTBEAT_SECONDS", "0.5")
            .with("PREFECT_WORKER_CANCELLATION_POLL_SECONDS", "0.4")
            .with("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.2")
    }

    /// A directory that lasts as long as the scene.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.home.directory(name)
    }

    /// Makes a pool with the template that its type has in this release; the pool as the API shows it.
    pub(crate) fn create_pool(&self, name: &str, kind: &str) -> Value {
        let template = worker_drivers::subprocess::default_template();
        let pool = json!({"name": name, "type": kind, "base_job_template": template});
        self.api().post("/work_pools/", &pool)
    }

    /// Takes all types out of the pool's template, so that the API lets job variables through which it would refuse.
    pub(crate) fn forget_types(&self) {
        let mut template = worker_drivers::subprocess::default_template();
        let variables = template["variables"]["properties"]
            .as_object_mut()
            .expect("the template has variables");
        variables
            .values_mut()
            .for_each(|schema| *schema = json!({}));
        let pool = format!("/work_pools/{POOL}");
        self.api()
            .patch(&pool, &json!({"base_job_template": template}));
    }

    /// Makes a block of type secret.
    pub(crate) fn create_secret_block(&self, name: &str, value: &str) {
        let kind = json!({"name": "Secret", "slug": "secret"});
        let kind = self.api().post("/block_types/", &kind)["id"].clone();
        let fields = json!({
            "title": "Secret",
            "type": "object",
            "properties": {"value": {"type": "string"}},
            "secret_fields": ["value"],
            "block_type_slug": "secret",
            "block_schema_references": {},
        });
        let schema = json!({"block_type_id": kind, "fields": fields});
        let schema = self.api().post("/block_schemas/", &schema)["id"].clone();
        let document = json!({
            "name": name,
            "block_type_id": kind,
            "block_schema_id": schema,
            "data": {"value": value},
        });
        self.api().post("/block_documents/", &document);
    }

    /// Deploys to the pool, with whatever fields a deployment may have; its id.
    pub(crate) fn deploy(&self, name: &str, fields: &Value) -> String {
        let flow = self.api().post("/flows/", &json!({"name": "scene"}));
        let mut deployment = json!({"name": name, "flow_id": flow["id"], "work_pool_name": POOL});
        let all = deployment.as_object_mut().expect("it is written above");
        all.extend(fields.as_object().cloned().unwrap_or_default());
        text(&self.api().post("/deployments/", &deployment)["id"])
    }

    /// Deploys a plain command; the deployment's id.
    pub(crate) fn deploy_command(&self, command: &str) -> String {
        let fields = json!({"job_variables": {"command": command}});
        self.deploy("command", &fields)
    }

    /// Makes a flow run that is due; its id.
    pub(crate) fn run(&self, deployment: &str) -> String {
        let path = format!("/deployments/{deployment}/create_flow_run");
        text(&self.api().post(&path, &json!({}))["id"])
    }

    /// Makes so many flow runs that are due; their ids.
    pub(crate) fn runs(&self, count: usize, deployment: &str) -> Vec<String> {
        (0..count).map(|_| self.run(deployment)).collect()
    }

    /// The states of a flow run so far, the latest last. None for one that was deleted.
    pub(crate) fn history(&self, run: &str) -> Vec<Value> {
        let path = format!("/flow_run_states/?flow_run_id={run}");
        let states = self.api().get(&path);
        states.as_array().cloned().unwrap_or_default()
    }

    /// The name of the state that a flow run is in.
    pub(crate) fn state(&self, run: &str) -> String {
        let history = self.history(run);
        history
            .last()
            .map_or_else(|| "deleted".to_owned(), |state| text(&state["name"]))
    }

    /// The message of the state that a flow run is in.
    pub(crate) fn message(&self, run: &str) -> String {
        let history = self.history(run);
        history
            .last()
            .map(|state| text(&state["message"]))
            .unwrap_or_default()
    }

    /// Waits until a flow run is in a state.
    #[track_caller]
    pub(crate) fn wait_for(&self, run: &str, state: &str, worker: &Running) {
        wait::until(&format!("the run is {state}"), BOUND, || {
            let now = self.state(run);
            if now == state {
                return Ok(());
            }
            let message = self.message(run);
            assert!(
                !FINAL.contains(&now.as_str()),
                "the run has ended {now} instead of {state}: {message}\nthe worker says: {}",
                worker.stderr()
            );
            Err(format!(
                "{now} {message}; the worker says: {}",
                worker.stderr()
            ))
        });
    }

    /// Waits until all of some flow runs have ended in one state.
    #[track_caller]
    pub(crate) fn wait_for_all(&self, runs: &[String], state: &str, worker: &Running) {
        for run in runs {
            self.wait_for(run, state, worker);
        }
    }

    /// What is in the log of a flow run so far, a line for each entry.
    pub(crate) fn log(&self, run: &str) -> String {
        let filter = json!({"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"});
        let entries = self.api().post("/logs/filter", &filter);
        let lines: Vec<String> = entries
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| text(&entry["message"]))
            .collect();
        lines.join("\n")
    }
}

// === functions ===

/// Waits until a worker has said something on standard error.
#[track_caller]
pub(crate) fn wait_to_hear(worker: &Running, said: &str) {
    wait::until(&format!("the worker says {said:?}"), BOUND, || {
        let stderr = worker.stderr();
        if stderr.contains(said) {
            Ok(())
        } else {
            Err(stderr)
        }
    });
}

/// Waits until a worker that was started with `--with-healthcheck --status-port 0` says where its status is.
#[track_caller]
pub(crate) fn wait_for_status(worker: &Running) -> Api {
    let address = wait::until("the worker serves its status", BOUND, || {
        let stderr = worker.stderr();
        let said = stderr
            .lines()
            .find(|line| line.contains("serving /livez"))
            .and_then(|line| line.split("address=").nth(1)?.trim().parse().ok());
        said.ok_or(stderr)
    });
    Api::at_root_of(address)
}

/// A command that runs a script which is written for it.
pub(crate) fn script(directory: &Path, name: &str, lines: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, lines).expect("the scene's directory is writable");
    format!("sh {}", path.display())
}

/// What jobs have written to a file, line by line; nothing when there is none yet.
pub(crate) fn lines_of(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A JSON text as a text; empty when it is something else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
