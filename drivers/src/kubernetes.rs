//! Kubernetes Jobs: the `kubernetes` work pool type.
//!
//! The cluster is the memory of this driver: a Job's labels say whose it is and for which attempt, its annotations how long it may take, so a worker's
//! successor needs nothing but the cluster to find its jobs again. [`Options`] is the typed job configuration, [`prepare()`] makes of a job the
//! manifest that the reference would submit, and [`plan()`] what we submit. Manifests are plain JSON, because people put into their templates what
//! no typed `Job` would keep.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::{
    sync::{Semaphore, watch as watch_channel},
    task::JoinSet,
};
use tracing::Instrument as _;

use worker_config::{DriverKind, policy::Policy};

use crate::{
    driver::{Driver, DriverError, Health, JobEvent, LogStream, Owned, Recovered, Submitted},
    examination::{Examination, Finding},
    job::{Handle, Job, LogCursor, Outcome, Owner, RunKey, StopRequest},
    plan::Plan as AnyPlan,
};

use clusters::Clusters;
use view::Views;

pub use connection::Access;
pub use options::{ClusterConfig, Options};
pub use plan::{Manifest, OwnSecret, Plan, plan};
pub use prepare::{Prepared, prepare};
pub use pull_image::{FIELD as PULLED_BY_INIT_CONTAINER, PullImage};
pub use secret::{Credentials, Keep, SecretKey, SecretValues};

mod act;
mod clusters;
mod connection;
mod diagnosis;
mod environment;
mod error;
mod examine;
mod keep;
mod log_text;
mod logs;
mod make;
mod manifest;
mod names;
mod options;
mod plan;
mod pod;
mod pod_events;
mod prepare;
mod pull_image;
mod pull_secret;
mod reasons;
mod secret;
mod sight;
mod state;
mod stop;
mod store;
mod view;
mod watch;

/// What a worker's jobs have in common.
#[derive(Clone, Debug, Default)]
pub struct KubernetesSettings {
    /// The image of jobs that name none.
    pub default_image: String,
    /// How credentials reach jobs.
    pub credentials: Credentials,
    /// What brings code to jobs that do not pull it themselves; none: they all do.
    pub pull_image: Option<PullImage>,
}

/// How a worker runs Jobs.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    /// What its jobs have in common.
    pub settings: KubernetesSettings,
    /// Its own cluster.
    pub access: Access,
    /// The namespaces to look for jobs in. Empty: all, where that is allowed, else those in which jobs are made.
    pub namespaces: Vec<String>,
    /// Whether what happens to the pods of its jobs is told.
    pub pod_events: bool,
}

/// The driver of Kubernetes Jobs.
#[derive(Debug)]
pub struct KubernetesDriver {
    shared: Arc<Shared>,
}

/// What the driver's methods, its streams and its tasks share.
struct Shared {
    options: KubernetesOptions,
    clusters: Clusters,
    /// Counts changes of where there is something to watch.
    places: watch_channel::Sender<u64>,
    health: watch_channel::Sender<Health>,
    /// Who waits for news of which attempt.
    notices: Mutex<HashMap<RunKey, watch_channel::Sender<()>>>,
    /// What event streams see.
    views: Views,
    /// Who makes a Job holds one.
    creating: Semaphore,
    /// Who has the cluster look for the pods of a job holds one.
    listing: Semaphore,
    /// Held while a Job of an attempt is made or removed.
    locks: Mutex<HashMap<RunKey, Arc<tokio::sync::Mutex<()>>>>,
    known: Mutex<HashMap<RunKey, Handle>>,
    stops: Mutex<HashMap<RunKey, stop::Stopping>>,
    /// How jobs ended that the cluster does not have any more.
    ends: Mutex<HashMap<RunKey, Outcome>>,
    tails: Mutex<HashMap<RunKey, Arc<logs::Tail>>>,
    /// Attempts of which we know that they leave no Secret when their Jobs go: there is none, or it goes with its Job.
    tidy: Mutex<HashSet<RunKey>>,
    /// Attempts that we are removing or have removed: their ends are no news.
    removed: Mutex<HashSet<RunKey>>,
    owners: Mutex<HashSet<Owner>>,
    complaints: Mutex<HashSet<&'static str>>,
    /// What goes on although nobody waits for it. It ends with the driver.
    tasks: Mutex<JoinSet<()>>,
}

