//! `worker --pool NAME`: settings, API, pool and driver put together, and the workers run.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc};

use tokio::sync::{mpsc, watch};

use worker_api::{Client, types::WorkPool};
use worker_config::{DriverKind, Secret, settings::Settings};
use worker_drivers::{
    Driver, Environment,
    docker::{DockerDriver, DockerOptions, DockerSettings, EnvironmentMode},
    kubernetes::{Keep, KubernetesDriver, KubernetesOptions, PullImage},
    subprocess::{Cgroups, SubprocessDriver, SubprocessOptions},
};

use super::{
    context::{Api, Context, Misconfigured, Usage, exit_code},
    crew::Crew,
    out::Out,
};
use crate::{
    event::Stage,
    heartbeat::{self, PoolError, PoolWish},
    notify,
    parts::Setup,
    patience::Patience,
    shutdown::{self, FirstTerm},
    state_dir::{StateDir, StateDirError},
    status, task, telemetry,
};

/// The Python of the image that jobs get which name none. The reference takes its own interpreter's. We have none, and take one from the middle of those
/// that Prefect has images for.
const DEFAULT_PYTHON: &str = "python3.12";

/// The directory of a worker, or why it cannot be had.
pub(crate) type TakenDir = Result<StateDir, StateDirError>;

/// How many stages of shutdown may wait: there are no more.
const STAGES: usize = 4;

/// Runs workers until they are told to end.
pub(crate) async fn start(context: Context, out: Out) -> anyhow::Result<ExitCode> {
    let out = out.beside_log(context.settings.logging.json);
    let worked = Box::pin(work(context, out)).await;
    match worked {
        Err(error) if out.is_log() => {
            out.error(&error);
            Ok(exit_code(&error))
        }
        worked => worked,
    }
}

