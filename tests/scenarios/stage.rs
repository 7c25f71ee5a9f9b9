//! The embedded API alone, with a pool, a deployment of a plain command and runs of it that are due.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::{
    http::Api,
    prefect::free_address,
    program::{Program, Running},
    wait,
};

use crate::PROGRAM;

/// How long anything may take that a loaded machine does in a second.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

/// The pool that all runs are in.
pub(crate) const POOL: &str = "demo";

/// An API that outlives the workers of a scenario.
#[derive(Debug)]
pub(crate) struct Stage {
    api: Api,
    _server: Running,
    home: Program,
}

// === impl Stage ===

impl Stage {
    /// Starts the API and creates the pool.
    pub(crate) fn set() -> Self {
        let home = Program::new(PROGRAM);
        let address = free_address().expect("loopback has a free port");
        let api = Api::at(address);
        let server = home.start(&["server", "--port", &address.port().to_string()]);
        wait::until("the embedded API answers", BOUND, || {
            match api.send("GET", "/health", None) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(format!("{error}; it says: {}", server.stderr())),
            }
        });
        let stage = Self {
            api,
            _server: server,
            home,
        };
        let created = stage
            .worker()
            .run(&["pool", "create", POOL, "--type", "process"]);
        assert_eq!(created.code(), 0, "{created}");
        stage
    }

    /// A worker with a state directory of its own that knows where the API is.
    pub(crate) fn worker(&self) -> Program {
        Program::new(PROGRAM).with("PREFECT_API_URL", self.api.url())
    }

    /// A directory that lasts as long as the stage.
    pub(crate) fn directory(&self, name: &str) -> std::path::PathBuf {
        self.home.directory(name)
    }

    /// Deploys a plain command and makes that many runs of it that are due; their ids.
    pub(crate) fn schedule(&self, command: &str, runs: usize) -> Vec<String> {
        let flow = self.api.post("/flows/", &json!({"name": "command"}));
        let deployment = self.api.post(
            "/deployments/",
            &json!({
                "name": "command",
                "flow_id": flow["id"],
                "work_pool_name": POOL,
                "job_variables": {"command": command},
            }),
        );
        let path = format!("/deployments/{}/create_flow_run", text(&deployment["id"]));
        (0..runs)
            .map(|_| text(&self.api.post(&path, &json!({}))["id"]))
            .collect()
    }

    /// How many of the runs are in which state, by the state's name.
    pub(crate) fn states(&self, runs: &[String]) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for id in runs {
            let run = self.api.get(&format!("/flow_runs/{id}"));
            *states.entry(text(&run["state"]["name"])).or_default() += 1;
        }
        states
    }

    /// Waits until all of the runs are in one state.
    #[track_caller]
    pub(crate) fn wait_for_all(&self, runs: &[String], state: &str, worker: &Running) {
        wait::until(&format!("all runs are {state}"), BOUND, || {
            let states = self.states(runs);
            if states.len() == 1 && states.contains_key(state) {
                Ok(())
            } else {
                Err(format!("{states:?}; the worker says: {}", worker.stderr()))
            }
        });
    }
}

// === functions ===

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
