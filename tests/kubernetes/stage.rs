//! An API in the test's own process with a Kubernetes pool, a worker for it, and the cluster as somebody else sees it.

use std::{ops::Deref, process::Command, time::Duration};

use serde_json::{Value, json};
pub(crate) use worker_tests::stage::text;
use worker_tests::{
    http::Api,
    program::{Program, Running},
    stage, wait,
};

use crate::{PROGRAM, cluster_api::ClusterApi};

/// How long anything may take that a loaded machine does in a second. A pod is many such things, one after the other.
pub(crate) const BOUND: Duration = Duration::from_mins(4);

/// Jobs of these tests run in this image: a shell and what belongs to it.
pub(crate) const IMAGE: &str = "busybox:1.35";

pub(crate) const POOL: &str = "k8s-pool";

/// Where the jobs of these tests are.
pub(crate) const NAMESPACE: &str = "worker-tests";

/// The API and what is in it, and the cluster.
pub(crate) struct Stage {
    stage: stage::Stage,
    pub(crate) cluster: ClusterApi,
}

// === impl Stage ===

impl Deref for Stage {
    type Target = stage::Stage;

    fn deref(&self) -> &stage::Stage {
        &self.stage
    }
}

impl Stage {
    pub(crate) fn set() -> Self {
        let stage = Self {
            stage: stage::Stage::set(),
            cluster: ClusterApi::open(),
        };
        create_pool(&stage.api(), POOL, &pod_template());
        make_namespace(NAMESPACE);
        stage
    }

    pub(crate) fn worker(&self) -> Program {
        worker_of(Program::new(PROGRAM), &self.api()).with("WORKER_STOP_GRACE", "2")
    }

    /// Makes a flow run of a command in a pod; its id.
    pub(crate) fn run(&self, command: &str, more: &Value) -> String {
        self.run_with(command, more, &json!({}))
    }

    /// The same, of a deployment with these fields.
    pub(crate) fn run_with(&self, command: &str, more: &Value, fields: &Value) -> String {
        let mut variables = json!({"command": command, "image": IMAGE});
        stage::merge(&mut variables, more);
        let mut deployment = json!({"job_variables": variables});
        stage::merge(&mut deployment, fields);
        stage::run(&self.api(), POOL, &deployment)
    }

    /// Waits until a flow run has ended; its last state, which nothing has followed.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, run: &str, worker: &Running) -> (String, String) {
        self.wait_for_end_within(BOUND, run, worker)
    }

    /// Waits until a flow run has a pod that runs; its Job's name.
    #[track_caller]
    pub(crate) fn wait_for_pod(&self, run: &str, worker: &Running) -> String {
        wait::until("the pod runs", BOUND, || {
            let pods = self.cluster.of_run("pods", run);
            if pods.iter().any(|pod| pod["status"]["phase"] == "Running") {
                return Ok(());
            }
            Err(format!("{pods:?} {}", worker.stderr()))
        });
        let jobs = self.cluster.of_run("jobs", run);
        text(&jobs.first().expect("a pod has a Job")["metadata"]["name"])
    }
}

// === functions ===

/// The same worker of any program, with a state directory of its own, that looks often.
pub(crate) fn worker_of(program: Program, api: &Api) -> Program {
    stage::hurried(program, api).with("KUBECONFIG", kubeconfig())
}

/// The template of a Kubernetes pool as a worker makes it, whose pods see the network of their node, and with it an API on loopback.
pub(crate) fn pod_template() -> Value {
    let mut template = worker_drivers::kubernetes::default_template();
    let variables = &mut template["variables"]["properties"];
    variables["namespace"]["default"] = json!(NAMESPACE);
    // What people put into their own templates.
    for (name, default) in [
        ("shared_processes", json!(true)),
        ("deadline", Value::Null),
        ("disk_limit", Value::Null),
        ("sidecar", Value::Null),
    ] {
        variables[name] = json!({"title": name});
        if !default.is_null() {
            variables[name]["default"] = default;
        }
    }
    let spec = &mut template["job_configuration"]["job_manifest"]["spec"];
    spec["activeDeadlineSeconds"] = json!("{{ deadline }}");
    let pod = &mut spec["template"]["spec"];
    pod["hostNetwork"] = json!(true);
    // The first process of a container takes no signal that it does not ask for.
    pod["shareProcessNamespace"] = json!("{{ shared_processes }}");
    pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] = json!("{{ disk_limit }}");
    let containers = pod["containers"].as_array_mut();
    containers.expect("it has one").push(json!("{{ sidecar }}"));
    template
}

pub(crate) fn create_pool(api: &Api, name: &str, template: &Value) {
    let pool = json!({"name": name, "type": "kubernetes", "base_job_template": template});
    api.post("/work_pools/", &pool);
}

/// Makes a namespace, if it is not there, and waits until pods can be made in it.
pub(crate) fn make_namespace(name: &str) {
    let there = |kind: &str, what: &str| {
        let one = ["get", kind, "--ignore-not-found", "--output=name", what];
        !kubectl_in(name, &one).is_empty()
    };
    if !there("namespace", name) {
        // Another test may be quicker.
        drop(command(name, &["create", "namespace", name]).output());
    }
    let ready = || there("serviceaccount", "default");
    assert!(wait::holds(BOUND, ready), "no pods can be made in {name}");
}

/// Where the cluster is.
pub(crate) fn kubeconfig() -> String {
    let named = ["WORKER_TEST_KUBECONFIG", "KUBECONFIG"];
    let named = named.iter().find_map(|name| std::env::var(name).ok());
    named.expect("WORKER_TEST_KUBECONFIG or KUBECONFIG names the kubeconfig of a cluster")
}

pub(crate) fn command(namespace: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .args(["--kubeconfig", &kubeconfig(), "--namespace", namespace])
        .args(arguments);
    command
}

/// What the command line of Kubernetes says.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    kubectl_in(NAMESPACE, arguments)
}

pub(crate) fn kubectl_in(namespace: &str, arguments: &[&str]) -> String {
    let output = command(namespace, arguments).output();
    let output = output.expect("the command line of Kubernetes is installed");
    assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
