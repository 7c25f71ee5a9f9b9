//! An API in the test's own process with a Docker pool, a worker for it, and the engine as somebody else sees it.

use std::{ops::Deref, process::Command, time::Duration};

use serde_json::{Value, json};
pub(crate) use worker_tests::stage::text;
use worker_tests::{
    http::Api,
    program::{Program, Running},
    stage, wait,
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
pub(crate) struct Stage(stage::Stage);

// === impl Stage ===

impl Deref for Stage {
    type Target = stage::Stage;

    fn deref(&self) -> &stage::Stage {
        &self.0
    }
}

impl Stage {
    pub(crate) fn set() -> Self {
        let stage = stage::Stage::set();
        create_pool(&stage.api(), POOL, &json!({}));
        Self(stage)
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
        stage::merge(&mut variables, more);
        let mut deployment = json!({"job_variables": variables});
        stage::merge(&mut deployment, fields);
        run(&self.api(), &deployment)
    }

    /// Waits until a flow run has ended; its last state, which nothing has followed.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, run: &str, worker: &Running) -> (String, String) {
        self.wait_for_end_within(BOUND, run, worker)
    }
}

// === functions ===

/// A worker with a state directory of its own that looks often.
pub(crate) fn worker(api: &Api) -> Program {
    worker_of(Program::new(PROGRAM), api)
}

/// The same of any worker program.
pub(crate) fn worker_of(program: Program, api: &Api) -> Program {
    stage::hurried(program, api).with("DOCKER_HOST", host())
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
    stage::run(api, POOL, fields)
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
