//! The Docker driver as the suite sees it: containers that behave, in shell, and an engine that can be taken away.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::ContainerCreateBody,
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
        RemoveContainerOptions, TopOptions,
    },
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use worker_drivers::{
    Driver, Environment, Job, OutputStream, Owner, Program, RunKey,
    conformance::{Behaviour, MISSING_PROGRAM, Subject},
    docker::{DockerDriver, DockerOptions, DockerSettings, Endpoint, EnvironmentMode},
};

/// Where the engine is.
const HOST_VARIABLE: &str = "WORKER_TEST_DOCKER_HOST";

/// An image with a shell and what belongs to it.
pub(crate) const IMAGE: &str = "worker-test/busybox:1";

/// The Docker driver, with a way to its engine that can be cut.
pub(crate) struct DockerSubject {
    folder: TempDir,
    engine: PathBuf,
    /// Passes everything on to the engine while it lives.
    way: Mutex<JoinSet<()>>,
    pub(crate) environment: EnvironmentMode,
    pub(crate) keep_failed: Duration,
    pub(crate) bind_workspace: bool,
}

// === impl DockerSubject ===

impl DockerSubject {
    pub(crate) fn new() -> Self {
        let host = std::env::var(HOST_VARIABLE).unwrap_or_else(|_| {
            panic!("{HOST_VARIABLE} is not set; `tests/docker/engine` starts an engine and says it")
        });
        let engine = host
            .strip_prefix("unix://")
            .expect("a socket of this machine")
            .into();
        let subject = Self {
            folder: tempfile::tempdir().expect("there is room"),
            engine,
            way: Mutex::default(),
            environment: EnvironmentMode::default(),
            keep_failed: Duration::ZERO,
            bind_workspace: false,
        };
        subject.open_way();
        subject
    }

    pub(crate) fn client(&self) -> Docker {
        let path = self.engine.to_str().expect("it is text");
        Docker::connect_with_unix(path, 60, API_DEFAULT_VERSION).expect("the engine is there")
    }

    pub(crate) fn options(&self) -> DockerOptions {
        DockerOptions {
            settings: DockerSettings {
                version: "3.8.8".to_owned(),
                default_image: IMAGE.to_owned(),
                api_url: None,
                current_dir: self.folder.path().to_owned(),
                bind_workspace: self.bind_workspace,
            },
            endpoint: Endpoint {
                url: format!("unix://{}", self.socket().display()),
                certificates: None,
            },
            environment: self.environment,
            keep_failed: self.keep_failed,
            config_folder: self.folder.path().join("config"),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    fn open_way(&self) {
        let listener = UnixListener::bind(self.socket()).expect("the socket is free");
        let mut way = self.way.lock().expect("nothing panics");
        way.spawn(pass_on(listener, self.engine.clone()));
    }

    /// A client whose credentials a registry can read, which bollard's are not always.
    pub(crate) fn registry_client(&self) -> Docker {
        self.client().with_request_modifier(|mut request| {
            if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
                let spelled = value
                    .to_str()
                    .expect("it is text")
                    .replace('+', "-")
                    .replace('/', "_");
                *value = spelled.parse().expect("it is text");
            }
            request
        })
    }

    /// What the engine calls the container of a job.
    pub(crate) async fn name_of(&self, key: RunKey) -> String {
        let container = self.only_container(key).await;
        let shown = self
            .client()
            .inspect_container(&container, None::<InspectContainerOptions>)
            .await;
        shown.expect("it is there").name.expect("it has a name")
    }

    /// Does what `docker rm -f` does.
    pub(crate) async fn remove_from_outside(&self, key: RunKey) {
        let container = self.only_container(key).await;
        self.remove(&container).await;
    }

    /// Removes one container, as somebody would.
    pub(crate) async fn remove(&self, container: &str) {
        let options = RemoveContainerOptions {
            force: true,
            ..RemoveContainerOptions::default()
        };
        let removed = self
            .client()
            .remove_container(container, Some(options))
            .await;
        removed.expect("it was there");
    }

    /// Leaves what a worker leaves that dies between making a container and starting it.
    pub(crate) async fn create_only(&self, key: RunKey, owner: &Owner) -> String {
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["sleep", "3600"],
            "Labels": {"io.prefect-worker.job": key.to_string(), "io.prefect-worker.owner": owner.0},
            "HostConfig": {"NetworkMode": "none"},
        });
        let body: ContainerCreateBody = serde_json::from_value(body).expect("it is one");
        let created = self
            .client()
            .create_container(None::<CreateContainerOptions>, body)
            .await;
        created.expect("it can be made").id
    }

    async fn only_container(&self, key: RunKey) -> String {
        let mut containers = self.containers(key).await;
        assert_eq!(containers.len(), 1);
        containers.remove(0)
    }

    pub(crate) async fn containers(&self, key: RunKey) -> Vec<String> {
        let label = format!("io.prefect-worker.job={key}");
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let listed = self.client().list_containers(Some(options)).await;
        let listed = listed.expect("the engine lists");
        listed.into_iter().filter_map(|one| one.id).collect()
    }
}

