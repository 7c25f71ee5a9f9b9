//! Local subprocesses: the `process` work pool type.
//!
//! Each job runs under a [shim](run_if_shim), so that it survives the worker and its end is known to the worker's successor. What is known of jobs
//! is in files, which the module `jobs_dir` describes.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    process::Child,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{broadcast, watch as watch_channel};

use worker_config::{DriverKind, policy::Policy};

use self::{
    cgroup::Delegated,
    jobs_dir::{JobsDir, Part},
    watch::Watcher,
};
use crate::{
    driver::{Driver, DriverError, Health, JobEvent, LogStream, Owned, Recovered, Submitted},
    examination::{Examination, Finding},
    job::{Environment, Handle, Job, LogCursor, Owner, RunKey, StopRequest},
    plan::Plan as AnyPlan,
};

pub use options::Options;
pub use plan::{Directory, Launch, Plan, inherited};
pub use shim::run_if_shim;

mod act;
mod cgroup;
mod examine;
mod jobs_dir;
mod logs;
mod options;
mod plan;
mod program;
mod shim;
mod watch;

/// How a worker runs subprocesses.
#[derive(Clone, Debug)]
pub struct SubprocessOptions {
    /// Where files about jobs are kept. It is made if it is not there, readable by nobody else.
    pub jobs_dir: PathBuf,
    /// The program that is a shim when its first argument is `__shim`: the worker's own, as a rule.
    pub shim: PathBuf,
    /// The Python interpreter of flows; else the virtual environment's of the job, else the first on its `PATH`.
    pub python: Option<PathBuf>,
    /// Whether jobs get control groups of their own.
    pub cgroups: Cgroups,
    /// The worker's environment, which jobs inherit as far as policy allows.
    pub inherit: Environment,
    /// What relative working directories are relative to.
    pub current_dir: PathBuf,
}

/// Whether jobs get control groups (version 2) of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// They do where a part of the tree was delegated to this process.
    #[default]
    Auto,
    /// They do not.
    Off,
    /// They do, below this group.
    Below(PathBuf),
}

/// The driver of local subprocesses.
#[derive(Debug)]
pub struct SubprocessDriver {
    shared: Arc<Shared>,
    /// Ends with the driver. Jobs do not.
    _watcher: Watcher,
}

/// What the driver's methods, its streams and its watcher share.
#[derive(Debug)]
struct Shared {
    settings: SubprocessOptions,
    jobs: JobsDir,
    cgroups: Option<Delegated>,
    /// The shims this process started, to be waited for once they have ended. Each is removed by `destroy` at the latest.
    children: Mutex<HashMap<RunKey, Child>>,
    notices: broadcast::Sender<watch::Notice>,
    /// Jobs whose start is still to be told: an end must not be told before it.
    starting: Mutex<HashSet<RunKey>>,
    /// Wakes who follows the output of a job.
    followers: Mutex<HashMap<RunKey, watch_channel::Sender<()>>>,
    health: watch_channel::Sender<Health>,
}

/// Who we are in errors.
const ENGINE: &str = "subprocess driver";

/// The version of [`Handle::state`].
const HANDLE_VERSION: u16 = 1;

/// Ends that may wait for a slow consumer of events before it has to look at everything anew.
const NOTICES: usize = 1024;

// === impl SubprocessOptions ===

impl SubprocessOptions {
    /// The usual: this very program is the shim, and everything is found out.
    ///
    /// The program is named by `/proc/self/exe`, which stays right when the file is replaced by a newer version.
    pub fn new(jobs_dir: impl Into<PathBuf>, inherit: Environment) -> Self {
        Self {
            jobs_dir: jobs_dir.into(),
            shim: PathBuf::from("/proc/self/exe"),
            python: None,
            cgroups: Cgroups::default(),
            inherit,
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }
}

// === impl SubprocessDriver ===

impl SubprocessDriver {
    /// Opens the jobs directory and begins to watch it, on a thread of its own that ends with the driver.
    ///
    /// # Errors
    /// [`DriverError::Unavailable`] when the directory cannot be made, and when the thread cannot be started.
    pub fn new(settings: SubprocessOptions) -> Result<Self, DriverError> {
        let shared = Shared::open(settings)?;
        let watcher = Watcher::start(Arc::clone(&shared))
            .map_err(|error| unavailable(shared.jobs.path(), &error))?;
        Ok(Self {
            shared,
            _watcher: watcher,
        })
    }

    /// Runs what may wait for the file system away from the runtime. It goes on when the caller is dropped.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let shared = Arc::clone(&self.shared);
        run_blocking(move || work(&shared)).await
    }
}

