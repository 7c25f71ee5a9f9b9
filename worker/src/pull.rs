//! Pull steps: how the code of a deployment gets to where its job can have it.
//!
//! The worker runs the steps itself, with the crate `worker-pull`, when that knows every one of them; else it leaves them all to the job, and says
//! so in the flow run's log. This is the seam: what a flow run has to do with pulling is here, and nothing else.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker_api::types::{Deployment, FlowRunId, LogEntry, LogLevel, PullStep};
use worker_config::{DriverKind, settings::Settings, template::Lookups};
use worker_drivers::{Environment, RunKey, subprocess};
use worker_pull::{
    Operation, Retry,
    blob::{Ambient, Terms},
    git::{self, BuildError, Git},
    steps::{self, Level, Outside, Pulled, Runner, Shell, Step, StepFailed, Unsupported},
};

use crate::{
    emitter::Taken,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    services::Services,
    sources,
    telemetry::chain,
};

/// Where the code is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Code {
    /// In this directory on the worker's file system.
    At(PathBuf),
    /// Wherever the job starts: nothing had to be pulled.
    InPlace,
    /// Not here: the job pulls it.
    LeftToJob,
    /// Not here: an init container of the job pulls it.
    Brought,
}

/// What pulls, for all lives of a worker.
#[derive(Debug)]
pub(crate) struct Puller {
    git: Git,
    terms: Terms,
    python: Option<PathBuf>,
    /// The environment of this process, of which jobs may get a part.
    environment: Environment,
}

/// The setting that names the image of init containers that pull (`worker_drivers::kubernetes`).
const PULL_IMAGE: &str = "WORKER_KUBERNETES_PULL_IMAGE";

/// How long a blob store may be silent.
const STALL: std::time::Duration = std::time::Duration::from_secs(30);

/// Lines of progress that wait to be sent. They are said at most every few seconds.
const MOST_WAITING: usize = 64;

/// The flow run, as its pull steps see it.
struct Told<'a> {
    services: &'a Services,
    id: FlowRunId,
    deployment: Uuid,
    written: &'a [Written<'a>],
    job: &'a Environment,
}

/// A step as it was written, with its place in the deployment's list.
type Written<'a> = (usize, &'a PullStep);

// === impl Code ===

impl Code {
    /// The directory, if it is on this machine.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::At(directory) => Some(directory.clone()),
            Self::InPlace | Self::LeftToJob | Self::Brought => None,
        }
    }
}

// === impl Puller ===

impl Puller {
    /// Makes what pulls. Mirrors of repositories are shared by all workers of a state directory.
    pub(crate) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let texts = std::env::vars_os();
        let texts = texts.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Ok(Self {
            git: Git::new(git_options(settings))?,
            terms: terms(),
            python: settings.process.python.clone(),
            environment: Environment(texts.collect()),
        })
    }

    /// What programs of steps have: what the job's own process would have.
    fn shell(&self, services: &Services, job: &Environment) -> Shell {
        let environment = subprocess::inherited(job, &self.environment, &services.policy);
        let venv = environment.0.get("VIRTUAL_ENV");
        let venv = venv.filter(|path| !path.is_empty());
        let python = venv.map(|path| Path::new(path).join("bin/python"));
        Shell {
            python: self.python.clone().or(python),
            environment: environment.0,
        }
    }
}

/// How git is used by whatever pulls: the certificates are those that the API is reached with, `GIT_SSH_COMMAND` means what it means to git.
pub(crate) fn git_options(settings: &Settings) -> git::Options {
    let ssh = std::env::var("GIT_SSH_COMMAND").ok();
    let ssh = ssh.and_then(|line| shlex::split(&line));
    git::Options {
        cache: settings.worker.state_dir.join("git"),
        bounds: git::Bounds::default(),
        patience: git::Patience::default(),
        certificates: settings.api.ssl_cert_file.clone(),
        ssh: ssh
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| vec!["ssh".to_owned()]),
    }
}

/// On what terms blobs are fetched by whatever pulls.
pub(crate) fn terms() -> Terms {
    Terms {
        ambient: Ambient::of_process(),
        stall: STALL,
        retry: Retry::default(),
    }
}

// === impl Told ===

