//! One flow run of an example, on any API, and what can be read about it afterwards.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::{files::copy_of_example, http::Api, prefect::Python, program::Program, wait};

use crate::PROGRAM;

/// How long the last log lines may take after the run has ended: the engine sends them as it exits.
const LOG_DELAY: Duration = Duration::from_secs(30);

/// The pool that all runs are in.
const POOL: &str = "demo";

/// A Python example of this repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example {
    pub(crate) directory: &'static str,
    pub(crate) flow: &'static str,
    pub(crate) entrypoint: &'static str,
}

/// What the API tells about a flow run that has ended, without what differs from run to run.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Type and name of each state, in order.
    pub(crate) states: Vec<String>,
    /// Level and message of each line, in order, by logger.
    pub(crate) logs: BTreeMap<String, Vec<String>>,
    /// The parameters as the flow run has them.
    pub(crate) parameters: Value,
}

// === impl Story ===

impl Story {
    /// The state it ended in.
    pub(crate) fn last_state(&self) -> &str {
        self.states.last().map_or("none", String::as_str)
    }

    /// Whether a log line has that message.
    pub(crate) fn has_line(&self, message: &str) -> bool {
        self.logs
            .values()
            .flatten()
            .any(|line| line.ends_with(message))
    }
}

// === functions ===

/// Deploys an example, has the worker take one run of it to its end, and reads what became of it.
pub(crate) fn tell(api: Api, python: &Python, example: &Example, parameters: &Value) -> Story {
    let program = Program::new(PROGRAM)
        .with("PREFECT_API_URL", api.url())
        .with("VIRTUAL_ENV", python.root().display().to_string())
        .with("PATH", python.path());
    // The second example finds the pool of the first.
    let pool = program.run(&["pool", "create", POOL, "--type", "process"]);
    if api
        .send("GET", &format!("/work_pools/{POOL}"), None)
        .is_ok_and(|answer| answer.status != 200)
    {
        panic!("no pool: {pool}");
    }
    let code = copy_of_example(example.directory, &program.directory("code"));
    let id = schedule(api, example, &code.display().to_string(), parameters);
    let worker = program
        .run(&["--pool", POOL, "--name", "parity", "--run-once"])
        .expect_code(0);

    let run = api.get(&format!("/flow_runs/{id}"));
    let states = api.get(&format!("/flow_run_states/?flow_run_id={id}"));
    assert!(
        run["end_time"].is_string(),
        "it has not ended: {run}\n{worker}"
    );
    Story {
        states: items(&states)
            .iter()
            .map(|state| format!("{} {}", text(state, "type"), text(state, "name")))
            .collect(),
        logs: read_logs(api, &run, &code.display().to_string()),
        parameters: run["parameters"].clone(),
    }
}

/// Makes the deployment and one run of it that is due; its id.
fn schedule(api: Api, example: &Example, code: &str, parameters: &Value) -> String {
    let flow = api.post("/flows/", &json!({"name": example.flow}));
    let deployment = api.post(
        "/deployments/",
        &json!({
            "name": example.directory,
            "flow_id": flow["id"],
            "work_pool_name": POOL,
            "entrypoint": example.entrypoint,
            "path": ".",
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": code}},
            ],
            "parameter_openapi_schema": {"type": "object", "properties": {}},
        }),
    );
    let run = api.post(
        &format!("/deployments/{}/create_flow_run", text(&deployment, "id")),
        &json!({"name": "parity", "parameters": parameters}),
    );
    text(&run, "id").to_owned()
}

/// Reads the log once the engine has sent its last line, without what differs from run to run.
fn read_logs(api: Api, run: &Value, code: &str) -> BTreeMap<String, Vec<String>> {
    let id = text(run, "id");
    let process = format!("process {}", text(run, "infrastructure_pid"));
    let filter = json!({
        "logs": {"flow_run_id": {"any_": [id]}},
        "sort": "TIMESTAMP_ASC",
        "limit": 200,
    });
    let logs = wait::until("the engine's last line is there", LOG_DELAY, || {
        let logs = api.post("/logs/filter", &filter);
        let complete = items(&logs).iter().any(|line| {
            text(line, "name") == "prefect.flow_runs"
                && text(line, "message").starts_with("Finished in state")
        });
        if complete {
            Ok(logs)
        } else {
            Err(logs.to_string())
        }
    });
    let mut by_logger = BTreeMap::<String, Vec<String>>::new();
    for line in items(&logs) {
        let message = text(line, "message")
            .replace(id, "ID")
            .replace(&api.url(), "API")
            .replace(&process, "process PID")
            .replace(code, "CODE");
        by_logger
            .entry(text(line, "name").to_owned())
            .or_default()
            .push(format!("{} {message}", line["level"]));
    }
    by_logger
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