#[async_trait]
impl Driver for SubprocessDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Process
    }

    fn default_template(&self) -> serde_json::Value {
        default_template()
    }

    fn health(&self) -> watch_channel::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn plan(&self, job: &Job, policy: &Policy) -> Result<AnyPlan, DriverError> {
        let private = self.shared.jobs.file(job.key, Part::Directory);
        plan::plan(job, policy, &self.shared.settings, private).map(AnyPlan::Subprocess)
    }

    async fn submit(&self, plan: &AnyPlan) -> Result<Submitted, DriverError> {
        let AnyPlan::Subprocess(plan) = plan else {
            return Err(foreign_plan());
        };
        let plan = plan.clone();
        self.blocking(move |shared| act::submit(shared, &plan))
            .await
    }

    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError> {
        if handle.kind != DriverKind::Process || handle.version != HANDLE_VERSION {
            return Err(DriverError::Unsupported {
                what: format!(
                    "a handle of kind {} and version {}",
                    handle.kind, handle.version
                ),
            });
        }
        let key = handle.key;
        let recovered = self.blocking(move |shared| act::recover(shared, key)).await;
        Ok(recovered.unwrap_or_else(|error| Recovered::Unreachable {
            reason: error.to_string(),
        }))
    }

    fn events(&self, owner: &Owner) -> BoxStream<'static, JobEvent> {
        watch::events(Arc::clone(&self.shared), owner.clone())
    }

    fn logs(&self, handle: &Handle, from: LogCursor) -> LogStream {
        logs::follow(Arc::clone(&self.shared), handle.key, from)
    }

    async fn stop(&self, handle: &Handle, request: StopRequest) -> Result<(), DriverError> {
        let key = handle.key;
        self.blocking(move |shared| act::stop(shared, key, request))
            .await
    }

    async fn destroy(&self, key: RunKey) -> Result<(), DriverError> {
        self.blocking(move |shared| act::destroy(shared, key)).await
    }

    async fn list_owned(&self, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
        let owner = owner.clone();
        self.blocking(move |shared| act::list_owned(shared, &owner))
            .await
    }

    async fn examine(&self, _: Examination<'_>) -> Vec<Finding> {
        examine::examine(&self.shared).await
    }
}

// === impl Shared ===

impl Shared {
    /// Makes the jobs directory, and finds out what there is of control groups.
    fn open(settings: SubprocessOptions) -> Result<Arc<Self>, DriverError> {
        let path = settings.current_dir.join(&settings.jobs_dir);
        let jobs = JobsDir::new(path);
        jobs.create()
            .map_err(|error| unavailable(jobs.path(), &error))?;
        let cgroups = match &settings.cgroups {
            Cgroups::Off => None,
            Cgroups::Auto => Delegated::detect()
                .inspect_err(|reason| tracing::debug!(reason, "jobs get no cgroups"))
                .ok(),
            Cgroups::Below(parent) => {
                Some(
                    Delegated::below(parent).map_err(|reason| DriverError::Unavailable {
                        engine: ENGINE,
                        reason,
                    })?,
                )
            }
        };
        Ok(Arc::new(Self {
            settings,
            jobs,
            cgroups,
            children: Mutex::default(),
            notices: broadcast::Sender::new(NOTICES),
            starting: Mutex::default(),
            followers: Mutex::default(),
            health: watch_channel::Sender::new(Health::Up),
        }))
    }

    fn children(&self) -> MutexGuard<'_, HashMap<RunKey, Child>> {
        self.children
            .lock()
            .expect("nothing panics while it holds this")
    }

    fn starting(&self) -> MutexGuard<'_, HashSet<RunKey>> {
        self.starting
            .lock()
            .expect("nothing panics while it holds this")
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<RunKey, watch_channel::Sender<()>>> {
        self.followers
            .lock()
            .expect("nothing panics while it holds this")
    }

    /// Collects the shims that have ended.
    fn reap_children(&self) {
        self.children()
            .retain(|_, child| matches!(child.try_wait(), Ok(None)));
    }

    /// Wakes who follows the output of a job.
    fn wake(&self, key: RunKey) {
        if let Some(follower) = self.followers().get(&key) {
            follower.send_replace(());
        }
    }

    fn wake_all(&self) {
        for follower in self.followers().values() {
            follower.send_replace(());
        }
    }
}

/// The base job template of a process pool.
///
/// # Panics
/// Never: a test has read it.
pub fn default_template() -> serde_json::Value {
    serde_json::from_str(include_str!("subprocess/template.json")).expect("a test reads it")
}

/// Runs on a thread that may wait.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(DriverError::Unavailable {
                engine: ENGINE,
                reason: "the runtime is shutting down".to_owned(),
            }),
        },
    }
}

/// A plan that another driver made.
fn foreign_plan() -> DriverError {
    DriverError::Unsupported {
        what: "a plan of another driver".to_owned(),
    }
}

/// An error of the file system on something of ours.
fn unavailable(path: &std::path::Path, error: &io::Error) -> DriverError {
    DriverError::Unavailable {
        engine: ENGINE,
        reason: format!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests;