/// What the reference's settings for its observer begin with (prefect-kubernetes 0.8.0).
const OBSERVER: &str = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_";

/// Who we are in errors.
const ENGINE: &str = "Kubernetes";

/// The version of [`Handle::state`].
const HANDLE_VERSION: u16 = 1;

/// How many Jobs are made at the same time. An API server on a small machine takes about so many before it makes others wait.
const CREATING: usize = 16;

/// How many lists of pods are asked for at the same time: for each, an API server goes through all there are.
const LISTING: usize = 4;

// === impl KubernetesOptions ===

impl KubernetesOptions {
    /// The usual: what the reference's settings, and a `kubectl` with the same environment, would have.
    pub fn from_environment(default_image: String, environment: &BTreeMap<String, String>) -> Self {
        let observer = |name: &str| environment.get(&format!("{OBSERVER}{name}"));
        let is_on = |name: &str| !observer(name).is_some_and(|said| is_no(said));
        let namespaces = observer("NAMESPACES");
        let namespaces = namespaces.into_iter().flat_map(|list| list.split(','));
        let namespaces = namespaces
            .map(|name| name.trim().trim_matches(['[', ']', '"', '\'']).to_owned())
            .filter(|name| !name.is_empty());
        Self {
            settings: KubernetesSettings {
                default_image,
                credentials: Credentials::find(environment),
                pull_image: None,
            },
            access: Access::find(environment),
            namespaces: namespaces.collect(),
            pod_events: is_on("ENABLED") && is_on("REPLICATE_POD_EVENTS"),
        }
    }
}

// === impl KubernetesDriver ===

impl KubernetesDriver {
    /// Asks the cluster how it is, and goes on asking until the driver is dropped. A cluster that does not answer is no error: its health says so.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] where nothing says how to reach a cluster.
    pub async fn connect(options: KubernetesOptions) -> Result<Self, DriverError> {
        let home = connection::Cluster::home(&options.access, &options.namespaces).await?;
        let shared = Arc::new(Shared {
            options,
            clusters: Clusters::of_home(home),
            places: watch_channel::Sender::new(0),
            health: watch_channel::Sender::new(Health::Up),
            notices: Mutex::default(),
            creating: Semaphore::new(CREATING),
            locks: Mutex::default(),
            known: Mutex::default(),
            stops: Mutex::default(),
            views: Views::default(),
            listing: Semaphore::new(LISTING),
            ends: Mutex::default(),
            tails: Mutex::default(),
            tidy: Mutex::default(),
            removed: Mutex::default(),
            owners: Mutex::default(),
            complaints: Mutex::default(),
            tasks: Mutex::default(),
        });
        watch::look_once(&shared).await;
        shared.spawn(watch::keep_looking(Arc::clone(&shared)));
        Ok(Self { shared })
    }
}

impl Drop for KubernetesDriver {
    fn drop(&mut self) {
        // Tasks hold what we share, so nothing else would end them.
        lock(&self.shared.tasks).abort_all();
    }
}