#[async_trait]
impl Outside for Told<'_> {
    async fn tell(&self, level: Level, message: String) {
        let level = match level {
            Level::Info => LogLevel::INFO,
            Level::Error => LogLevel::ERROR,
        };
        say(self.services, self.id, level, message).await;
    }

    fn taken(&self, index: usize, well: bool) {
        let Some(&(index, written)) = self.written.get(index) else {
            return;
        };
        let taken = Taken {
            index,
            written,
            well,
        };
        let emitter = &self.services.emitter;
        emitter.pulled(self.id.0, self.deployment, &taken);
    }

    fn environment(&self, name: &str) -> Option<String> {
        let own = self.job.0.get(name).cloned();
        let allowed = self.services.policy.allow_environment_placeholders;
        own.or_else(|| allowed.then(|| std::env::var(name).ok()).flatten())
    }
}

impl Told<'_> {
    /// Whether everything that steps ask the environment for may be answered here; in the job it may.
    fn check_environment(&self, steps: &[Step]) -> Result<(), String> {
        if self.services.policy.allow_environment_placeholders {
            return Ok(());
        }
        let names = steps.iter().flat_map(Step::environment_names);
        let mut open = names.filter(|name| !self.job.0.contains_key(name));
        match open.next() {
            None => Ok(()),
            Some(name) => Err(format!(
                "they ask for the environment variable {name}, and this worker's policy does not let them have its own"
            )),
        }
    }
}

/// Has the code of a deployment pulled where a Kubernetes job runs: by an init container if one is configured and knows every step, else by the job.
pub(crate) async fn send(
    services: &Services,
    entry: &Entry,
    deployment: &Deployment,
) -> Result<Code, NotStarted> {
    let written = deployment.pull_steps.iter().flatten().enumerate();
    let written: Vec<_> = written.filter(|(_, step)| !step.is_empty()).collect();
    let why = if !services.puller.environment.0.contains_key(PULL_IMAGE) {
        Some(format!(
            "no image is configured for an init container that would ({PULL_IMAGE})"
        ))
    } else if written.is_empty() {
        Some("they are in a storage block".to_owned())
    } else {
        let parsed = parse(&written, false);
        parsed.err().map(|unsupported| unsupported.to_string())
    };
    let Some(why) = why else {
        return Ok(Code::Brought);
    };
    let code = left_to_job(entry, &why)?;
    let message = format!("The job runs the pull steps itself: {why}.");
    let id = FlowRunId(entry.key.flow_run);
    services.run_log.say(id, LogLevel::INFO, message).await;
    Ok(code)
}

/// Gets the code of a deployment, by its pull steps or from its path. `job` is the environment that the job will have.
pub(crate) async fn pull(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    deployment: &Deployment,
    job: &Environment,
) -> Result<Code, NotStarted> {
    let id = FlowRunId(entry.key.flow_run);
    let written = deployment.pull_steps.iter().flatten().enumerate();
    let written: Vec<_> = written.filter(|(_, step)| !step.is_empty()).collect();
    if written.is_empty() {
        if deployment.storage_document_id.is_some() {
            return left_to_job(entry, "it is in a storage block");
        }
        return in_path(deployment.path.as_deref());
    }
    let here = services.driver.kind() == DriverKind::Process;
    let told = Told {
        services,
        id,
        deployment: deployment.id.0,
        written: &written,
        job,
    };
    let steps = parse(&written, here && services.policy.allow_command)
        .map_err(|unsupported| unsupported.to_string())
        .and_then(|steps| told.check_environment(&steps).map(|()| steps));
    let steps = match steps {
        Ok(steps) => steps,
        Err(why) => {
            let code = left_to_job(entry, &why)?;
            let message = format!("The job runs the pull steps itself: {why}.");
            services.run_log.say(id, LogLevel::INFO, message).await;
            return Ok(code);
        }
    };
    let mut lookups = Lookups::default();
    for step in &steps {
        let missing = lookups.missing(step.references());
        lookups.extend(sources::look_up(services, line, &missing).await?);
    }
    let workspace = if steps::need_workspace(&steps) {
        make_workspace(services, entry)?
    } else {
        path_of(&services.workspaces, entry.key)
    };
    let shell = services.puller.shell(services, job);
    let base = PathBuf::from(deployment.path.as_deref().unwrap_or_default());
    let place = Place {
        base: &base,
        workspace: &workspace,
        shell: here.then_some(&shell),
        lookups: &lookups,
    };
    match run(&told, line, &steps, place).await? {
        Ok(pulled) => Ok(pulled.directory.map_or(Code::InPlace, Code::At)),
        Err(failed) => {
            let reason = chain(&failed);
            say(services, id, LogLevel::ERROR, reason.clone()).await;
            Err(NotStarted::Failed(reason))
        }
    }
}

