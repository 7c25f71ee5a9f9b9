//! The official package against the embedded API: what people do with its command line, its client and its worker.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use worker_tests::{
    http::Api,
    prefect::Python,
    program::{Finished, Program, Running},
    wait,
};

use crate::{PROGRAM, servers::start_embedded};

/// How long a flow run may take to get somewhere: two Pythons start on the way, on a machine that may be busy.
const RUN: Duration = Duration::from_mins(2);

/// The official package, and the embedded API it is pointed at.
struct Market {
    api: Api,
    python: Python,
    /// The official command line, in a directory with a project.
    prefect: Program,
    /// The program under test, on the same API.
    worker: Program,
    _embedded: Running,
}

// === impl Market ===

impl Market {
    fn open() -> Self {
        let python = Python::installed();
        let program = Program::new(PROGRAM);
        let (embedded, api) = start_embedded(&program);
        let prefect = official(&python, "prefect", api);
        lay_out(&prefect.directory("home"));
        let code = prefect.directory("home").display().to_string();
        let worker = program
            .with("PREFECT_API_URL", api.url())
            .with("VIRTUAL_ENV", python.root().display().to_string())
            .with("PATH", python.path());
        Self {
            api,
            prefect: prefect.with("BAKERY", code),
            python,
            worker,
            _embedded: embedded,
        }
    }

    /// Runs a command of the official command line that has to succeed.
    #[track_caller]
    fn prefect(&self, arguments: &[&str]) -> Finished {
        let all = [&["--no-prompt"], arguments].concat();
        self.prefect.run(&all).expect_code(0)
    }

    /// The only flow run of the bakery in a state, once there is one.
    fn run_in(&self, state: &str) -> Value {
        let filter = json!({ "flows": { "name": { "any_": ["bakery"] } },
            "flow_runs": { "state": { "name": { "any_": [state] } } } });
        wait::until("a flow run is there", RUN, || {
            match self.api.post("/flow_runs/filter", &filter) {
                Value::Array(mut runs) if runs.len() == 1 => Ok(runs.remove(0)),
                other => Err(format!("no single run in {state}: {other}")),
            }
        })
    }
}

#[test]
fn a_project_is_deployed_and_run_and_looked_at_with_the_official_command_line() {
    let market = Market::open();
    market.prefect(&["work-pool", "create", "market", "--type", "process"]);
    market.prefect(&["gcl", "create", "shop", "--limit", "1"]);
    market.prefect(&["deploy", "--all"]);
    let stall = market.api.get("/deployments/name/bakery/stall");
    assert_eq!(
        stall["schedules"].as_array().map(Vec::len),
        Some(3),
        "{stall}"
    );
    let listed = market.prefect(&["deployment", "ls"]);
    assert!(listed.stdout.contains("bakery/cart"), "{listed}");

    let _worker = market.worker.start(&["--pool", "market"]);
    let watched = market.prefect(&["deployment", "run", "bakery/stall", "--watch"]);
    for said in [
        "Ada has baked 6",
        "prefect.task-run.Retrying",
        "'Completed'",
    ] {
        assert!(watched.stdout.contains(said), "no {said:?}: {watched}");
    }
    let run = market.run_in("Completed");
    let id = run["id"].as_str().expect("an id");
    let logs = market.prefect(&["flow-run", "logs", id]);
    assert!(logs.stdout.contains("Ada has baked 6"), "{logs}");
    let shown = market.prefect(&["flow-run", "inspect", id]);
    assert!(shown.stdout.contains("StateType.COMPLETED"), "{shown}");
    let listed = market.prefect(&["task-run", "ls"]);
    assert!(listed.stdout.contains("bake-"), "{listed}");

    market.prefect(&[
        "deployment",
        "run",
        "bakery/cart",
        "--param",
        "patience=600",
    ]);
    let run = market.run_in("Running");
    market.prefect(&["flow-run", "cancel", run["id"].as_str().expect("an id")]);
    let run = market.run_in("Cancelled");
    assert_eq!(run["parameters"]["baker"], "Grace");
    assert_eq!(run["work_queue_name"], "street");
}

