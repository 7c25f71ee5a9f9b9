//! An API in the test's own process with a Kubernetes pool, a worker for it, and the cluster as somebody else sees it.

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
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// Jobs of these tests run in this image: a shell and what belongs to it.
pub(crate) const IMAGE: &str = "busybox:1.35";

pub(crate) const POOL: &str = "k8s-pool";

/// Where the jobs of these tests are.
pub(crate) const NAMESPACE: &str = "worker-tests";

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
        create_pool(&stage.api());
        stage
    }

    pub(crate) fn api(&self) -> Api {
        Api::at(self.server.address())
    }

    pub(crate) fn worker(&self) -> Program {
        worker(&self.api()).with("WORKER_STOP_GRACE", "2")
    }

    /// Makes a flow run of a command in a pod; its id.
    pub(crate) fn run(&self, command: &str, more: &Value) -> String {
        let mut variables = json!({"command": command, "image": IMAGE});
        let all = variables.as_object_mut().expect("it is written above");
        all.extend(more.as_object().cloned().unwrap_or_default());
        run(&self.api(), &json!({"job_variables": variables}))
    }

    /// The state a flow run is in: its name and its message.
    pub(crate) fn state(&self, run: &str) -> (String, String) {
        let state = &self.api().get(&format!("/flow_runs/{run}"))["state"];
        (text(&state["name"]), text(&state["message"]))
    }

    /// Waits until a flow run has ended; its last state, which nothing has followed.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, run: &str, worker: &Running) -> (String, String) {
        let state = wait::until("the run has ended", BOUND, || {
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

    /// The names of the states that a flow run has been in.
    pub(crate) fn states(&self, run: &str) -> Vec<String> {
        let path = format!("/flow_run_states/?flow_run_id={run}");
        let states = self.api().get(&path);
        let states = states.as_array().into_iter().flatten();
        states.map(|state| text(&state["name"])).collect()
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
    Program::new(PROGRAM)
        .with("PREFECT_API_URL", api.url())
        .with("KUBECONFIG", kubeconfig())
        .with("PREFECT_WORKER_QUERY_SECONDS", "0.4")
        .with("PREFECT_WORKER_CANCELLATION_POLL_SECONDS", "0.4")
        .with("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.2")
}

/// A Kubernetes pool as a worker makes it, whose pods see the network of their node, and with it an API on loopback.
pub(crate) fn create_pool(api: &Api) {
    let mut template = worker_drivers::kubernetes::default_template();
    template["variables"]["properties"]["namespace"]["default"] = json!(NAMESPACE);
    let path = "/job_configuration/job_manifest/spec/template/spec";
    let pod = template.pointer_mut(path).expect("it is there");
    pod["hostNetwork"] = json!(true);
    // The first process of a container takes no signal that it does not ask for.
    pod["shareProcessNamespace"] = json!(true);
    let pool = json!({"name": POOL, "type": "kubernetes", "base_job_template": template});
    api.post("/work_pools/", &pool);
    let made = kubectl(&[
        "get",
        "namespace",
        "--ignore-not-found",
        "--output=name",
        NAMESPACE,
    ]);
    if made.is_empty() {
        // Another test may be quicker.
        drop(command(&["create", "namespace", NAMESPACE]).output());
    }
    wait::until("pods can be made", BOUND, || {
        let account = kubectl(&[
            "get",
            "serviceaccount",
            "--ignore-not-found",
            "--output=name",
            "default",
        ]);
        if account.is_empty() {
            Err(account)
        } else {
            Ok(())
        }
    });
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

/// Where the cluster is.
fn kubeconfig() -> String {
    let named = ["WORKER_TEST_KUBECONFIG", "KUBECONFIG"];
    let named = named.iter().find_map(|name| std::env::var(name).ok());
    named.expect("WORKER_TEST_KUBECONFIG or KUBECONFIG names the kubeconfig of a cluster")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .args(["--kubeconfig", &kubeconfig(), "--namespace", NAMESPACE])
        .args(arguments);
    command
}

/// What the command line of Kubernetes says.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    let output = command(arguments).output();
    let output = output.expect("the command line of Kubernetes is installed");
    assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What there is of this kind that belongs to a flow run, by name.
pub(crate) fn of_run(kind: &str, run: &str) -> Vec<String> {
    let label = format!("prefect.io/flow-run-id={run}");
    let listed = kubectl(&["get", kind, "--selector", &label, "--output=name"]);
    listed.lines().map(str::to_owned).collect()
}

/// Waits until a flow run has a pod that runs; its Job's name.
#[track_caller]
pub(crate) fn wait_for_pod(run: &str, worker: &Running) -> String {
    let label = format!("prefect.io/flow-run-id={run}");
    let phases = [
        "get",
        "pods",
        "--selector",
        &label,
        "--output=jsonpath={.items[*].status.phase}",
    ];
    wait::until("the pod runs", BOUND, || {
        if kubectl(&phases) == "Running" {
            Ok(())
        } else {
            Err(worker.stderr())
        }
    });
    of_run("jobs", run).pop().expect("a pod has a Job")
}

/// A JSON text as a text; empty when it is something else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
