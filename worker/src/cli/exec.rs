//! `worker exec`: one deployment of a `prefect.yaml`, run here to its end, on an API and a worker that live as long as the run.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use worker_api::{
    Client, ClientOptions,
    types::{FlowRun, ProposedState, StateType},
};
use worker_config::{
    DriverKind, Secret,
    manifest::{DeploymentEntry, Manifest},
    settings::{ApiSettings, DiskFloor, Settings},
};
use worker_server::{Server, ServerOptions, Storage};

use super::{
    args::ExecArgs,
    context::{Context, Misconfigured},
    follow,
    out::Out,
    run::key_values,
    start,
};
use crate::{
    deploy,
    event::Stage,
    heartbeat::PoolWish,
    parts::Setup,
    shutdown::{self, FirstTerm},
    state_dir::{StateDir, StateDirError},
    task, telemetry, worker,
};

/// The pool of an exec. It exists for one run.
const POOL: &str = "exec";

/// How often things are looked at: everything is in this process.
const PACE: Duration = Duration::from_millis(20);

/// A directory for one run, removed with all that is in it at the end.
struct Scratch(PathBuf);

// === impl Scratch ===

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, directory = %self.0.display(), "cannot be removed");
        }
    }
}

// === functions ===

pub(crate) async fn exec(
    mut context: Context,
    out: Out,
    args: ExecArgs,
) -> anyhow::Result<ExitCode> {
    if context.settings.logging.level == "INFO" || context.settings.logging.level == "info" {
        // What an operator wants to know of a worker is in the way of somebody who wants to see one run.
        "warn".clone_into(&mut context.settings.logging.level);
    }
    telemetry::init(&context.settings.logging, false);
    let file = manifest_file(&args.path)?;
    let manifest = Manifest::read(&file)?;
    let entry = deploy::choose(&manifest, &file, args.deployment.as_deref())
        .map_err(|error| Misconfigured(telemetry::chain(&error)))?;
    if let Some(elsewhere) = elsewhere(entry) {
        out.notice(&elsewhere);
    }
    let parameters = key_values(&args.params)?;
    let base = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let home = scratch(&context.settings.worker.state_dir)?;
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let server = Server::start(ServerOptions {
        listen: loopback,
        storage: Storage::Memory,
        token: None,
        faults: None,
    })
    .await
    .context("embedded API")?;
    let settings = private(context.settings, &server, home.path());
    let state_dir = StateDir::take(home.path(), POOL, Some("exec"))?;
    let mut options = ClientOptions::from_settings(&settings.api, server.url());
    options.worker_name = Some(state_dir.worker.clone());
    let client = Client::new(options)?;
    let driver = start::driver(
        DriverKind::Process,
        &settings,
        state_dir.jobs(),
        start::own_environment(),
    )
    .await?;
    let wish = PoolWish {
        pool: POOL.to_owned(),
        kind: DriverKind::Process,
        template: driver.default_template(),
        create: true,
        sync_template: false,
    };
    crate::heartbeat::ready(&client, &wish).await?;
    let deployment = deploy::deploy(&client, &manifest, entry, (&base, POOL)).await?;
    let flow_run = client
        .create_flow_run(deployment.id, parameters, None, None, vec![])
        .await?;
    out.notice(&format!(
        "Running '{}' as flow run '{}'.",
        deployment.name, flow_run.name
    ));
    let setup = Setup {
        settings_rx: watch::channel(Arc::new(settings.clone())).1,
        settings,
        client: client.clone(),
        driver,
        state_dir: Arc::new(state_dir),
        wish,
        echo: false,
        seat: None,
    };
    let ended = work_and_follow(setup, &client, &flow_run, out).await;
    server.stop().await;
    Ok(follow::conclude(&ended?, out))
}

