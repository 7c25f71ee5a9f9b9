//! An API in the test's own process, and what people see there of flow runs whose jobs an engine runs.
//!
//! Which pool there is, and what its jobs look like from the engine's side, is for the tests of that engine.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use worker_server::{Server, ServerOptions};

use crate::{
    http::Api,
    program::{Program, Running},
    wait,
};

/// The API and what is in it.
#[derive(Debug)]
pub struct Stage {
    server: Server,
    _runtime: Runtime,
}

/// The states that end a flow run.
pub const FINAL: [&str; 4] = ["Completed", "Failed", "Cancelled", "Crashed"];

/// How many deployments there are.
static DEPLOYMENTS: AtomicUsize = AtomicUsize::new(0);

// === impl Stage ===

impl Stage {
    /// Starts an API.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn set() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let server = runtime
            .block_on(Server::start(ServerOptions::default()))
            .expect("an API can be started on loopback");
        Self {
            server,
            _runtime: runtime,
        }
    }

    /// The API.
    pub fn api(&self) -> Api {
        Api::at(self.server.address())
    }

    /// The state a flow run is in: its name and its message.
    pub fn state(&self, run: &str) -> (String, String) {
        let state = &self.api().get(&format!("/flow_runs/{run}"))["state"];
        (text(&state["name"]), text(&state["message"]))
    }

    /// Waits until a flow run has ended; its last state, which nothing has followed.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or ends twice.
    #[track_caller]
    pub fn wait_for_end_within(
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
        let states = self.states(run);
        let ends = states.iter().filter(|name| FINAL.contains(&name.as_str()));
        assert_eq!(ends.count(), 1, "it ended more than once: {states:?}");
        state
    }

    /// The names of the states that a flow run has been in.
    pub fn states(&self, run: &str) -> Vec<String> {
        let path = format!("/flow_run_states/?flow_run_id={run}");
        let states = self.api().get(&path);
        let states = states.as_array().into_iter().flatten();
        states.map(|state| text(&state["name"])).collect()
    }

    /// Asks for a flow run to be cancelled.
    pub fn cancel(&self, run: &str) {
        let state = json!({"state": {"type": "CANCELLING"}, "force": false});
        self.api()
            .post(&format!("/flow_runs/{run}/set_state"), &state);
    }

    /// What is in the log of a flow run so far, a line for each entry.
    pub fn log(&self, run: &str) -> String {
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

/// A worker program that asks this API, and often.
pub fn hurried(program: Program, api: &Api) -> Program {
    program
        .with("PREFECT_API_URL", api.url())
        .with("PREFECT_WORKER_QUERY_SECONDS", "0.4")
        .with("PREFECT_WORKER_CANCELLATION_POLL_SECONDS", "0.4")
        .with("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.2")
}

/// A deployment in a pool with these fields, `flow` among them, and a flow run of it that is due; the run's id.
pub fn run(api: &Api, pool: &str, fields: &Value) -> String {
    let flow = match text(&fields["flow"]) {
        flow if flow.is_empty() => "command".to_owned(),
        flow => flow,
    };
    let id = api.post("/flows/", &json!({ "name": flow }))["id"].clone();
    // One of the same name would be the same deployment.
    let name = format!("test-{}", DEPLOYMENTS.fetch_add(1, Ordering::Relaxed));
    let mut deployment = json!({"name": name, "flow_id": id, "work_pool_name": pool});
    merge(&mut deployment, fields);
    if let Some(fields) = deployment.as_object_mut() {
        fields.remove("flow");
    }
    let deployment = text(&api.post("/deployments/", &deployment)["id"]);
    let path = format!("/deployments/{deployment}/create_flow_run");
    text(&api.post(&path, &json!({}))["id"])
}

/// Adds fields to a JSON object, in the place of those that it has.
pub fn merge(object: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}

/// A JSON text as a text; empty when it is something else.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
