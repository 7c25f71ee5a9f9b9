//! Docker containers: the `docker` work pool type, on Docker and on Podman's compatible API.
//!
//! The engine remembers everything: a container's labels say whose it is and for which attempt, so a worker's successor needs nothing but the engine to
//! find its jobs again. [`Options`] is the typed job configuration, [`prepare()`] makes of a job the container that the reference would ask for,
//! and [`plan()`] what we ask for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bollard::Docker;
use futures::stream::BoxStream;
use tokio::{
    sync::{broadcast, watch as watch_channel},
    task::JoinSet,
};

use tracing::Instrument;
use worker_config::{DriverKind, policy::Policy};

use crate::{
    driver::{Driver, DriverError, Health, JobEvent, LogStream, Owned, Recovered, Submitted},
    examination::{Examination, Finding},
    job::{Handle, Job, LogCursor, Owner, RunKey, StopRequest},
    plan::Plan as AnyPlan,
};

pub use connection::Endpoint;
pub use image::PullPolicy;
pub use options::{CreateKwargs, Options, RegistryCredentials};
pub use plan::{Body, Plan, plan};
pub use prepare::{Prepared, prepare};
pub use state::container;

mod act;
mod connection;
mod error;
mod examine;
mod image;
mod keep;
mod kwargs;
mod logs;
mod network;
mod options;
mod plan;
mod prepare;
mod pull;
mod registry;
mod size;
mod state;
mod stop;
mod volume;
mod watch;
mod workspace;

/// What a worker's containers have in common.
#[derive(Clone, Debug)]
pub struct DockerSettings {
    /// The release of Prefect that containers are labelled with.
    pub version: String,
    /// The image of jobs that name none.
    pub default_image: String,
    /// The API that this worker speaks to, if it is known.
    pub api_url: Option<String>,
    /// What relative sources of volumes are relative to.
    pub current_dir: PathBuf,
    /// Whether a workspace is mounted from this machine instead of copied in. The engine has to be on it, and the container's user may have to be the worker's.
    pub bind_workspace: bool,
}

/// How a worker runs containers.
#[derive(Clone, Debug)]
pub struct DockerOptions {
    /// What its containers have in common.
    pub settings: DockerSettings,
    /// The engine.
    pub endpoint: Endpoint,
    /// How containers get their environment.
    pub environment: EnvironmentMode,
    /// How long containers stay that ended badly, before they are removed.
    pub keep_failed: Duration,
    /// Where the Docker command line keeps its configuration, with what it knows of registries.
    pub config_folder: PathBuf,
}

/// How a container gets its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvironmentMode {
    /// As a part of the container, as the reference does it: whoever may inspect containers reads all of it.
    #[default]
    Container,
    /// In a file that is put into the container before it starts, and that its first process reads. Inspecting the container shows nothing of it. The image
    /// needs a `/bin/sh`.
    File,
}

/// The driver of Docker containers.
#[derive(Debug)]
pub struct DockerDriver {
    shared: Arc<Shared>,
}

/// What the driver's methods, its streams and its tasks share.
struct Shared {
    options: DockerOptions,
    /// For what is answered at once.
    control: OnceLock<Docker>,
    /// For what takes the engine some work, and for streams.
    work: OnceLock<Docker>,
    health: watch_channel::Sender<Health>,
    /// What jobs wait for before they start.
    notices: broadcast::Sender<watch::Notice>,
    pulls: Mutex<Vec<pull::Pulling>>,
    /// Held while a container of an attempt is made or removed.
    locks: Mutex<HashMap<RunKey, Arc<tokio::sync::Mutex<()>>>>,
    stops: Mutex<HashMap<RunKey, stop::Stopping>>,
    /// Attempts that we are removing or have removed: their ends are no news.
    removed: Mutex<HashSet<RunKey>>,
    owners: Mutex<HashSet<Owner>>,
    /// When the engine was last away.
    outage: Mutex<Option<state::Outage>>,
    /// What goes on although nobody waits for it. It ends with the driver.
    tasks: Mutex<JoinSet<()>>,
}

/// Who we are in errors.
const ENGINE: &str = "Docker engine";

/// The version of [`Handle::state`].
const HANDLE_VERSION: u16 = 1;

/// Notices that may wait for a slow consumer of events. They are about progress only, and losing one harms nobody.
const NOTICES: usize = 256;

// === impl DockerOptions ===

