//! What every command begins with: the settings, and the API.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;

use worker_api::{
    ApiError, Client, ClientOptions,
    types::{FlowRun, FlowRunFilter},
};
use worker_config::settings::{self, ConfigErrors, Flags, Settings, Sources};
use worker_drivers::Environment;

use super::{
    args::{Global, StartArgs},
    credentials,
    out::Out,
};
use crate::{
    embedded::{Embedded, EmbeddedError, Stay},
    heartbeat::PoolError,
    parts::WorkerError,
    state_dir::StateDirError,
    status::ListenError,
    task::{self, Task},
};

/// The settings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// What they were read from.
    sources: Sources,
    out: Out,
}

/// The API of one command.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) client: Client,
    /// Where none is configured.
    pub(crate) embedded: Option<Embedded>,
    /// What a person is told who waits for it.
    _impatience: Option<Task<()>>,
}

/// How often a command tries again that a person waits for: with the pauses between, a quarter of a minute.
const BRIEF_RETRIES: u32 = 3;

/// How long a person waits before a word on what for.
const SILENCE: Duration = Duration::from_secs(3);

/// Something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(pub(crate) String);

/// Something a person typed that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Something that is set up in a way that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misconfigured(pub(crate) String);

/// What could not be meant by anybody, whatever there is. What could be meant and is not there is a failure like any other.
const USAGE: u8 = 2;

/// `EX_CONFIG` of sysexits: a supervisor should not start the program again before somebody has changed something.
const CONFIGURATION: u8 = 78;

/// Whether an error is one that somebody has to mend: it does not pass by itself.
pub(crate) fn is_misconfigured(error: &anyhow::Error) -> bool {
    error.is::<Usage>() || is_configuration(error)
}

fn is_configuration(error: &anyhow::Error) -> bool {
    error.is::<ConfigErrors>()
        || error.is::<Misconfigured>()
        || error.is::<StateDirError>()
        || error.is::<ListenError>()
        || matches!(
            error.downcast_ref(),
            Some(PoolError::Missing(_) | PoolError::WrongType { .. })
        )
        || matches!(error.downcast_ref(), Some(WorkerError::Pool(_)))
        || matches!(error.downcast_ref(), Some(EmbeddedError::Directory(_)))
}

/// The exit code for an error that ends a command.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if is_configuration(error) {
        ExitCode::from(CONFIGURATION)
    } else if error.is::<Usage>() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

// === impl Context ===

impl Context {
    pub(crate) fn load(flags: Flags, out: Out) -> anyhow::Result<Self> {
        let directory = std::env::current_dir().context("the current directory")?;
        Self::load_at(flags, (Environment::of_process(), directory), out)
    }

    /// The same as a process with this environment and directory would.
    pub(crate) fn load_at(
        flags: Flags,
        (Environment(mut environment), directory): (Environment, PathBuf),
        out: Out,
    ) -> anyhow::Result<Self> {
        credentials::add(&mut environment)?;
        let sources = Sources {
            flags,
            home: environment.get("HOME").map(Into::into),
            directory,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            environment,
        };
        let settings = settings::load(&sources)?;
        Ok(Self {
            settings,
            sources,
            out,
        })
    }

    /// Reads the settings again. Files may have changed; flags and environment are what this process was begun with.
    pub(crate) fn again(&self) -> anyhow::Result<Settings> {
        Ok(settings::load(&self.sources)?)
    }

    /// The configured API, or the embedded one.
    pub(crate) async fn api(&self, worker_name: Option<&str>) -> anyhow::Result<Api> {
        let (url, embedded) = if let Some(url) = &self.settings.api.url {
            (url.clone(), None)
        } else {
            let state_dir = &self.settings.worker.state_dir;
            // Only a worker has a name here, and only a worker stays.
            let stay = worker_name.map_or(Stay::Brief, |_| Stay::Lasting);
            let embedded = Embedded::attach(state_dir, &self.settings.server, stay).await?;
            (embedded.url.clone(), Some(embedded))
        };
        let mut options = ClientOptions::from_settings(&self.settings.api, url);
        options.worker_name = worker_name.map(str::to_owned);
        if embedded.is_some() {
            // The embedded API knows one credential: its own.
            options.key.clone_from(&self.settings.server.token);
            options.auth_string = None;
        }
        let client = Client::new(options)?;
        if worker_name.is_some() {
            return Ok(Api {
                client,
                embedded,
                _impatience: None,
            });
        }
        let retries = self.settings.api.max_retries.min(BRIEF_RETRIES);
        let client = client.with_retries(retries);
        let impatience = complain_of_silence(client.clone(), self.out);
        Ok(Api {
            client,
            embedded,
            _impatience: Some(task::spawn("impatience", impatience)),
        })
    }

