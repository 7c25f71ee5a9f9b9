//! The Kubernetes driver as the suite sees it: pods that behave, in shell, and a cluster that can be taken away.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{
    batch::v1::Job as ClusterJob,
    core::v1::{Namespace, Pod, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use worker_drivers::{
    Driver, Environment, Job, OutputStream, Owner, Program, RunKey,
    conformance::{Behaviour, MISSING_PROGRAM, Subject},
    kubernetes::{Access, KubernetesDriver, KubernetesOptions, KubernetesSettings},
};

/// An image with a shell and what belongs to it.
pub(crate) const IMAGE: &str = "busybox:1.35";

/// The namespace of all these tests, but for those that are about namespaces.
pub(crate) const NAMESPACE: &str = "worker-tests";

/// By this variable processes are known for those of a job.
const KEY: &str = "CONFORMANCE_JOB";

/// The first version whose kubelet records how a container ended before it removes it.
const RECORDS_ENDS: u32 = 22;

/// The Kubernetes driver, with a way to its cluster that can be cut.
pub(crate) struct KubernetesSubject {
    folder: TempDir,
    cluster: SocketAddr,
    way: SocketAddr,
    open: Mutex<JoinSet<()>>,
    pub(crate) client: Client,
    /// The minor version of the cluster, whose kubelets are no newer.
    version: u32,
}

// === impl KubernetesSubject ===

impl KubernetesSubject {
    pub(crate) async fn new() -> Self {
        let path = kubeconfig();
        let mut kubeconfig = Kubeconfig::read_from(&path).expect("it is a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await;
        let config = config.expect("it leads to a cluster");
        let host = config.cluster_url.host().expect("it has a host").to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let cluster = tokio::net::lookup_host((host.as_str(), port)).await;
        let cluster = cluster.expect("it is found").next().expect("it is there");
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let way = listener.local_addr().expect("it is bound");
        for known in &mut kubeconfig.clusters {
            let known = known.cluster.as_mut().expect("it has a cluster");
            known.server = Some(format!("https://{way}"));
            known.tls_server_name = Some(host.clone());
        }
        let folder = tempfile::tempdir().expect("there is room");
        let text = serde_json::to_string(&kubeconfig).expect("it can be written");
        std::fs::write(folder.path().join("kubeconfig"), text).expect("there is room");
        let client = Client::try_from(config).expect("it can be spoken to");
        let version = client.apiserver_version().await.expect("it answers").minor;
        let digits = version.trim_end_matches(|one: char| !one.is_ascii_digit());
        let subject = Self {
            folder,
            cluster,
            way,
            open: Mutex::default(),
            client,
            version: digits.parse().expect("it is a number"),
        };
        subject.open_way(listener);
        subject.make_namespace(NAMESPACE).await;
        subject
    }

    pub(crate) fn options(&self) -> KubernetesOptions {
        KubernetesOptions {
            settings: KubernetesSettings {
                default_image: IMAGE.to_owned(),
                ..KubernetesSettings::default()
            },
            access: Access::Kubeconfig(vec![self.path()]),
            namespaces: Vec::new(),
            pod_events: true,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn open_way(&self, listener: TcpListener) {
        let mut open = self.open.lock().expect("nothing panics");
        open.spawn(pass_on(listener, self.cluster));
    }

    /// Makes a namespace, if it is not there, in which pods can be made.
    pub(crate) async fn make_namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        // Another test may have made it.
        drop(namespaces.create(&PostParams::default(), &namespace).await);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), name);
        while accounts
            .get_opt("default")
            .await
            .expect("the cluster answers")
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn jobs_api(&self) -> Api<ClusterJob> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn pods(&self, key: RunKey) -> Vec<Pod> {
        let pods = self.pods_api().list(&of(key)).await;
        pods.expect("the cluster lists").items
    }

    pub(crate) async fn jobs(&self, key: RunKey) -> Vec<ClusterJob> {
        let jobs = self.jobs_api().list(&of(key)).await;
        jobs.expect("the cluster lists").items
    }

    pub(crate) async fn secrets(&self, key: RunKey) -> Vec<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        secrets
            .list(&of(key))
            .await
            .expect("the cluster lists")
            .items
    }

    /// Does what `kubectl delete job` does.
    pub(crate) async fn delete_job(&self, key: RunKey) {
        for job in self.jobs(key).await {
            let name = job.metadata.name.expect("it has a name");
            let deleted = self
                .jobs_api()
                .delete(&name, &DeleteParams::background())
                .await;
            deleted.expect("it was there");
        }
    }

    /// Does what `kubectl delete pod` does.
    pub(crate) async fn delete_pod(&self, key: RunKey) {
        for pod in self.pods(key).await {
            let name = pod.metadata.name.expect("it has a name");
            let parameters = DeleteParams::default().grace_period(1);
            let deleted = self.pods_api().delete(&name, &parameters).await;
            deleted.expect("it was there");
        }
    }
}

fn of(key: RunKey) -> ListParams {
    ListParams::default().labels(&format!("prefect-worker.io/job={key}"))
}

/// Where the cluster is.
pub(crate) fn kubeconfig() -> PathBuf {
    let named = ["WORKER_TEST_KUBECONFIG", "KUBECONFIG"];
    let named = named.iter().find_map(std::env::var_os);
    named
        .expect("WORKER_TEST_KUBECONFIG or KUBECONFIG names the kubeconfig of a cluster")
        .into()
}

/// Passes connections on, each until it ends or this is dropped.
async fn pass_on(listener: TcpListener, cluster: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, cluster));
    }
}