#[test]
fn the_official_worker_serves_a_pool_of_the_embedded_api() {
    let market = Market::open();
    market.prefect(&["work-pool", "create", "market", "--type", "process"]);
    market.prefect(&["deploy", "-n", "cart"]);
    let deployment = market.api.get("/deployments/name/bakery/cart");
    let id = deployment["id"].as_str().expect("an id");
    let worker = market
        .prefect
        .start(&["worker", "start", "--pool", "market", "--name", "theirs"]);
    let path = format!("/deployments/{id}/create_flow_run");
    let run = market.api.post(&path, &json!({ "name": "loaf" }));
    let path = format!("/flow_runs/{}", run["id"].as_str().expect("an id"));
    let ended = wait::until("the flow run has ended", RUN, || {
        let run = market.api.get(&path);
        if run["end_time"].is_string() {
            Ok(run)
        } else {
            Err(format!("{run}\n{}", worker.stderr()))
        }
    });
    assert_eq!(
        ended["state_name"],
        "Completed",
        "{ended}\n{}",
        worker.stdout()
    );

    let workers = market
        .api
        .post("/work_pools/market/workers/filter", &json!({}));
    assert_eq!(
        (&workers[0]["name"], &workers[0]["status"]),
        (&json!("theirs"), &json!("ONLINE"))
    );
    let pool = market.api.get("/work_pools/market");
    assert_eq!(pool["status"], "READY");
    // Its own words arrive when it has them together.
    let wanted = json!({ "filter": { "event": { "name": ["prefect.worker.executed-flow-run"] },
        "related": { "id": [format!("prefect.work-pool.{}", pool["id"].as_str().expect("an id"))] } } });
    wait::until("the worker has told what it did", RUN, || {
        let found = market.api.post("/events/filter", &wanted);
        if found["total"] == 1 {
            Ok(())
        } else {
            Err(found.to_string())
        }
    });
    let tasks = json!({ "flow_runs": { "id": { "any_": [ended["id"]] } } });
    let tasks = market.api.post("/task_runs/filter", &tasks);
    let names: Vec<&str> = tasks
        .as_array()
        .expect("a list")
        .iter()
        .map(|task| task["state_name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        names, ["Completed"; 4],
        "three tasks and a subflow: {tasks}"
    );
}

#[test]
fn what_people_do_with_the_official_client_works() {
    let market = Market::open();
    market.prefect(&["work-pool", "create", "market", "--type", "process"]);
    market.prefect(&["deploy", "-n", "stall"]);
    let script = market.prefect.directory("home").join("client.py");
    fs::write(&script, include_str!("official/client.py"))
        .expect("the directory is the test's own");
    let python = official(&market.python, "python", market.api);
    let finished = python.run(&[script]).expect_code(0);
    let done = finished.stdout.matches("done: ").count();
    assert_eq!(done, 8, "{finished}");
}

/// A program of the official package, pointed at an API.
fn official(python: &Python, name: &str, api: Api) -> Program {
    let path = python.bin().join(name).display().to_string();
    let program = Program::new(&path);
    let home = program.directory("prefect").display().to_string();
    program
        .with("PREFECT_API_URL", api.url())
        .with("PREFECT_HOME", home)
        .with("VIRTUAL_ENV", python.root().display().to_string())
        .with("PATH", python.path())
        // Long lines stay whole.
        .with("COLUMNS", "400")
}

/// Puts the project where the command line looks for one.
fn lay_out(directory: &Path) {
    for (name, text) in [
        ("prefect.yaml", include_str!("official/prefect.yaml")),
        ("flows.py", include_str!("official/flows.py")),
    ] {
        fs::write(directory.join(name), text).expect("the directory is the test's own");
    }
}
