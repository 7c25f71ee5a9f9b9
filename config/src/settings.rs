//! How this worker is set up: defaults < Prefect profile < `worker.toml` < environment < flags.
//!
//! [`load`] reads what people wrote, in all the places where they may have, and gives [`Settings`] or every error at
//! once. What the settings mean is left to whoever acts on them.

mod build;
mod difference;
mod dotenv;
mod duration;
mod error;
mod files;
mod job_environment;
mod keys;
mod layers;
mod prefect;
mod read;
mod reference;
mod sources;
mod space;
mod traces;

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use url::Url;

pub use self::{
    difference::Difference,
    error::{ConfigError, ConfigErrors},
    reference::{KeyReference, reference},
    sources::{Flags, Sources},
};
use self::{layers::Layers, prefect::PrefectSettings};
use crate::{DriverKind, Secret, policy::Policy};

/// Everything the worker was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How to reach the Prefect API.
    pub api: ApiSettings,
    /// What to poll and how: as it holds for the one pool, or for all of several.
    pub worker: WorkerSettings,
    /// The same for each pool, with what is said of it alone. Empty where nobody named one.
    pub pools: Vec<WorkerSettings>,
    /// Where the status server listens.
    pub status: StatusSettings,
    /// How much is written, and what of it goes to the API.
    pub logging: LoggingSettings,
    /// Where traces of flow runs go.
    pub traces: TracesSettings,
    /// The embedded API, used when no API is configured.
    pub server: ServerSettings,
    /// Local subprocesses.
    pub process: ProcessSettings,
    /// Docker containers.
    pub docker: DockerSettings,
    /// Kubernetes Jobs.
    pub kubernetes: KubernetesSettings,
    /// How code gets to jobs.
    pub pull: PullSettings,
    /// What a job may ask for.
    pub policy: Policy,
    /// Every Prefect setting that somebody set (no defaults), under its canonical `PREFECT_…` name and in the
    /// reference's spelling of values. It is the lowest layer of a job's environment (`BaseJobConfiguration`, 3.8.8).
    pub job_environment: BTreeMap<String, Secret>,
    /// What people should know of how these settings came about: unknown keys with the nearest known one,
    /// values that were ignored and why.
    pub notices: Vec<String>,
}

/// How to reach the Prefect API.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent switches"
)]
pub struct ApiSettings {
    /// The base URL, ending in `/api` or in a Cloud workspace. None: the embedded API.
    pub url: Option<Url>,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// Sent as basic authentication; wins over the key.
    pub auth_string: Option<Secret>,
    /// Added to each request.
    pub custom_headers: BTreeMap<String, Secret>,
    /// Where Prefect Cloud lives; an API URL that starts with it is Cloud.
    pub cloud_url: Url,
    /// Accept any certificate.
    pub tls_insecure_skip_verify: bool,
    /// Trust these certificates instead of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// Speak HTTP/2.
    pub enable_http2: bool,
    /// The limit of one try of one request.
    pub request_timeout: Duration,
    /// How often a request is repeated after its first failure.
    pub max_retries: u32,
    /// How far a delay between tries may stray, as a share of it.
    pub retry_jitter_factor: f64,
    /// Status codes to retry beyond 408, 429, 502 and 503.
    pub retry_extra_codes: Vec<u16>,
    /// Whether to ask for CSRF tokens.
    pub csrf_support: bool,
    /// Whether to open sockets: for wake-up, the worker channel and events. Without them everything is polled and posted.
    pub websockets: bool,
}

/// What to poll and how.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch that people know by its name"
)]
pub struct WorkerSettings {
    /// The work pool; the first of several.
    pub pool: Option<String>,
    /// This worker's name; the host's name and the pool make one when there is none.
    pub name: Option<String>,
    /// The queues to poll; empty means all.
    pub work_queues: Vec<String>,
    /// The pool type this worker insists on.
    pub kind: Option<DriverKind>,
    /// How many flow runs may hold a slot at once. None: as many as come.
    pub limit: Option<NonZeroU32>,
    /// How many flow runs may be between claim and start at once.
    pub start_concurrency: NonZeroU32,
    /// How far ahead of its time a flow run may be taken.
    pub prefetch: Duration,
    /// Time between polls.
    pub query_interval: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Time between looks for cancelled flow runs.
    pub cancellation_interval: Duration,
    /// Poll once, wait for what was started, end.
    pub run_once: bool,
    /// Create the pool when there is none.
    pub create_pool_if_not_found: bool,
    /// A file with the base job template for a pool this worker creates.
    pub base_job_template: Option<PathBuf>,
    /// Whether a pool that exists gets that template too, when the worker starts.
    pub sync_base_job_template: bool,
    /// How long a drain waits for flow runs before it stops them. None: as long as it takes for engines whose jobs
    /// cannot outlive the worker, not at all for those whose jobs can.
    pub drain_timeout: Option<Duration>,
    /// Time between asking a job to end and forcing it.
    pub stop_grace: Duration,
    /// Time between looks for infrastructure of ours that nobody looks after. What two looks in a row see is dealt with.
    pub janitor_interval: Duration,
    /// Whether such infrastructure is only named in the worker's log.
    pub janitor_dry_run: bool,
    /// Where journal, jobs, workspaces and the embedded API keep their files.
    pub state_dir: PathBuf,
}

/// Where the status server listens.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// The address.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
}

/// How much is written, and what of it goes to the API.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggingSettings {
    /// The level, as tracing-subscriber's filter understands it (`info`, `worker=debug`).
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Whether the worker's lines about a flow run are sent to its log.
    pub to_api: bool,
    /// How long a batch of lines may wait.
    pub batch_interval: Duration,
    /// How many bytes a batch may have.
    pub batch_size: usize,
    /// How many bytes one line may have; the rest is cut.
    pub max_log_size: usize,
}

