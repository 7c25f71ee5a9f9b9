//! An API in the test's own process with a Kubernetes pool, a namespace of its own whose pods are played, and a worker that has the chart's Role there
//! and nothing else.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
pub(crate) use worker_tests::stage::text;
use worker_tests::{
    files::root,
    gateway::{Gateway, Identity},
    http::Api,
    kubelet::Kubelet,
    program::{Program, Running},
    stage, wait,
};

use crate::PROGRAM;

/// How long anything may take that a loaded machine does in a second.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// How soon the end of a job is seen, whatever happens on the way. On a loaded machine the rest takes its time too.
pub(crate) const SEEN: Duration = Duration::from_mins(1);

pub(crate) const POOL: &str = "k8s-pool";

/// The release of the chart, whose service account the worker is.
const RELEASE: &str = "prefect-worker";

/// All that a test has.
pub(crate) struct Stage {
    api: stage::Stage,
    pub(crate) namespace: String,
    /// The worker's way to the cluster.
    pub(crate) way: Gateway,
    /// Another, as if to another cluster.
    pub(crate) other_way: Gateway,
    administrator: Gateway,
    pub(crate) kubelet: Kubelet,
    folder: TempDir,
}

/// How many namespaces there are.
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

// === impl Stage ===

impl Deref for Stage {
    type Target = stage::Stage;

    fn deref(&self) -> &stage::Stage {
        &self.api
    }
}

impl Stage {
    pub(crate) fn set() -> Self {
        let kubeconfig = kubeconfig();
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("control-{}-{number}", std::process::id());
        let administrator = Gateway::open(&kubeconfig, Identity::Administrator);
        let administrator = administrator.expect("the kubeconfig leads to a cluster");
        let cluster = Api::at_root_of(administrator.address());
        let named =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.post("/api/v1/namespaces", &named);
        let folder = kubeconfig.parent().expect("it is a file");
        let kubelet = Kubelet::start(cluster, &namespace, folder).expect("pods can be played");
        let stage = Self {
            api: stage::Stage::set(),
            way: Gateway::open(&kubeconfig, Identity::Bearer).expect("it has led there"),
            other_way: Gateway::open(&kubeconfig, Identity::Bearer).expect("it has led there"),
            administrator,
            kubelet,
            namespace,
            folder: TempDir::with_prefix("worker-test-").expect("there is room"),
        };
        for object in stage.access() {
            stage.make(&object);
        }
        stage.write_token(&stage.token(None));
        stage.write_kubeconfig();
        stage.make_pool();
        stage
    }

    /// The cluster, as somebody who may do everything.
    pub(crate) fn cluster(&self) -> Api {
        Api::at_root_of(self.administrator.address())
    }

    /// What the chart makes of access: the service account, the Role, its binding.
    pub(crate) fn access(&self) -> Vec<Value> {
        let program = std::env::var("WORKER_TEST_HELM");
        let program = program.expect("WORKER_TEST_HELM is set; `tests/helm/set-up` says it");
        let values = [
            "worker.config.workPool=pool",
            "worker.apiConfig=selfHostedServer",
            "worker.selfHostedServerApiConfig.apiUrl=http://prefect.example:4200/api",
        ];
        let output = Command::new(program)
            .args(["template", RELEASE, "--namespace", &self.namespace])
            .args([
                "--show-only",
                "templates/access.yaml",
                "--set",
                &values.join(","),
            ])
            .arg(root().join("deploy/helm/worker"))
            .output()
            .expect("Helm can be run");
        let text = String::from_utf8(output.stdout).expect("Helm writes UTF-8");
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("Helm writes YAML");
        let objects = objects.into_iter().filter(Value::is_object);
        let objects: Vec<Value> = objects.collect();
        assert_eq!(
            objects.len(),
            3,
            "{text}; {:?}",
            String::from_utf8_lossy(&output.stderr)
        );
        objects
    }

    /// Makes an object in the namespace, or makes it anew.
    pub(crate) fn make(&self, object: &Value) {
        let (group, plural) = match object["kind"].as_str() {
            Some("ServiceAccount") => ("/api/v1", "serviceaccounts"),
            Some("Role") => ("/apis/rbac.authorization.k8s.io/v1", "roles"),
            Some("RoleBinding") => ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
            Some("Secret") => ("/api/v1", "secrets"),
            other => panic!("{other:?}"),
        };
        let path = format!("{group}/namespaces/{}/{plural}", self.namespace);
        let cluster = self.cluster();
        let name = text(&object["metadata"]["name"]);
        let made = cluster
            .send("POST", &path, Some(object))
            .expect("the cluster answers");
        if made.status == 409 {
            let path = format!("{path}/{name}");
            let made = cluster
                .send("PUT", &path, Some(object))
                .expect("the cluster answers");
            assert_eq!(made.status, 200, "{}", made.body);
        } else {
            assert_eq!(made.status, 201, "{}", made.body);
        }
    }

