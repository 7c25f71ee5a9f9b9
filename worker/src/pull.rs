//! Pull steps: how the code of a deployment gets to where its job can have it.
//!
//! The worker runs the steps itself, with the crate `worker-pull`, when that knows every one of them; else it leaves them all to the job, and says
//! so in the flow run's log. This is the seam: what a flow run has to do with pulling is here, and nothing else.

mod plan;
mod stored;
mod workspace;

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker_api::{
    Client,
    types::{Deployment, FlowRunId, LogEntry, LogLevel, PullStep},
};
use worker_config::{
    DriverKind, Secret,
    settings::{PullMode, Settings},
    template::Lookups,
};
use worker_drivers::{Environment, subprocess};
use worker_pull::{
    Operation, Retry,
    blob::{Ambient, Terms},
    git::{self, BuildError, Git},
    steps::{self, Level, Outside, Pulled, Runner, Shell, Step, Unsupported},
};

pub(crate) use self::{plan::Wish, stored::step as stored_step};
use self::{
    plan::{Outlook, Verdict},
    workspace::in_path,
};
use crate::{
    emitter::Taken,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    services::Services,
    site::Resolved,
    sources,
    state_dir::StateDir,
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
    /// Who runs pull steps, where no job variable says it.
    pub(crate) mode: PullMode,
    /// Whether there is an image for an init container of a Kubernetes job that pulls.
    has_image: bool,
    /// How long the steps of a flow run may take together.
    timeout: Duration,
}

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
        Ok(Self {
            git: Git::new(git_options(settings))?,
            terms: terms(settings),
            python: settings.process.python.clone(),
            environment: Environment::of_process(),
            mode: settings.pull.mode,
            has_image: settings.kubernetes.pull_image.is_some(),
            timeout: settings.pull.timeout,
        })
    }

    /// What programs of steps have: what the job's own process would have.
    fn shell(&self, services: &Services, job: &Environment) -> Shell {
        let environment = subprocess::inherited(job, &self.environment, &services.policy());
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
        bounds: git::Bounds {
            age: settings.pull.cache_age,
            size: settings.pull.cache_size,
        },
        patience: git::Patience {
            stall: settings.pull.stall,
            whole: settings.pull.timeout,
        },
        certificates: settings.api.ssl_cert_file.clone(),
        lfs: !skips_lfs(),
        ssh: ssh
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| vec!["ssh".to_owned()]),
    }
}

/// Asks Prefect Cloud for a token of its GitHub App. It is used by the steps that follow, and kept nowhere.
pub(crate) async fn github_token(
    client: &Client,
    owner: &str,
    repository: &str,
) -> Result<Secret, String> {
    if !client.is_cloud() {
        return Err("the API is not a workspace of Prefect Cloud, which has the app".to_owned());
    }
    let asked = client.create_github_token(owner, repository).await;
    asked.map_err(|error| {
        format!(
            "{}; check that the app may read the repository",
            chain(&error)
        )
    })
}

/// Whether files in Git LFS are to stay there, as git-lfs is told.
fn skips_lfs() -> bool {
    let value = std::env::var("GIT_LFS_SKIP_SMUDGE").unwrap_or_default();
    !matches!(value.as_str(), "" | "0" | "false")
}