/// Where traces of flow runs go. All but the endpoint is what the variables of OpenTelemetry say.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesSettings {
    /// The URL that spans are posted to. None: there are no traces.
    pub endpoint: Option<Url>,
    /// Added to each post.
    pub headers: BTreeMap<String, Secret>,
    /// How long one post may take.
    pub timeout: Duration,
    /// What the worker is called among services.
    pub service: String,
    /// What else is said of it.
    pub attributes: BTreeMap<String, String>,
    /// Which share of traces is recorded, from 0 to 1.
    pub share: f64,
    /// Whether what is part of another trace is recorded exactly when that is.
    pub follows_parent: bool,
}

/// The embedded API.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// The address it listens on.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The token that requests must carry; demanded when the address is not a loopback one.
    pub token: Option<Secret>,
}

/// Local subprocesses.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSettings {
    /// The Python that runs flows. None: that of the active virtual environment, else the first on the job's `PATH`.
    pub python: Option<PathBuf>,
    /// Whether each job gets a cgroup of its own where one is delegated to the worker.
    pub cgroups: bool,
}

/// Docker containers.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerSettings {
    /// Whether containers get their environment in a file inside them instead of as a part of them, where whoever may inspect them reads it.
    pub hide_environment: bool,
    /// How long containers stay that ended badly, so that somebody can look into them.
    pub keep_failed: Duration,
    /// Whether workspaces are mounted from this machine instead of copied in.
    pub bind_workspace: bool,
}

/// Kubernetes Jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesSettings {
    /// The image of this worker that an init container pulls code with. None: jobs pull for themselves.
    pub pull_image: Option<String>,
    /// Whether the worker's credentials reach jobs, in a Secret of each job's own. Otherwise jobs have them from elsewhere.
    pub pass_credentials: bool,
}

/// How code gets to jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct PullSettings {
    /// Who runs pull steps, where neither pool nor deployment says it.
    pub mode: PullMode,
    /// Where workspaces are made; each worker has a directory of its own below it. None: in its state directory.
    pub workspaces: Option<PathBuf>,
    /// How much of the disk must be free that workspaces and state are on; with less, nothing is claimed.
    pub disk_floor: DiskFloor,
    /// How long a server may be silent.
    pub stall: Duration,
    /// How long all pull steps of a flow run may take together.
    pub timeout: Duration,
    /// How long a mirror of a repository is kept that nobody asks for.
    pub cache_age: Duration,
    /// How many bytes all mirrors may take together before the oldest go.
    pub cache_size: u64,
}

/// Who runs pull steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullMode {
    /// This worker, or the flow run fails.
    Worker,
    /// The job, as with the reference.
    Job,
    /// This worker where it knows every step and can hand the code over, else the job.
    #[default]
    Auto,
}

/// How much of a disk must be free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DiskFloor {
    /// So many bytes.
    Bytes(u64),
    /// So much of the whole, in percent.
    Percent(f64),
}

/// Where settings are written, what they say, and what is wrong with it.
#[derive(Debug, Default)]
struct Notes {
    errors: Vec<ConfigError>,
    notices: Vec<String>,
}

/// A value somebody wrote.
#[derive(Clone, Debug)]
struct Written {
    value: serde_json::Value,
    /// Where, for people: `flag --limit`, `worker.limit in /etc/worker/worker.toml`.
    place: String,
    /// What a relative path in it is relative to.
    base: PathBuf,
}

// === impl Settings ===

impl Settings {
    /// The settings of the worker for a pool.
    #[must_use]
    pub fn of_pool(&self, pool: &str) -> Self {
        let mut settings = self.clone();
        let own = self
            .pools
            .iter()
            .find(|own| own.pool.as_deref() == Some(pool));
        settings.worker = own.unwrap_or(&self.worker).clone();
        settings.worker.pool = Some(pool.to_owned());
        settings
    }
}

// === impl PullMode ===

impl PullMode {
    /// The word that people write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Job => "job",
            Self::Auto => "auto",
        }
    }
}

impl std::str::FromStr for PullMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Worker, Self::Job, Self::Auto];
        let found = known.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| "must be worker, job or auto".to_owned())
    }
}

/// Reads every source and makes settings of them.
///
/// From the lowest to the highest: defaults, the active Prefect profile, `pyproject.toml`, `prefect.toml`, `.env`,
/// `worker.toml`, the environment, flags. In the environment `WORKER_*` wins over `PREFECT_*`.
///
/// Reads files in the working directory, the home directory and `/etc/worker`, and nothing else.
///
/// # Errors
/// Everything that is wrong, each with where it was written and what would be right.
pub fn load(sources: &Sources) -> Result<Settings, ConfigErrors> {
    let mut notes = Notes::default();
    let dotenv = dotenv::read(sources, &mut notes);
    let prefect = PrefectSettings::gather(sources, &dotenv, &mut notes);
    let layers = Layers::gather(sources, &dotenv, &prefect, &mut notes);
    let mut settings = build::settings(sources, &layers, &prefect, &mut notes);
    settings.job_environment =
        job_environment::collect(sources, &prefect, &layers, &settings, &mut notes);
    let Notes {
        mut errors,
        notices,
    } = notes;
    // What holds for several pools was read for each of them.
    let mut told = HashSet::new();
    errors.retain(|error| told.insert(error.clone()));
    settings.notices = notices;
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigErrors(errors))
    }
}

#[cfg(test)]
mod tests;