    /// Gives the worker the chart's Role without this verb on this resource.
    pub(crate) fn allow_all_but(&self, verb: &str, resource: &str) {
        let objects = self.access();
        let mut role = objects.into_iter().find(|object| object["kind"] == "Role");
        let role = role.as_mut().expect("the chart has one");
        let rules = role["rules"].as_array_mut().expect("a Role has rules");
        let mut removed = 0;
        for rule in &mut *rules {
            if rule["resources"] == json!([resource]) {
                let verbs = rule["verbs"].as_array_mut().expect("a rule has verbs");
                let before = verbs.len();
                verbs.retain(|one| one != verb);
                removed += before - verbs.len();
            }
        }
        rules.retain(|rule| rule["verbs"] != json!([]));
        assert!(
            removed == 1 || verb.is_empty(),
            "the chart does not have {verb} {resource}"
        );
        self.make(role);
    }

    /// A token of the worker's service account, which ends with the Secret that it is bound to.
    pub(crate) fn token(&self, bound_to: Option<&str>) -> String {
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600},
        });
        if let Some(name) = bound_to {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
            self.make(&secret);
            request["spec"]["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": "Secret", "name": name});
        }
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{RELEASE}/token",
            self.namespace
        );
        text(&self.cluster().post(&path, &request)["status"]["token"])
    }

    /// Waits until the cluster takes a token no more.
    #[track_caller]
    pub(crate) fn wait_until_refused(&self, token: &str) {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let is_refused = || self.cluster().post(path, &review)["status"]["authenticated"] != true;
        assert!(wait::holds(BOUND, is_refused), "the token is still taken");
    }

    /// Puts a token where the worker looks for it.
    pub(crate) fn write_token(&self, token: &str) {
        fs::write(self.folder.path().join("token"), token).expect("there is room");
    }

    /// A kubeconfig over the worker's way, as its service account, by the token in a file as pods have it.
    fn write_kubeconfig(&self) {
        let config = self.kubeconfig_to(&self.way);
        fs::write(self.kubeconfig(), config.to_string()).expect("there is room");
    }

    /// A kubeconfig over any way.
    pub(crate) fn kubeconfig_to(&self, way: &Gateway) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", way.address())}}],
            "users": [{"name": "worker", "user": {"tokenFile": self.folder.path().join("token")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "worker", "namespace": self.namespace}}],
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn make_pool(&self) {
        let mut template = worker_drivers::kubernetes::default_template();
        template["variables"]["properties"]["namespace"]["default"] = json!(self.namespace);
        let pool = json!({"name": POOL, "type": "kubernetes", "base_job_template": template});
        self.api().post("/work_pools/", &pool);
        // A namespace takes pods when its service account is there, and before 1.24 when that has a token.
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", self.namespace);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
            "spec": {"containers": [{"name": "probe", "image": "probe"}]},
        });
        wait::until("pods can be made", BOUND, || {
            let answer = self.cluster().send("POST", &path, Some(&pod));
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status == 201 {
                Ok(())
            } else {
                Err(answer.body.to_string())
            }
        });
    }

    pub(crate) fn worker(&self) -> Program {
        stage::hurried(Program::new(PROGRAM), &self.api())
            .with("KUBECONFIG", self.kubeconfig().display().to_string())
            .with("WORKER_STOP_GRACE", "2")
    }

    /// Makes a flow run of a command that is played; its id.
    pub(crate) fn run(&self, command: &str, more: &Value) -> String {
        let mut variables = json!({"command": format!("play {command}"), "image": "played"});
        stage::merge(&mut variables, more);
        stage::run(&self.api(), POOL, &json!({"job_variables": variables}))
    }

    /// Changes the deployment of a flow run.
    pub(crate) fn change_deployment(&self, run: &str, fields: &Value) {
        let run = self.api().get(&format!("/flow_runs/{run}"));
        let deployment = text(&run["deployment_id"]);
        self.api()
            .patch(&format!("/deployments/{deployment}"), fields);
    }

    #[track_caller]
    pub(crate) fn wait_until_runs(&self, run: &str, worker: &Running) {
        wait::until("the flow run runs", BOUND, || {
            let (name, message) = self.state(run);
            if name == "Running" {
                return Ok(());
            }
            Err(format!(
                "{name} {message}; {:?}; {}",
                self.way.counts(),
                worker.stderr()
            ))
        });
    }

    /// The Jobs that a flow run has.
    pub(crate) fn jobs(&self, run: &str) -> Vec<Value> {
        let path = format!(
            "/apis/batch/v1/namespaces/{}/jobs?labelSelector=prefect.io/flow-run-id={run}",
            self.namespace
        );
        let jobs = self.cluster().get(&path);
        jobs["items"].as_array().cloned().unwrap_or_default()
    }
}

// === functions ===

fn kubeconfig() -> PathBuf {
    let named = std::env::var_os("WORKER_TEST_CONTROL_KUBECONFIG");
    let named =
        named.expect("WORKER_TEST_CONTROL_KUBECONFIG names the kubeconfig of a control plane");
    Path::new(&named).to_owned()
}