#[async_trait]
impl Driver for KubernetesDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Kubernetes
    }

    fn default_template(&self) -> serde_json::Value {
        default_template()
    }

    fn health(&self) -> watch_channel::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn plan(&self, job: &Job, policy: &Policy) -> Result<AnyPlan, DriverError> {
        let plan = plan(job, policy, &self.shared.options.settings)?;
        Ok(AnyPlan::Kubernetes(Box::new(plan)))
    }

    async fn submit(&self, plan: &AnyPlan) -> Result<Submitted, DriverError> {
        let AnyPlan::Kubernetes(plan) = plan else {
            return Err(DriverError::Unsupported {
                what: "a plan of another driver".to_owned(),
            });
        };
        make::submit(&self.shared, plan).await
    }

    fn knows_way_to(&self, handle: Option<&Handle>) -> bool {
        handle.is_some_and(|handle| act::Place::of(&self.shared, handle).is_some())
    }

    async fn learn_way(&self, plan: &AnyPlan) -> Result<(), DriverError> {
        match plan {
            AnyPlan::Kubernetes(plan) => make::learn_way(&self.shared, plan).await,
            _ => Ok(()),
        }
    }

    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError> {
        if handle.kind != DriverKind::Kubernetes || handle.version != HANDLE_VERSION {
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
        watch::events(Arc::clone(&self.shared), owner)
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
            .field("clusters", &self.clusters)
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The cluster that a job's block names, else the worker's own. One that never answered is not remembered: nothing of ours is there.
    async fn cluster_of(
        &self,
        block: Option<&ClusterConfig>,
    ) -> Result<Arc<connection::Cluster>, DriverError> {
        let Some(block) = block else {
            return Ok(self.clusters.home());
        };
        let cluster = connection::Cluster::of_block(block).await?;
        if self.clusters.find(&cluster.id).is_none() {
            cluster.answers().await?;
        }
        let (cluster, is_new) = self.clusters.learn(cluster);
        if is_new {
            self.places.send_modify(|count| *count += 1);
        }
        Ok(cluster)
    }

    /// Does something whether or not anybody goes on waiting for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work.in_current_span())
    }

    /// Remembers whose Jobs this driver may touch.
    fn know(&self, owner: &Owner) {
        lock(&self.owners).insert(owner.clone());
    }

    /// Who makes or removes the Job of an attempt holds this.
    async fn lock_of(&self, key: RunKey) -> tokio::sync::OwnedMutexGuard<()> {
        let of_key = Arc::clone(lock(&self.locks).entry(key).or_default());
        of_key.lock_owned().await
    }

    /// Tells of it when something has happened to an attempt.
    fn notices_of(&self, key: RunKey) -> watch_channel::Receiver<()> {
        lock(&self.notices).entry(key).or_default().subscribe()
    }

    /// Something has happened to an attempt.
    fn notify(&self, key: RunKey) {
        let mut notices = lock(&self.notices);
        if let Some(notice_tx) = notices.get(&key)
            && notice_tx.send(()).is_err()
        {
            // Nobody waits for it.
            notices.remove(&key);
        }
    }

    /// Why we end a job, if we do.
    fn ended_by_us(&self, key: RunKey) -> Option<state::EndedByUs> {
        lock(&self.stops).get(&key)?.why().cloned()
    }

    /// Says once that a permission is missing without which we get by.
    fn complain_once(&self, permission: &'static str, what: &str) {
        if lock(&self.complaints).insert(permission) {
            tracing::warn!(permission, "{what}");
        }
    }

    /// Forgets what is kept of an attempt that is gone.
    fn forget(&self, key: RunKey) {
        lock(&self.known).remove(&key);
        self.clusters.forget(key);
        lock(&self.stops).remove(&key);
        self.views.expect_no_more(key);
        // Who still waits for news goes on to.
        lock(&self.notices).retain(|_, notice_tx| notice_tx.receiver_count() > 0);
        lock(&self.ends).remove(&key);
        lock(&self.tails).remove(&key);
        lock(&self.tidy).remove(&key);
        lock(&self.locks).retain(|one, lock| *one != key || Arc::strong_count(lock) > 1);
    }
}

/// Whether a setting is turned off, in any of the words for that.
fn is_no(said: &str) -> bool {
    ["0", "false", "f", "no", "n", "off"].contains(&said.trim().to_lowercase().as_str())
}

/// Nothing panics while it holds one of our locks, and what they guard is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The base job template of a Kubernetes pool.
///
/// # Panics
/// Never: a test has read it.
pub fn default_template() -> serde_json::Value {
    serde_json::from_str(include_str!("kubernetes/template.json")).expect("a test reads it")
}

#[cfg(test)]
mod tests;