/// Runs the worker until the flow run is over, showing its log. A first signal cancels the flow run, a second one stops its job, a third
/// leaves: nobody would find it again.
async fn work_and_follow(
    setup: Setup,
    client: &Client,
    flow_run: &FlowRun,
    out: Out,
) -> anyhow::Result<FlowRun> {
    let (stages_tx, stages_rx) = start::stages();
    let (signals_tx, signals_rx) = start::stages();
    let _signals = task::spawn("signals", shutdown::listen(FirstTerm::Drain, signals_tx));
    let mut working = Box::pin(worker::run(setup, stages_rx));
    let following = follow::until_over(client, flow_run.id, PACE, out);
    let watched = tokio::select! {
        // It ends before the flow run only when it is told to leave.
        worked = &mut working => worked.map(|_| None)?,
        watched = following => Some(watched?),
        never = interrupt(client, flow_run, signals_rx, stages_tx.clone()) => match never {},
    };
    if let Some((_, mut shown)) = watched {
        // Only now may the worker end: it still has to let go of the job and to send the last lines.
        stages_tx.send(Stage::Draining).await.ok();
        working.await?;
        shown.go_on(client, flow_run.id, out).await?;
    }
    Ok(client.read_flow_run(flow_run.id).await?)
}

async fn interrupt(
    client: &Client,
    flow_run: &FlowRun,
    mut signals_rx: mpsc::Receiver<Stage>,
    stages_tx: mpsc::Sender<Stage>,
) -> Infallible {
    while let Some(stage) = signals_rx.recv().await {
        if stage > Stage::LettingGo {
            stages_tx.send(stage).await.ok();
            continue;
        }
        let cancelling = ProposedState::new(StateType::Cancelling);
        if let Err(error) = client.propose_state(flow_run.id, &cancelling).await {
            tracing::error!(error = %telemetry::chain(&error), "cannot cancel the flow run");
        }
    }
    std::future::pending().await
}

/// Says that a deployment is meant for an engine, which `exec` does without.
fn elsewhere(entry: &DeploymentEntry) -> Option<String> {
    let pool = entry.work_pool.as_ref()?;
    let name = pool.name.as_deref().unwrap_or_default();
    let kind = DriverKind::guess_from_name(name).filter(|kind| *kind != DriverKind::Process);
    let image = pool.job_variables.get("image").and_then(|it| it.as_str());
    let without = match (image, kind) {
        (Some(image), _) => format!("not in a container of its image '{image}'"),
        (None, Some(kind)) => format!("not by {kind}, as its work pool's name has it"),
        (None, None) => return None,
    };
    Some(format!(
        "note: `worker exec` runs a deployment as a process of this machine, {without}. A worker of its pool does: worker --pool {}",
        if name.is_empty() { "NAME" } else { name }
    ))
}

fn manifest_file(path: &Path) -> anyhow::Result<PathBuf> {
    let file = if path.is_dir() {
        path.join("prefect.yaml")
    } else {
        path.to_owned()
    };
    let found = file
        .canonicalize()
        .with_context(|| file.display().to_string());
    Ok(found.map_err(|error| Misconfigured(telemetry::chain(error.as_ref())))?)
}

/// It is inside the state directory, so that it is on a disk meant for this.
fn scratch(state_dir: &Path) -> anyhow::Result<Scratch> {
    let path = state_dir.join(format!("exec-{}", uuid::Uuid::new_v4()));
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(Scratch(path)),
        Err(source) => Err(StateDirError::Io { path, source }.into()),
    }
}

/// The settings of a worker that has one run and its own API: quick to look, quick to send lines, and not where a person's API is.
fn private(mut settings: Settings, server: &Server, home: &Path) -> Settings {
    let url = server.url().as_str().trim_end_matches('/').to_owned();
    settings.job_environment.retain(|name, _| !about_api(name));
    settings
        .job_environment
        .insert("PREFECT_API_URL".to_owned(), Secret::new(url));
    settings.api = ApiSettings {
        key: None,
        auth_string: None,
        ..settings.api
    };
    home.clone_into(&mut settings.worker.state_dir);
    // Somebody waits for this one run, and would wait for ever.
    settings.pull.disk_floor = DiskFloor::Bytes(0);
    settings.worker.cancellation_interval = Duration::from_millis(500);
    settings.logging.batch_interval = PACE;
    settings.status.enabled = false;
    settings
}

fn about_api(name: &str) -> bool {
    name.starts_with("PREFECT_API_") || name.starts_with("PREFECT_CLIENT_")
}