async fn work(mut context: Context, out: Out) -> anyhow::Result<ExitCode> {
    let several = context.settings.pools.len() > 1;
    let loudness = telemetry::init(&context.settings.logging, several);
    context.tell_notices(out);
    let named = context.settings.pools.iter();
    let mut pools: Vec<String> = named.filter_map(|own| own.pool.clone()).collect();
    if pools.is_empty() {
        pools.extend(ask_for_pool(out));
    }
    let dirs = take_state_dirs(&context.settings, pools);
    let Some(worker) = first_worker(&dirs) else {
        return Err(none_taken(dirs, out));
    };
    let api = context.api(Some(worker)).await?;
    if let Some(embedded) = &api.embedded {
        introduce(embedded, out);
    }
    use_api(&mut context.settings, &api);
    let first_term = first_term(&context.settings, &api);
    let (stages_tx, stages_rx) = stages();
    let _signals = task::spawn("signals", shutdown::listen(first_term, stages_tx));
    // An address that is taken ends this before anything is claimed.
    let status = &context.settings.status;
    let listener = if status.enabled {
        Some(status::listen(status).await?)
    } else {
        None
    };
    let crew = Crew::begin((context, loudness), api, out, dirs);
    let _serving = crew.serve_status(listener);
    let api = Box::pin(crew.work(stages_rx)).await?;
    if let Some(api) = Arc::into_inner(api) {
        api.end().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// The directories of the workers for some pools, each with its pool. One that cannot be had is no reason not to serve the others.
fn take_state_dirs(settings: &Settings, pools: Vec<String>) -> Vec<(String, TakenDir)> {
    let dirs = pools.into_iter().map(|pool| {
        let taken = take_state_dir(&settings.of_pool(&pool), &pool);
        (pool, taken)
    });
    dirs.collect()
}

fn first_worker(dirs: &[(String, TakenDir)]) -> Option<&str> {
    let mut taken = dirs.iter().filter_map(|(_, taken)| taken.as_ref().ok());
    taken.next().map(|dir| dir.worker.as_str())
}

/// Why there is no directory to begin with. The last of several reasons is the one to end with, and the others are told.
fn none_taken(dirs: Vec<(String, TakenDir)>, out: Out) -> anyhow::Error {
    let mut errors = dirs.into_iter().filter_map(|(_, taken)| taken.err());
    let Some(last) = errors.next_back() else {
        return Usage("which work pool? start with `worker --pool NAME`; `worker --help` shows everything else".to_owned()).into();
    };
    for error in errors {
        out.error(&error.into());
    }
    last.into()
}

/// The directory of the worker for a pool.
pub(crate) fn take_state_dir(settings: &Settings, pool: &str) -> TakenDir {
    let worker = &settings.worker;
    StateDir::take(&worker.state_dir, pool, worker.name.as_deref())?
        .keep_workspaces_in(settings.pull.workspaces.as_deref(), pool)
}

/// What the worker for the pool of these settings is made of. What changes of them from here on is seen by the worker.
pub(crate) async fn setup(
    mut settings_rx: watch::Receiver<Arc<Settings>>,
    kind: DriverKind,
    api: &Api,
    state_dir: StateDir,
) -> anyhow::Result<Setup> {
    let settings = settings_rx.borrow_and_update().as_ref().clone();
    let driver = driver(kind, &settings, state_dir.jobs(), own_environment()).await?;
    let wish = wish(&settings, driver.as_ref())?;
    Ok(Setup {
        settings,
        settings_rx,
        client: api.client.for_worker(&state_dir.worker),
        driver,
        state_dir: Arc::new(state_dir),
        wish,
        echo: true,
        seat: None,
    })
}

/// What jobs of this machine may have of this process' environment.
pub(crate) fn own_environment() -> Environment {
    let mut environment = Environment::of_process();
    let ours = |name: &String| notify::VARIABLES.contains(&name.as_str());
    environment.0.retain(|name, _| !ours(name));
    environment
}

/// Makes the driver for a pool type. Subprocess jobs are kept in a directory of theirs. The environment says where engines are, and subprocess jobs inherit it.
pub(crate) async fn driver(
    kind: DriverKind,
    settings: &Settings,
    jobs: PathBuf,
    environment: Environment,
) -> anyhow::Result<Arc<dyn Driver>> {
    match kind {
        DriverKind::Process => {
            let mut options = SubprocessOptions::new(jobs, environment);
            options.python.clone_from(&settings.process.python);
            if !settings.process.cgroups {
                options.cgroups = Cgroups::Off;
            }
            Ok(Arc::new(SubprocessDriver::new(options)?))
        }
        DriverKind::Docker => {
            let options = docker_options(settings, &environment)?;
            Ok(Arc::new(DockerDriver::connect(options).await?))
        }
        DriverKind::Kubernetes => {
            let mut options = KubernetesOptions::from_environment(default_image(), &environment.0);
            let image = settings.kubernetes.pull_image.clone();
            options.settings.pull_image = image.map(PullImage);
            if !settings.kubernetes.pass_credentials {
                options.settings.credentials.rest = Keep::Nowhere;
            }
            let driver = KubernetesDriver::connect(options).await;
            let driver = driver.map_err(|error| Misconfigured(telemetry::chain(&error)))?;
            Ok(Arc::new(driver))
        }
    }
}

/// The engine that a `docker` in the same environment would speak to.
fn docker_options(settings: &Settings, environment: &Environment) -> anyhow::Result<DockerOptions> {
    let common = DockerSettings {
        version: worker_api::REFERENCE_VERSION.to_owned(),
        default_image: default_image(),
        api_url: settings
            .job_environment
            .get("PREFECT_API_URL")
            .map(|url| url.expose().to_owned()),
        current_dir: std::env::current_dir()?,
        bind_workspace: settings.docker.bind_workspace,
    };
    let mut options = DockerOptions::from_environment(common, &environment.0)
        .map_err(|error| Misconfigured(telemetry::chain(&error)))?;
    options.keep_failed = settings.docker.keep_failed;
    if settings.docker.hide_environment {
        options.environment = EnvironmentMode::File;
    }
    Ok(options)
}

/// The image of jobs that name none.
fn default_image() -> String {
    let version = worker_api::REFERENCE_VERSION;
    format!("prefecthq/prefect:{version}-{DEFAULT_PYTHON}")
}

/// Tells jobs where the API is, which they could not know of an embedded one.
pub(crate) fn use_api(settings: &mut Settings, api: &Api) {
    if let Some(embedded) = &api.embedded {
        let url = Secret::new(embedded.url.as_str().trim_end_matches('/'));
        settings
            .job_environment
            .insert("PREFECT_API_URL".to_owned(), url);
        if let Some(token) = &settings.server.token {
            settings
                .job_environment
                .insert("PREFECT_API_KEY".to_owned(), token.clone());
        }
    }
}

fn introduce(embedded: &crate::embedded::Embedded, out: Out) {
    out.notice(&format!(
        "No Prefect API is configured (PREFECT_API_URL), so this worker uses the embedded one.\n  API   {}\n  data  {}{}",
        embedded.url,
        embedded.database.display(),
        if embedded.is_ours() { "" } else { "\n  It is run by another worker on this machine and ends with that." },
    ));
}

/// The pool's own type where it exists, else what its name says, else what a person says.
pub(crate) async fn find_kind(
    client: &Client,
    settings: &Settings,
    (pool, may_ask): (&str, bool),
    out: Out,
) -> anyhow::Result<DriverKind> {
    if let Some(found) = find_pool(client, pool).await {
        let kind = found
            .kind
            .parse()
            .map_err(|error: worker_config::kind::UnknownKind| {
                Misconfigured(format!("work pool '{pool}': {error}"))
            })?;
        out.notice(&format!("Discovered type '{kind}' for work pool '{pool}'."));
        return Ok(kind);
    }
    if !settings.worker.create_pool_if_not_found {
        return Err(PoolError::Missing(pool.to_owned()).into());
    }
    if let Some(kind) = DriverKind::guess_from_name(pool) {
        out.notice(&format!(
            "Work pool '{pool}' does not exist yet; its name says that it is of type '{kind}' (--type says otherwise)."
        ));
        return Ok(kind);
    }
    let asked = may_ask.then(|| ask_for_kind(pool)).flatten();
    asked.ok_or_else(|| {
        Usage(format!(
            "work pool '{pool}' does not exist yet, and its name does not say of which type it is to be; start with --type process, docker or kubernetes"
        ))
        .into()
    })
}

/// Asks until the API says whether the pool exists.
async fn find_pool(client: &Client, pool: &str) -> Option<WorkPool> {
    let mut patience = Patience::new();
    loop {
        match client.with_retries(0).read_work_pool(pool).await {
            Ok(found) => return Some(found),
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                heartbeat::complain(&error);
                patience.wait().await;
            }
        }
    }
}

fn wish(settings: &Settings, driver: &dyn Driver) -> anyhow::Result<PoolWish> {
    let template = match &settings.worker.base_job_template {
        None => driver.default_template(),
        Some(file) => super::pool::read_template(file)?,
    };
    Ok(PoolWish {
        pool: settings.worker.pool.clone().unwrap_or_default(),
        kind: driver.kind(),
        template,
        create: settings.worker.create_pool_if_not_found,
        // The driver's own template is for pools that have none.
        sync_template: settings.worker.sync_base_job_template
            && settings.worker.base_job_template.is_some(),
    })
}

/// Jobs of this machine outlive the worker, unless their API ends with it.
fn first_term(settings: &Settings, api: &Api) -> FirstTerm {
    let api_ends = api
        .embedded
        .as_ref()
        .is_some_and(crate::embedded::Embedded::is_ours);
    if api_ends || settings.worker.drain_timeout.is_some() {
        FirstTerm::Drain
    } else {
        FirstTerm::LetGo
    }
}

fn ask_for_pool(out: Out) -> Option<String> {
    if out.json || !std::io::stdin().is_terminal() {
        return None;
    }
    dialoguer::Input::new()
        .with_prompt("Which work pool")
        .interact_text()
        .ok()
}

fn ask_for_kind(pool: &str) -> Option<DriverKind> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let kinds = [
        DriverKind::Process,
        DriverKind::Docker,
        DriverKind::Kubernetes,
    ];
    let prompt = format!("Work pool '{pool}' does not exist yet. Of which type is it to be");
    let chosen = dialoguer::Select::new()
        .with_prompt(prompt)
        .items(kinds)
        .default(0)
        .interact()
        .ok()?;
    kinds.get(chosen).copied()
}

/// Where a caller that is itself the shutdown says which stage it is.
pub(crate) fn stages() -> (mpsc::Sender<Stage>, mpsc::Receiver<Stage>) {
    mpsc::channel(STAGES)
}