/// Passes connections on, each until it ends or this is dropped.
async fn pass_on(listener: UnixListener, engine: PathBuf) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, engine.clone()));
    }
}

async fn connect(mut client: UnixStream, engine: PathBuf) {
    let Ok(mut engine) = UnixStream::connect(engine).await else {
        return;
    };
    // Either side may end it.
    tokio::io::copy_bidirectional(&mut client, &mut engine)
        .await
        .ok();
}

#[async_trait]
impl Subject for DockerSubject {
    async fn driver(&self) -> Arc<dyn Driver> {
        let driver = DockerDriver::connect(self.options()).await;
        Arc::new(driver.expect("the address is one"))
    }

    fn job(&self, key: RunKey, owner: Owner, behaviour: &Behaviour) -> Job {
        // The first process of a container takes no signal that it does not ask for. One for init would be there although the program is not.
        let init = *behaviour != Behaviour::MissingProgram;
        let configuration = json!({
            "image": IMAGE,
            "image_pull_policy": "Never",
            "network_mode": "none",
            "container_create_kwargs": {"init": init},
        });
        Job {
            key,
            owner,
            name: "conformance".to_owned(),
            program: Program::Command {
                line: command(behaviour),
                engine: false,
            },
            environment: Environment::default(),
            labels: BTreeMap::new(),
            configuration: configuration.as_object().expect("an object").clone(),
            workspace: None,
        }
    }

    async fn processes(&self, key: RunKey) -> usize {
        let engine = self.client();
        let mut count = 0;
        for container in self.containers(key).await {
            let options = TopOptions {
                ps_args: "-eo pid,args".to_owned(),
            };
            // One that does not run has none.
            let top = engine.top_processes(&container, Some(options)).await;
            let rows = top.ok().and_then(|top| top.processes).unwrap_or_default();
            let is_init = |row: &&Vec<String>| row.iter().any(|cell| cell.contains("docker-init"));
            count += rows.iter().filter(|row| !is_init(row)).count();
        }
        count
    }

    async fn set_reachable(&self, reachable: bool) {
        if reachable {
            self.open_way();
        } else {
            let mut way = std::mem::take(&mut *self.way.lock().expect("nothing panics"));
            way.shutdown().await;
            remove(&self.socket());
        }
    }

    /// What inspecting shows, but for the environment: that the engine shows it is what [`EnvironmentMode::File`] is for.
    async fn traces(&self, key: RunKey) -> String {
        let engine = self.client();
        let mut traces = String::new();
        for container in self.containers(key).await {
            let shown = engine
                .inspect_container(&container, None::<InspectContainerOptions>)
                .await;
            let mut shown = shown.expect("it is there");
            if let Some(config) = &mut shown.config
                && self.environment == EnvironmentMode::Container
            {
                config.env = None;
            }
            write!(traces, "{shown:?}").expect("it is memory");
        }
        traces
    }
}

fn remove(socket: &Path) {
    std::fs::remove_file(socket).expect("it was there");
}

/// A command that behaves like this.
fn command(behaviour: &Behaviour) -> String {
    let shell = |script: &str| format!("sh -c '{script}'");
    // The shell waits in short steps, as it deals with signals between two commands, and leaves no child behind that would count.
    let wait = "while :; do read line <&3; done";
    let fifo = |script: &str| shell(&format!("mkfifo wait; exec 3<>wait; {script}; {wait}"));
    let lines = |count: usize| {
        format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo out $i; echo err $i >&2; done")
    };
    match behaviour {
        Behaviour::Exit(code) => shell(&format!("exit {code}")),
        Behaviour::Signal(signal) => shell(&format!("kill -{signal} $$")),
        Behaviour::Wait => "sleep 3600".to_owned(),
        Behaviour::WaitThenExit(code) => fifo(&format!("trap \"exit {code}\" TERM; echo ready")),
        Behaviour::IgnoreStop => fifo("trap \"\" TERM; echo ready"),
        Behaviour::WaitWithChild => shell("(trap \"\" TERM; setsid sleep 3600 &); exec sleep 3600"),
        Behaviour::LeaveChild => shell("(trap \"\" TERM; setsid sleep 3600 &); exit 0"),
        Behaviour::Write(written) => {
            shell(&written.iter().map(print).collect::<Vec<_>>().join("; "))
        }
        Behaviour::Lines(count) => shell(&lines(*count)),
        Behaviour::LinesThenWait(count) => shell(&format!("{}; exec sleep 3600", lines(*count))),
        Behaviour::LongLine(length) => shell(&format!(
            "head -c {length} /dev/zero | tr \"\\\\000\" x; echo"
        )),
        Behaviour::LastWords => fifo("trap \"echo last words; exit 0\" TERM; echo ready"),
        Behaviour::MissingProgram => MISSING_PROGRAM.to_owned(),
    }
}

fn print((stream, bytes): &(OutputStream, &'static [u8])) -> String {
    let octal: Vec<_> = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let octal = octal.concat();
    match stream {
        OutputStream::Stdout => format!("printf \"{octal}\""),
        OutputStream::Stderr => format!("printf \"{octal}\" >&2"),
    }
}