async fn connect(mut client: TcpStream, cluster: SocketAddr) {
    let Ok(mut cluster) = TcpStream::connect(cluster).await else {
        return;
    };
    // Either side may end it.
    tokio::io::copy_bidirectional(&mut client, &mut cluster)
        .await
        .ok();
}

/// A job configuration for a container that runs this.
pub(crate) fn configuration(args: &Value) -> Value {
    json!({
        "namespace": NAMESPACE,
        "job_manifest": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"labels": {}},
            "spec": {
                "backoffLimit": 0,
                "template": {"spec": {
                    "parallelism": 1,
                    "completions": 1,
                    "restartPolicy": "Never",
                    "hostNetwork": true,
                    // The first process of a container takes no signal that it does not ask for; this way none of ours is.
                    "shareProcessNamespace": true,
                    "containers": [{
                        "name": "prefect-job",
                        "image": IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "args": args,
                    }],
                }},
            },
        },
    })
}

/// A job with this configuration.
pub(crate) fn job(key: RunKey, owner: Owner, configuration: &Value) -> Job {
    Job {
        key,
        owner,
        name: "conformance".to_owned(),
        program: Program::Command {
            line: "as the manifest says".to_owned(),
            engine: false,
        },
        environment: Environment(BTreeMap::from([(KEY.to_owned(), key.to_string())])),
        labels: BTreeMap::new(),
        configuration: configuration.as_object().expect("an object").clone(),
        workspace: None,
    }
}

#[async_trait]
impl Subject for KubernetesSubject {
    async fn driver(&self) -> Arc<dyn Driver> {
        let driver = KubernetesDriver::connect(self.options()).await;
        Arc::new(driver.expect("the address is one"))
    }

    fn job(&self, key: RunKey, owner: Owner, behaviour: &Behaviour) -> Job {
        job(key, owner, &configuration(&command(behaviour)))
    }