/// What the steps of one flow run are given.
struct Place<'a> {
    base: &'a Path,
    workspace: &'a Path,
    shell: Option<&'a Shell>,
    lookups: &'a Lookups,
}

/// Runs the steps, unless the life is told to end. Then they are ended first, so that nothing writes into a workspace that is removed.
async fn run(
    told: &Told<'_>,
    line: &mut Line,
    steps: &[Step],
    place: Place<'_>,
) -> Result<Result<Pulled, StepFailed>, NotStarted> {
    let (lines_tx, mut lines_rx) = mpsc::channel(MOST_WAITING);
    let cancelled = CancellationToken::new();
    let operation = Operation {
        cancelled: cancelled.clone(),
        // Progress that nobody could send in time is old.
        progress: Arc::new(move |line: String| drop(lines_tx.try_send(line))),
    };
    let running = async move {
        let runner = Runner {
            git: &told.services.puller.git,
            terms: &told.services.puller.terms,
            operation: &operation,
            outside: told,
            lookups: place.lookups,
            shell: place.shell,
            base: place.base,
            workspace: place.workspace,
        };
        runner.run(steps).await
    };
    let telling = async {
        while let Some(line) = lines_rx.recv().await {
            told.tell(Level::Info, line).await;
        }
    };
    let mut work = pin!(async { tokio::join!(running, telling).0 });
    match line.unless_ended(work.as_mut()).await {
        Ok(done) => Ok(done),
        Err(why) => {
            cancelled.cancel();
            drop(work.await);
            Err(why)
        }
    }
}

fn parse(written: &[Written<'_>], interpreter: bool) -> Result<Vec<Step>, Unsupported> {
    let steps = written.iter();
    steps
        .map(|(_, step)| Step::parse(step, interpreter))
        .collect()
}

/// The attempt's own directory, empty.
fn make_workspace(services: &Services, entry: &mut Entry) -> Result<PathBuf, NotStarted> {
    let path = path_of(&services.workspaces, entry.key);
    let failed = |error: std::io::Error| {
        NotStarted::Failed(format!(
            "cannot make the workspace {}: {error}",
            path.display()
        ))
    };
    // What an earlier process left of this attempt is half a workspace.
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(failed)?;
    entry.workspace = Some(path.clone());
    Ok(path)
}

/// Where the workspace of an attempt is.
pub(crate) fn path_of(workspaces: &Path, key: RunKey) -> PathBuf {
    workspaces.join(key.to_string())
}

/// A deployment without pull steps has its code in its path; without one, the code is wherever the job starts.
fn in_path(path: Option<&str>) -> Result<Code, NotStarted> {
    match path {
        None | Some("" | ".") => Ok(Code::InPlace),
        Some(path) if Path::new(path).is_dir() => Ok(Code::At(PathBuf::from(path))),
        Some(path) => Err(NotStarted::Failed(format!(
            "the deployment's path {path} is not a directory on this machine"
        ))),
    }
}

/// Leaves the code to Prefect, which runs in every job but a plain command.
fn left_to_job(entry: &Entry, why: &str) -> Result<Code, NotStarted> {
    match entry.reporter {
        Reporter::Engine => Ok(Code::LeftToJob),
        Reporter::Worker { failed: _ } => Err(NotStarted::Failed(format!(
            "this worker cannot get the code of the deployment, and in a plain command nobody else does: {why}"
        ))),
    }
}

async fn say(services: &Services, id: FlowRunId, level: LogLevel, message: String) {
    let entry = LogEntry {
        name: "prefect.flow_runs".to_owned(),
        level,
        message,
        timestamp: jiff::Timestamp::now(),
        flow_run_id: Some(id),
    };
    services.run_log.send(entry).await;
}