impl DockerOptions {
    /// The usual: what a `docker` with the same environment would speak to.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for an environment that leads nowhere.
    pub fn from_environment(
        settings: DockerSettings,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, DriverError> {
        Ok(Self {
            settings,
            endpoint: Endpoint::find(environment)?,
            environment: EnvironmentMode::default(),
            keep_failed: Duration::ZERO,
            config_folder: connection::config_folder(environment),
        })
    }
}

// === impl DockerDriver ===

impl DockerDriver {
    /// Asks the engine how it is, and goes on asking until the driver is dropped. An engine that does not answer is no error: its health says so.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for an address that nobody can speak to.
    pub async fn connect(options: DockerOptions) -> Result<Self, DriverError> {
        let shared = Arc::new(Shared {
            options,
            control: OnceLock::new(),
            work: OnceLock::new(),
            health: watch_channel::Sender::new(Health::Up),
            notices: broadcast::Sender::new(NOTICES),
            pulls: Mutex::default(),
            locks: Mutex::default(),
            stops: Mutex::default(),
            removed: Mutex::default(),
            owners: Mutex::default(),
            outage: Mutex::default(),
            tasks: Mutex::default(),
        });
        if let Err(error @ DriverError::Invalid { .. }) = shared.control() {
            return Err(error);
        }
        watch::look_once(&shared).await;
        shared.spawn(watch::keep_looking(Arc::clone(&shared)));
        Ok(Self { shared })
    }
}

impl Drop for DockerDriver {
    fn drop(&mut self) {
        // Tasks hold what we share, so nothing else would end them.
        lock(&self.shared.tasks).abort_all();
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Docker
    }

    fn default_template(&self) -> serde_json::Value {
        default_template()
    }

    fn health(&self) -> watch_channel::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn plan(&self, job: &Job, policy: &Policy) -> Result<AnyPlan, DriverError> {
        let DockerOptions {
            settings,
            environment,
            ..
        } = &self.shared.options;
        let plan = plan(job, policy, settings, *environment)?;
        Ok(AnyPlan::Docker(Box::new(plan)))
    }

    async fn submit(&self, plan: &AnyPlan) -> Result<Submitted, DriverError> {
        let AnyPlan::Docker(plan) = plan else {
            return Err(DriverError::Unsupported {
                what: "a plan of another driver".to_owned(),
            });
        };
        act::submit(&self.shared, plan).await
    }

    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError> {
        if handle.kind != DriverKind::Docker || handle.version != HANDLE_VERSION {
            return Err(DriverError::Unsupported {
                what: format!(
                    "a handle of kind {} and version {}",
                    handle.kind, handle.version
                ),
            });
        }
        let recovered = act::recover(&self.shared, handle).await;
        Ok(recovered.unwrap_or_else(|error| Recovered::Unreachable {
            reason: error.to_string(),
        }))
    }

    fn events(&self, owner: &Owner) -> BoxStream<'static, JobEvent> {
        self.shared.know(owner);
        watch::events(Arc::clone(&self.shared), owner.clone())
    }

    fn logs(&self, handle: &Handle, from: LogCursor) -> LogStream {
        logs::follow(Arc::clone(&self.shared), handle, from)
    }

    async fn stop(&self, handle: &Handle, request: StopRequest) -> Result<(), DriverError> {
        stop::stop(&self.shared, handle, request).await
    }

    async fn destroy(&self, key: RunKey) -> Result<(), DriverError> {
        act::destroy(&self.shared, key).await
    }

    async fn list_owned(&self, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
        self.shared.know(owner);
        act::list_owned(&self.shared, owner).await
    }

    async fn examine(&self, examination: Examination<'_>) -> Vec<Finding> {
        examine::examine(&self.shared, examination).await
    }
}

// === impl Shared ===

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("endpoint", &self.options.endpoint)
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn control(&self) -> Result<&Docker, DriverError> {
        self.client(&self.control, connection::CONTROL_LIMIT)
    }

    fn work(&self) -> Result<&Docker, DriverError> {
        self.client(&self.work, connection::WORK_LIMIT)
    }

    /// Made when it is first needed: the socket of an engine may appear later than we do.
    fn client<'a>(
        &self,
        cell: &'a OnceLock<Docker>,
        limit: Duration,
    ) -> Result<&'a Docker, DriverError> {
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.options.endpoint.client(limit)?;
        Ok(cell.get_or_init(|| client))
    }

    /// Does something whether or not anybody goes on waiting for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work.in_current_span())
    }

    /// Remembers whose containers this driver may touch.
    fn know(&self, owner: &Owner) {
        lock(&self.owners).insert(owner.clone());
    }

    /// What we know of the end of an attempt that its container does not say.
    fn circumstances(&self, key: RunKey) -> state::Circumstances {
        state::Circumstances {
            by_us: stop::is_ours(self, key),
            outage: *lock(&self.outage),
        }
    }

    /// Who makes or removes the container of an attempt holds this.
    async fn lock_of(&self, key: RunKey) -> tokio::sync::OwnedMutexGuard<()> {
        let of_key = Arc::clone(lock(&self.locks).entry(key).or_default());
        of_key.lock_owned().await
    }

    /// Whether somebody is just making or removing the container of an attempt.
    fn is_busy(&self, key: RunKey) -> bool {
        lock(&self.locks)
            .get(&key)
            .is_some_and(|lock| lock.try_lock().is_err())
    }

    /// Forgets what is kept of an attempt that is gone.
    fn forget(&self, key: RunKey) {
        lock(&self.stops).remove(&key);
        lock(&self.locks).retain(|one, lock| *one != key || Arc::strong_count(lock) > 1);
    }
}

/// Nothing panics while it holds one of our locks, and what they guard is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The base job template of a Docker pool.
///
/// # Panics
/// Never: a test has read it.
pub fn default_template() -> serde_json::Value {
    serde_json::from_str(include_str!("docker/template.json")).expect("a test reads it")
}

#[cfg(test)]
mod tests;