    /// Of a cluster on this machine: all that a job starts has a variable of it. What the cluster has forgotten counts as well.
    async fn processes(&self, key: RunKey) -> usize {
        let variable = format!("{KEY}={key}\0");
        let all = std::fs::read_dir("/proc").expect("there is one");
        let is_ours = |entry: &std::fs::DirEntry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut parts = environment.split_inclusive(|byte| *byte == 0);
            parts.any(|part| part == variable.as_bytes())
        };
        all.flatten().filter(is_ours).count()
    }

    async fn set_reachable(&self, reachable: bool) {
        if reachable {
            let listener = TcpListener::bind(self.way).await;
            self.open_way(listener.expect("the port is still free"));
        } else {
            let mut open = std::mem::take(&mut *self.open.lock().expect("nothing panics"));
            open.shutdown().await;
        }
    }

    /// Everything that the cluster shows of it, but for its plain environment.
    async fn traces(&self, key: RunKey) -> String {
        let mut traces = Vec::new();
        for mut job in self.jobs(key).await {
            let pod = job
                .spec
                .as_mut()
                .and_then(|spec| spec.template.spec.as_mut());
            for container in pod.into_iter().flat_map(|pod| &mut pod.containers) {
                container.env = None;
            }
            traces.push(format!("{job:?}"));
        }
        for mut pod in self.pods(key).await {
            for container in pod.spec.iter_mut().flat_map(|pod| &mut pod.containers) {
                container.env = None;
            }
            traces.push(format!("{pod:?}"));
        }
        for secret in self.secrets(key).await {
            traces.push(format!("{:?}", secret.metadata));
        }
        traces.concat()
    }

    fn starts_later(&self) -> bool {
        true
    }

    fn keeps_streams_apart(&self) -> bool {
        false
    }

    fn loses_ends(&self) -> bool {
        self.version < RECORDS_ENDS
    }

    /// A kubelet before 1.22 ends a pod in the time that it was told first.
    fn longest_grace(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// A command that behaves like this.
fn command(behaviour: &Behaviour) -> Value {
    let shell = |script: &str| json!(["sh", "-c", script]);
    // The shell waits in short steps, as it deals with signals between two commands, and leaves no child behind that would count.
    let wait = "while :; do read line <&3; done";
    let fifo = |script: &str| {
        shell(&format!(
            "mkfifo /tmp/wait; exec 3<>/tmp/wait; {script}; {wait}"
        ))
    };
    let lines = |count: usize| {
        format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo out $i; echo err $i >&2; done")
    };
    match behaviour {
        Behaviour::Exit(code) => shell(&format!("exit {code}")),
        // The cluster makes one of two dollar signs.
        Behaviour::Signal(signal) => shell(&format!("kill -{signal} $$$$")),
        Behaviour::Wait => json!(["sleep", "3600"]),
        Behaviour::WaitThenExit(code) => fifo(&format!("trap 'exit {code}' TERM; echo ready")),
        Behaviour::IgnoreStop => fifo("trap '' TERM; echo ready"),
        Behaviour::WaitWithChild => shell("(trap '' TERM; setsid sleep 3600 &); exec sleep 3600"),
        Behaviour::LeaveChild => shell("(trap '' TERM; setsid sleep 3600 &); exit 0"),
        Behaviour::Write(written) => {
            shell(&written.iter().map(print).collect::<Vec<_>>().join("; "))
        }
        Behaviour::Lines(count) => shell(&lines(*count)),
        Behaviour::LinesThenWait(count) => shell(&format!("{}; exec sleep 3600", lines(*count))),
        Behaviour::LongLine(length) => {
            shell(&format!("head -c {length} /dev/zero | tr '\\000' x; echo"))
        }
        Behaviour::LastWords => fifo("trap 'echo last words; exit 0' TERM; echo ready"),
        Behaviour::MissingProgram => json!([MISSING_PROGRAM]),
    }
}

fn print((stream, bytes): &(OutputStream, &'static [u8])) -> String {
    let octal: Vec<_> = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let octal = octal.concat();
    match stream {
        OutputStream::Stdout => format!("printf '{octal}'"),
        OutputStream::Stderr => format!("printf '{octal}' >&2"),
    }
}
