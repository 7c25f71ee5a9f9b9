//! The chart on a real cluster: the worker as its pod, with the chart's Role and no other right.
//!
//! `WORKER_TEST_KUBECONFIG` says which cluster; `tests/kubernetes/cluster start` starts one.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Once,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use worker_config::Secret;
use worker_server::{Server, ServerOptions};
use worker_tests::{files::root, http::Api, wait};

use crate::chart;

/// How long anything may take that a loaded machine does in some seconds.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// The worker's image, made of the program under test.
const IMAGE: &str = "worker-test/worker:1";

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");

/// What the API asks for. Its user's name is anything.
pub(crate) const TOKEN: &str = "only-for-this-test";

/// A release in a namespace of its own, and the API that it works for.
pub(crate) struct Release {
    pub(crate) namespace: String,
    server: Server,
    _runtime: Runtime,
}

// === impl Release ===

impl Release {
    /// Installs the chart for a pool of this type, and waits until its pod is ready.
    fn install(kind: &str) -> Self {
        image();
        let release = Self::empty(kind);
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &release.namespace, restricted]);
        let auth = json!({"enabled": true, "authString": format!("admin:{TOKEN}")});
        let (repository, tag) = IMAGE.split_once(':').expect("it has a tag");
        let values = json!({"worker": {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "config": {"workPool": "pool", "type": kind, "queryInterval": 0.5},
            "apiConfig": "selfHostedServer",
            "selfHostedServerApiConfig": {"apiUrl": release.api_url(), "basicAuth": auth},
            "extraEnvVars": [{"name": "PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "value": "0.2"}],
            "readinessProbe": {"config": {"periodSeconds": 1}},
        }});
        release.helm("install", &chart::folder(), &values);
        release
    }

    /// A namespace with nothing in it, and an API.
    pub(crate) fn empty(name: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let options = ServerOptions {
            listen: SocketAddr::new(reachable_from_pods(), 0),
            token: Some(Secret::new(TOKEN)),
            ..ServerOptions::default()
        };
        let server = runtime
            .block_on(Server::start(options))
            .expect("an API can be started at the address that pods reach");
        let namespace = format!("helm-{name}-{}", std::process::id());
        kubectl(&["create", "namespace", &namespace]);
        Self {
            namespace,
            server,
            _runtime: runtime,
        }
    }

    /// Where pods reach the API.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}/api", self.server.address())
    }

    /// Has Helm install the release from a chart or upgrade it to one, and waits until its pod is ready.
    #[track_caller]
    pub(crate) fn helm(&self, verb: &str, chart: &Path, values: &Value) {
        let done = chart::helm(&self.arguments(&[verb, chart::RELEASE]), chart, values);
        if let Err(error) = done {
            panic!("helm {verb}: {error}; the pods: {}", self.describe());
        }
    }

    /// Has Helm make the release what it was at first.
    #[track_caller]
    pub(crate) fn rollback(&self) {
        let done = chart::run(&self.arguments(&["rollback", chart::RELEASE, "1"]));
        if let Err(error) = done {
            panic!("helm rollback: {error}; the pods: {}", self.describe());
        }
    }

    fn arguments(&self, verb: &[&str]) -> Vec<String> {
        let config = kubeconfig();
        let rest = [
            "--kubeconfig",
            &config,
            "--namespace",
            &self.namespace,
            "--wait",
            "--timeout",
            "90s",
        ];
        let all = verb.iter().chain(&rest);
        all.map(|argument| (*argument).to_owned()).collect()
    }

    fn api(&self) -> Api {
        Api::at(self.server.address()).with_token(TOKEN)
    }

    /// Makes a flow run with these job variables; its id.
    pub(crate) fn run(&self, variables: &Value) -> String {
        let api = self.api();
        let flow = api.post("/flows/", &json!({"name": "command"}))["id"].clone();
        let deployment = json!({
            "name": "test", "flow_id": flow, "work_pool_name": "pool", "job_variables": variables,
        });
        let deployment = text(&api.post("/deployments/", &deployment)["id"]);
        let path = format!("/deployments/{deployment}/create_flow_run");
        text(&api.post(&path, &json!({}))["id"])
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, run: &str, wanted: &str) {
        wait::until("the flow run is where it should be", BOUND, || {
            let state = self.api().get(&format!("/flow_runs/{run}"))["state"].clone();
            if state["name"] == wanted {
                return Ok(());
            }
            Err(format!("{state}; {}", self.describe()))
        });
    }

    /// How often a flow run was in a state.
    fn times_in(&self, run: &str, name: &str) -> usize {
        let states = self
            .api()
            .get(&format!("/flow_run_states/?flow_run_id={run}"));
        let states = states.as_array().into_iter().flatten();
        states.filter(|state| state["name"] == name).count()
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// What there is to see, for a panic's message.
    pub(crate) fn describe(&self) -> String {
        let look = |arguments: &[&str]| {
            try_kubectl(&[&["--namespace", &self.namespace], arguments].concat())
                .unwrap_or_else(|error| error)
        };
        let label = "app.kubernetes.io/component=worker";
        format!(
            "{}\n{}\n{}",
            look(&["get", "pods,jobs", "--output", "wide"]),
            look(&[
                "get",
                "events",
                "--output",
                "custom-columns=:.reason,:.message"
            ]),
            look(&["logs", "--selector", label, "--tail", "40"]),
        )
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // The cluster is thrown away after the tests, so nobody needs to wait for it.
        let gone = [
            "delete",
            "namespace",
            "--wait=false",
            self.namespace.as_str(),
        ];
        try_kubectl(&gone).ok();
    }
}