/// On what terms blobs are fetched by whatever pulls.
pub(crate) fn terms(settings: &Settings) -> Terms {
    Terms {
        ambient: Ambient::of_process(),
        stall: settings.pull.stall,
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

    async fn github_token(&self, owner: &str, repository: &str) -> Result<Secret, String> {
        github_token(&self.services.client, owner, repository).await
    }

    fn environment(&self, name: &str) -> Option<String> {
        let own = self.job.0.get(name).cloned();
        let allowed = self.services.policy().allow_environment_placeholders;
        own.or_else(|| allowed.then(|| std::env::var(name).ok()).flatten())
    }
}

impl Told<'_> {
    /// The steps, with what was looked up for them already; or why this worker cannot run them.
    async fn steps(
        &self,
        line: &mut Line,
        deployment: &Deployment,
        (inside, wish): (bool, Wish),
    ) -> Result<Result<(Vec<Step>, Lookups), String>, NotStarted> {
        if self.written.is_empty()
            && let Some(block) = deployment.storage_document_id
        {
            let path = deployment.path.as_deref();
            let stored = stored::read(self.services, line, block, path, !inside).await?;
            return Ok(stored.map(|(step, lookups)| (vec![step], lookups)));
        }
        let interpreter = !inside && self.services.policy().allow_command;
        let steps = match parse(self.written, interpreter) {
            Ok(steps) => steps,
            Err(unsupported) => return Ok(Err(unsupported.to_string())),
        };
        // Who insists on this worker means the files of its machine.
        let mut local = steps.iter().filter(|step| inside && step.is_local());
        if let Some(step) = local.next().filter(|_| wish.mode != PullMode::Worker) {
            return Ok(Err(format!("{} reads files of the job's own", step.name())));
        }
        let allowed = self.check_environment(&steps);
        Ok(allowed.map(|()| (steps, Lookups::default())))
    }

    /// Says who gets the code, where somebody chose it.
    async fn introduce(&self, wish: Wish) {
        if wish.was_chosen() {
            let message =
                format!("This worker gets the code for the job: {wish}, and it knows every step.");
            let run_log = &self.services.run_log;
            run_log.say(self.id, LogLevel::INFO, message).await;
        }
    }

    /// Whether everything that steps ask the environment for may be answered here; in the job it may.
    fn check_environment(&self, steps: &[Step]) -> Result<(), String> {
        if self.services.policy().allow_environment_placeholders {
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

/// What a flow run wants to have pulled.
pub(crate) struct Asked<'a> {
    pub(crate) deployment: &'a Deployment,
    /// The environment that the job will have.
    pub(crate) job: &'a Environment,
    /// Who is to run the steps.
    pub(crate) wish: Wish,
    /// Whether the job has a command of its own that runs Prefect's engine.
    pub(crate) delegated: bool,
}

/// Where the code of a deployment would be, as far as that can be said without getting it.
pub(crate) fn foresee(
    deployment: &Deployment,
    settings: &Settings,
    kind: DriverKind,
    job: &Resolved,
) -> Code {
    let inside = kind != DriverKind::Process;
    let engine = job.reporter == Reporter::Engine;
    let delegated = job.command.is_some() && engine;
    let written = deployment.pull_steps.iter().flatten().enumerate();
    let written: Vec<_> = written.filter(|(_, step)| !step.is_empty()).collect();
    match Outlook::of(deployment, inside, delegated).judge(job.wish) {
        Verdict::Worker if kind == DriverKind::Kubernetes => {
            if settings.kubernetes.pull_image.is_some() && parse(&written, false).is_ok() {
                Code::Brought
            } else {
                Code::LeftToJob
            }
        }
        Verdict::Worker if parse(&written, !inside).is_ok() => {
            let state = &settings.worker.state_dir;
            let below = settings.pull.workspaces.as_ref().unwrap_or(state);
            // Which of the workers takes it, and at which attempt, is said when it does.
            Code::At(below.join("…/workspaces/<flow run>"))
        }
        Verdict::Nothing if !inside => Code::InPlace,
        _ if engine && !delegated => Code::LeftToJob,
        _ => Code::InPlace,
    }
}

/// Why no init container of a Kubernetes job can get the code; none: one can.
fn cannot_be_brought(services: &Services, deployment: &Deployment) -> Option<String> {
    if !services.puller.has_image {
        return Some(
            "no image is configured for an init container that would (kubernetes.pull_image)"
                .to_owned(),
        );
    }
    let written = deployment.pull_steps.iter().flatten().enumerate();
    let written: Vec<_> = written.filter(|(_, step)| !step.is_empty()).collect();
    if written.is_empty() {
        return Some("they are in a storage block".to_owned());
    }
    let parsed = parse(&written, false);
    parsed.err().map(|unsupported| unsupported.to_string())
}

/// Gets the code of a deployment, by its pull steps, its storage block or from its path; or leaves that to the job.
pub(crate) async fn pull(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    asked: Asked<'_>,
) -> Result<Code, NotStarted> {
    let Asked {
        deployment,
        job,
        wish,
        delegated,
    } = asked;
    let inside = services.driver.kind() != DriverKind::Process;
    let outlook = Outlook::of(deployment, inside, delegated);
    match outlook.judge(wish) {
        Verdict::Nothing if delegated => return Ok(Code::InPlace),
        Verdict::Nothing if inside || wish.mode == PullMode::Job => {
            return Ok(match entry.reporter {
                Reporter::Engine => Code::LeftToJob,
                Reporter::Worker { failed: _ } => Code::InPlace,
            });
        }
        Verdict::Nothing => return in_path(deployment.path.as_deref()),
        Verdict::Worker if services.driver.kind() == DriverKind::Kubernetes => {
            return match cannot_be_brought(services, deployment) {
                None => Ok(Code::Brought),
                Some(why) => leave(services, entry, outlook, wish.without(&why)).await,
            };
        }
        Verdict::Worker => {}
        verdict => return leave(services, entry, outlook, verdict).await,
    }
    let id = FlowRunId(entry.key.flow_run);
    let written = deployment.pull_steps.iter().flatten().enumerate();
    let written: Vec<_> = written.filter(|(_, step)| !step.is_empty()).collect();
    let told = Told {
        services,
        id,
        deployment: deployment.id.0,
        written: &written,
        job,
    };
    let known = told.steps(line, deployment, (inside, wish)).await?;
    let (steps, mut lookups) = match known {
        Ok(known) => known,
        Err(why) => return leave(services, entry, outlook, wish.without(&why)).await,
    };
    told.introduce(wish).await;
    for step in &steps {
        let missing = lookups.missing(step.references());
        lookups.extend(sources::look_up(services, line, &missing).await?);
    }
    let workspace = if steps::need_workspace(&steps) {
        workspace::make(services, entry)?
    } else {
        workspace::path_of(&services.state_dir.workspaces(), entry.key)
    };
    let shell = services.puller.shell(services, job);
    let base = PathBuf::from(deployment.path.as_deref().unwrap_or_default());
    let place = Place {
        base: &base,
        workspace: &workspace,
        shell: (!inside).then_some(&shell),
        lookups: &lookups,
    };
    match run(&told, line, &steps, place).await? {
        Ok(pulled) => Ok(pulled.directory.map_or(Code::InPlace, Code::At)),
        Err(reason) => {
            say(services, id, LogLevel::ERROR, reason.clone()).await;
            Err(NotStarted::Failed(reason))
        }
    }
}

/// Leaves the code to Prefect, which runs in every job but a plain command, or to nobody; the flow run's log says why.
async fn leave(
    services: &Services,
    entry: &Entry,
    outlook: Outlook,
    verdict: Verdict,
) -> Result<Code, NotStarted> {
    let id = FlowRunId(entry.key.flow_run);
    let why = match verdict {
        Verdict::Job(why) => why,
        Verdict::Refused(why) => {
            say(services, id, LogLevel::ERROR, why.clone()).await;
            return Err(NotStarted::Failed(why));
        }
        Verdict::Nothing | Verdict::Worker => return Ok(Code::InPlace),
    };
    if entry.reporter == Reporter::Engine {
        let message = format!("The job runs the pull steps itself: {why}.");
        services.run_log.say(id, LogLevel::INFO, message).await;
        return Ok(if outlook.delegated {
            Code::InPlace
        } else {
            Code::LeftToJob
        });
    }
    // The code of a plain command may be in its image.
    if outlook.inside && outlook.names_directory {
        return Ok(Code::InPlace);
    }
    Err(NotStarted::Failed(format!(
        "this worker cannot get the code of the deployment, and in a plain command nobody else does: {why}"
    )))
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
) -> Result<Result<Pulled, String>, NotStarted> {
    let (lines_tx, mut lines_rx) = mpsc::channel(MOST_WAITING);
    let cancelled = CancellationToken::new();
    let operation = operation(&told.services.state_dir, cancelled.clone(), lines_tx);
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
    let limit = told.services.puller.timeout;
    let mut work = pin!(async { tokio::join!(running, telling).0 });
    let timed = tokio::time::timeout(limit, work.as_mut());
    let ended = line.unless_ended(timed).await;
    let cut_short = match ended {
        Ok(Ok(done)) => return Ok(done.map_err(|failed| chain(&failed))),
        Ok(Err(_elapsed)) => Ok(Err(too_long(limit))),
        Err(why) => Err(why),
    };
    cancelled.cancel();
    drop(work.await);
    cut_short
}

/// What steps work under. Whatever still works under it, though nobody waits for it any more, keeps the worker's directory taken.
fn operation(
    state_dir: &Arc<StateDir>,
    cancelled: CancellationToken,
    lines_tx: mpsc::Sender<String>,
) -> Operation {
    let held = Arc::clone(state_dir);
    let progress = move |line| {
        let _held = &held;
        // Progress that nobody could send in time is old.
        drop(lines_tx.try_send(line));
    };
    Operation {
        cancelled,
        progress: Arc::new(progress),
    }
}

/// Why steps were ended that did not end by themselves.
pub(crate) fn too_long(limit: Duration) -> String {
    let limit = limit.as_secs();
    format!("the pull steps did not end within {limit} s; pull.timeout says how long they may take")
}

fn parse(written: &[Written<'_>], interpreter: bool) -> Result<Vec<Step>, Unsupported> {
    let steps = written.iter();
    steps
        .map(|(_, step)| Step::parse(step, interpreter))
        .collect()
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

#[cfg(test)]
mod tests;
