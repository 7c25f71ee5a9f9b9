//! Code that the worker pulls, in containers: who pulls it, where it is, what runs, and what a cancel does there.

use serde_json::{Value, json};
use worker_tests::{
    http::Api,
    prefect::{PrefectServer, Python},
    program::Running,
    repository::Repository,
    wait,
};

use crate::{
    flow_image,
    stage::{POOL, containers_of, create_pool, docker, run, text, worker},
};

/// How long a cold Python may take to run a flow on a busy machine.
const BOUND: std::time::Duration = std::time::Duration::from_mins(3);

/// A flow run in its container, watched from outside.
struct Watched<'a> {
    api: &'a Api,
    worker: &'a Running,
    id: String,
}

// === impl Watched ===

impl Watched<'_> {
    /// Waits until it is in a state; all of its log.
    #[track_caller]
    fn wait_for(&self, state: &str) -> String {
        wait::until(state, BOUND, || {
            let seen = self.api.get(&format!("/flow_runs/{}", self.id));
            if text(&seen["state"]["name"]) == state {
                return Ok(());
            }
            Err(format!("{}; {}", seen["state"], self.worker.stderr()))
        });
        self.log()
    }

    #[track_caller]
    fn wait_for_line(&self, line: &str) {
        wait::until(line, BOUND, || {
            let log = self.log();
            if log.contains(line) { Ok(()) } else { Err(log) }
        });
    }

    fn log(&self) -> String {
        let filter = json!({"logs": {"flow_run_id": {"any_": [self.id]}}, "sort": "TIMESTAMP_ASC", "limit": 200});
        let lines = self.api.post("/logs/filter", &filter);
        let lines = lines.as_array().into_iter().flatten();
        lines
            .map(|line| text(&line["message"]))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn container(&self) -> Value {
        let id = wait::until("the container runs", BOUND, || {
            containers_of(&self.id, false)
                .pop()
                .ok_or_else(|| self.worker.stderr())
        });
        serde_json::from_str::<Value>(&docker(&["inspect", &id])).expect("it is JSON")[0].take()
    }

    fn cancel(&self) {
        let state = json!({"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": false});
        self.api
            .post(&format!("/flow_runs/{}/set_state", self.id), &state);
    }
}

/// The flow that waits, in a repository.
fn repository(folder: &std::path::Path) -> Repository {
    let repository = Repository::create(folder);
    let flows = worker_tests::files::root().join("tests/docker/flows.py");
    let flows = std::fs::read_to_string(flows).expect("the flows are there");
    repository.write("flows.py", &flows);
    repository.commit("flows");
    repository
}

#[test]
fn code_that_the_worker_pulls_is_copied_in_and_the_engine_starts_on_it_and_runs_its_hooks() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let api = server.api();
    create_pool(&api, POOL, &flow_image::defaults(&python));
    let folder = tempfile::tempdir().expect("there is room");
    let repository = repository(folder.path());
    let clone =
        json!([{"prefect.deployments.steps.git_clone": {"repository": repository.directory()}}]);
    let program = worker(&api);
    let worker = program.start(&["--pool", POOL]);
    let flow_run = |flow: &str, steps: &Value| {
        let mut fields =
            json!({"flow": flow, "entrypoint": format!("flows.py:{flow}"), "pull_steps": steps});
        if *steps == clone {
            // The repository is on this machine, and in the container there is none.
            fields["job_variables"] = json!({"pull_mode": "worker"});
        }
        Watched {
            api: &api,
            worker: &worker,
            id: run(&api, &fields),
        }
    };

    let hello = flow_run("hello", &clone);
    hello.wait_for("Completed");
    // The engine sends its last lines after its last state.
    hello.wait_for_line("hello world from /opt/prefect/workspace");

    let pulled = flow_run("sleeps", &clone);
    let baked_in = flow_run("sleeps", &flow_image::baked_in());
    let unknown = json!([
        {"prefect.deployments.steps.set_working_directory": {"directory": "/opt/prefect/flows"}},
        {"os.getcwd": {}},
    ]);
    let by_job = flow_run("sleeps", &unknown);
    for (watched, command) in [
        (&pulled, "python"),
        (&baked_in, "prefect"),
        (&by_job, "prefect"),
    ] {
        assert_eq!(watched.container()["Config"]["Cmd"][0], command);
        watched.wait_for_line("sleeping");
        watched.cancel();
    }
    for watched in [&pulled, &baked_in, &by_job] {
        watched.wait_for("Cancelled");
        let name = text(&api.get(&format!("/flow_runs/{}", watched.id))["name"]);
        // Prefect's runner runs hooks in a process of their own, whose log nobody sees but on its output.
        let line = format!("[{name}] on_cancellation ran");
        let ran = wait::until("its hook has run", BOUND, || {
            let ran = worker.stdout().matches(&line).count();
            if ran > 0 {
                Ok(ran)
            } else {
                Err(worker.stdout())
            }
        });
        assert_eq!(ran, 1, "{name}");
    }
}