// === functions ===

fn kubeconfig() -> String {
    std::env::var("WORKER_TEST_KUBECONFIG").unwrap_or_else(|_| {
        panic!("WORKER_TEST_KUBECONFIG is not set; `tests/kubernetes/cluster start` starts a cluster and says it")
    })
}

fn try_kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig())
        .args(arguments)
        .output()
        .expect("kubectl is installed");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[track_caller]
fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
}

/// The address of this machine that pods reach: that of the node, which is this machine.
fn reachable_from_pods() -> IpAddr {
    let path = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    let address = kubectl(&["get", "nodes", "--output", path]);
    address
        .parse()
        .unwrap_or_else(|error| panic!("the node's address {address:?}: {error}"))
}

/// Makes the worker's image of the program and what it is linked with, and gives it to the node.
fn image() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| load_program(IMAGE));
}

/// Gives the node an image with the program under test.
pub(crate) fn load_program(name: &str) {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let path = "/usr/local/bin/worker";
    copy(Path::new(PROGRAM), folder.path(), path);
    let linked = Command::new("ldd")
        .arg(PROGRAM)
        .output()
        .expect("ldd can be run");
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    for library in linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        copy(Path::new(library), folder.path(), library);
    }
    load(name, folder.path(), &json!({"Entrypoint": [path]}));
}

/// Gives the node an image: the files of a folder, and how they run.
pub(crate) fn load(name: &str, folder: &Path, config: &Value) {
    // Who runs it is not who made it.
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, readable).expect("it is ours");
    let loaded = Command::new("tests/kubernetes/cluster")
        .current_dir(root())
        .args(["load", name])
        .arg(folder)
        .arg(config.to_string())
        .env_remove("WORKER_TEST_KUBECONFIG")
        .env_remove("KUBECONFIG")
        .output()
        .expect("the script can be run");
    assert!(loaded.status.success(), "{loaded:?}");
}

/// Puts a file into what an image is made of.
pub(crate) fn copy(file: &Path, root: &Path, to: &str) {
    let to = root.join(to.trim_start_matches('/'));
    let folder = to.parent().expect("it is below the root");
    fs::create_dir_all(folder).expect("a directory can be made");
    fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_pod_takes_flow_runs_and_its_probes_are_content() {
    let release = Release::install("process");
    let run = release.run(&json!({"command": "/usr/local/bin/worker --version"}));
    release.wait_for(&run, "Completed");
    assert_eq!(release.times_in(&run, "Running"), 1);
    let pod = release.kubectl(&[
        "get",
        "pods",
        "--output",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount} {.items[*].status.phase}",
    ]);
    assert_eq!(pod, "0 Running");
    let address = release.kubectl(&[
        "get",
        "pods",
        "--output",
        "jsonpath={.items[0].status.podIP}",
    ]);
    let address = SocketAddr::new(address.parse().expect("the pod has an address"), 8080);
    let metrics = Api::at_root_of(address).get("/metrics");
    let metrics = text(&metrics);
    assert!(metrics.contains("worker_claims_total"), "{metrics}");
    assert_eq!(complaints(&metrics), "", "{metrics}");
}

/// What Prometheus does not like about metrics.
fn complaints(metrics: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed; `tests/helm/set-up` does it");
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin
        .write_all(metrics.as_bytes())
        .expect("promtool reads all of it");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Gives the pool a template whose pods the restricted standard allows, as its operator would.
fn restrict_jobs(release: &Release) {
    let pool = wait::until("the worker has created its pool", BOUND, || {
        let pools = release.api().post("/work_pools/filter", &json!({}));
        match &pools[0] {
            Value::Null => Err(release.describe()),
            pool => Ok(pool.clone()),
        }
    });
    let mut template = pool["base_job_template"].clone();
    let pod = &mut template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"];
    pod["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    release
        .api()
        .patch("/work_pools/pool", &json!({"base_job_template": template}));
}

#[test]
fn jobs_outlive_the_pods_that_started_them() {
    let release = Release::install("kubernetes");
    restrict_jobs(&release);
    let run = release.run(&json!({
        "command": "sh -c 'echo it has begun; sleep 20; echo it is over'",
        "image": "worker-test/busybox:1",
        "image_pull_policy": "Never",
        "namespace": release.namespace,
    }));
    release.wait_for(&run, "Running");
    release.kubectl(&["rollout", "restart", "deployment/prefect-worker"]);
    release.kubectl(&[
        "rollout",
        "status",
        "deployment/prefect-worker",
        "--timeout",
        "90s",
    ]);
    let label = "app.kubernetes.io/component=worker";
    release.kubectl(&["delete", "pods", "--selector", label]);
    release.wait_for(&run, "Completed");
    let jobs = release.kubectl(&["get", "jobs", "--output", "name"]);
    assert!(jobs.lines().count() <= 1, "{jobs}");
    wait::until("the log has all of it", BOUND, || {
        let filter = json!({"logs": {"flow_run_id": {"any_": [run]}}});
        let log = release.api().post("/logs/filter", &filter).to_string();
        // Its journal went with the first pod, so the next one cannot know what was sent.
        let whole = log.contains("it has begun") && log.contains("it is over");
        if whole { Ok(()) } else { Err(log) }
    });
}