    /// Says what people should know of their settings.
    pub(crate) fn tell_notices(&self, out: Out) {
        for notice in &self.settings.notices {
            out.notice(&format!("note: {notice}"));
        }
    }
}

// === impl Api ===

impl Api {
    /// How often to look for news: the embedded API is next door.
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_millis(if self.embedded.is_some() { 50 } else { 1_000 })
    }

    pub(crate) async fn end(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }

    /// Finds a flow run by its id or by the beginning of it among the latest.
    pub(crate) async fn flow_run(&self, text: &str) -> anyhow::Result<FlowRun> {
        if let Ok(id) = text.parse() {
            let read = self.client.read_flow_run(id).await;
            let missing = format!("no flow run has the id {text}");
            return read.map_err(|error| about(error, &missing));
        }
        let filter = FlowRunFilter {
            limit: Some(200),
            ..FlowRunFilter::default()
        };
        let latest = self.client.list_flow_runs(&filter).await?;
        let mut found = latest
            .into_iter()
            .filter(|run| run.id.to_string().starts_with(text) || run.name == text);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => {
                Err(Usage(format!("more than one flow run is meant by '{text}'; give more of the id, or its name")).into())
            }
            (None, _) => {
                Err(Missing(format!("no flow run among the latest 200 is meant by '{text}'; `worker ps --all` lists them")).into())
            }
        }
    }
}

/// Says what is waited for, if nothing has come for a while.
async fn complain_of_silence(client: Client, out: Out) {
    tokio::time::sleep(SILENCE).await;
    let answered = client
        .tally()
        .iter()
        .any(|(result, count)| *count > 0 && !matches!(*result, "none" | "5xx"));
    if !answered {
        let url = client.base_url();
        out.notice(&format!(
            "The API at {url} does not answer; trying for a little longer."
        ));
    }
}

/// What is said of an API's answer about something that a person named.
pub(crate) fn about(error: ApiError, missing: &str) -> anyhow::Error {
    if error.is_not_found() {
        Missing(missing.to_owned()).into()
    } else {
        error.into()
    }
}

/// The command line as the settings want it.
pub(crate) fn flags(global: &Global, start: &StartArgs) -> Flags {
    let Global {
        json: _,
        profile,
        config,
        api_url,
        state_dir,
        log_level,
        log_json,
    } = global.clone();
    let StartArgs {
        pool,
        name,
        work_queue,
        kind,
        limit,
        prefetch_seconds,
        run_once,
        no_run_once,
        with_healthcheck,
        no_with_healthcheck,
        base_job_template,
        no_create_pool_if_not_found,
        create_pool_if_not_found,
        drain_timeout,
        stop_grace,
        query_interval,
        start_concurrency,
        status_host,
        status_port,
        pull_mode,
        workspaces,
        disk_floor,
        python,
        install_policy: _,
    } = start.clone();
    let either = |yes: bool, no: bool| (yes || no).then_some(yes);
    Flags {
        pools: pool,
        name,
        work_queues: work_queue,
        kinds: kind,
        prefetch_seconds,
        run_once: either(run_once, no_run_once),
        limits: limit,
        with_healthcheck: either(with_healthcheck, no_with_healthcheck),
        base_job_template,
        create_pool_if_not_found: either(create_pool_if_not_found, no_create_pool_if_not_found),
        profile,
        config,
        state_dir,
        api_url,
        query_interval,
        start_concurrency,
        drain_timeout,
        stop_grace,
        status_host,
        status_port,
        log_level,
        log_json: log_json.then_some(true),
        pull_mode,
        workspaces,
        disk_floor,
        python,
        server_host: None,
        server_port: None,
        serve: false,
    }
}
