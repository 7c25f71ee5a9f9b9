//! What people may type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs flow runs of a Prefect work pool on this machine, in containers or in Kubernetes.
///
/// `worker --pool NAME` runs a worker, and takes the flags of `prefect worker start`. Without a configured API it brings its own.
#[derive(Debug, Parser)]
#[command(name = "worker", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) start: StartArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Write results as JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The Prefect profile to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The configuration file, instead of the first worker.toml found.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The API, instead of `PREFECT_API_URL`.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Where the worker keeps its journal, its jobs and the embedded API.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How much is written: error, warn, info, debug, trace.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Write the worker's own log as JSON lines.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

/// What a worker takes. The flags of `prefect worker start` mean the same here.
#[derive(Clone, Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that people type"
)]
#[command(next_help_heading = "Worker")]
pub(crate) struct StartArgs {
    /// The work pool to poll; with more than one, this process has a worker for each.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// This worker's name; the host's and the pool's make one otherwise.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Poll only this work queue; may be given more than once.
    #[arg(short = 'q', long, value_name = "QUEUE")]
    pub(crate) work_queue: Vec<String>,
    /// The pool's type, for a pool that does not exist yet: process, docker or kubernetes. `POOL=TYPE` is for one of several pools.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub(crate) kind: Vec<String>,
    /// How many flow runs may run at once, of each pool. `POOL=N` is for one of several.
    #[arg(short, long, value_name = "N", value_parser = read_limit)]
    pub(crate) limit: Vec<String>,
    /// How many seconds before its time a flow run may be taken.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) prefetch_seconds: Option<String>,
    /// Poll once, wait for what was started, and end.
    #[arg(long, overrides_with = "no_run_once")]
    pub(crate) run_once: bool,
    #[arg(long, hide = true)]
    pub(crate) no_run_once: bool,
    /// Serve /livez, /readyz, /health, /status and /metrics.
    #[arg(long, overrides_with = "no_with_healthcheck")]
    pub(crate) with_healthcheck: bool,
    #[arg(long, hide = true)]
    pub(crate) no_with_healthcheck: bool,
    /// A JSON file with the base job template for a pool that this worker creates.
    #[arg(long, value_name = "FILE")]
    pub(crate) base_job_template: Option<PathBuf>,
    /// Do not create the pool when there is none.
    #[arg(long, overrides_with = "create_pool_if_not_found")]
    pub(crate) no_create_pool_if_not_found: bool,
    #[arg(long, hide = true)]
    pub(crate) create_pool_if_not_found: bool,
    /// How long to wait for flow runs at the first signal before they are stopped, such as 30s or 5m.
    #[arg(long, value_name = "TIME")]
    pub(crate) drain_timeout: Option<String>,
    /// How long a job may take to end once it was asked to, before it is forced.
    #[arg(long, value_name = "TIME")]
    pub(crate) stop_grace: Option<String>,
    /// Time between polls.
    #[arg(long, value_name = "TIME")]
    pub(crate) query_interval: Option<String>,
    /// How many flow runs may be between claim and start at once.
    #[arg(long, value_name = "N")]
    pub(crate) start_concurrency: Option<u32>,
    /// Where the status server listens.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) status_host: Option<String>,
    /// The status server's port.
    #[arg(long, value_name = "PORT")]
    pub(crate) status_port: Option<u16>,
    /// Who runs pull steps: worker, job or auto.
    #[arg(long, value_name = "MODE")]
    pub(crate) pull_mode: Option<String>,
    /// Where workspaces are made.
    #[arg(long, value_name = "DIR")]
    pub(crate) workspaces: Option<PathBuf>,
    /// How much of the disk must be free for flow runs to be claimed, such as 2GB or 5%.
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_floor: Option<String>,
    /// The Python that runs flows in subprocesses.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// Accepted and without effect: every driver is built in.
    #[arg(long, hide = true, value_name = "POLICY")]
    pub(crate) install_policy: Option<String>,
}

/// A number, or `POOL=N`.
fn read_limit(text: &str) -> Result<String, std::num::ParseIntError> {
    let number = text.rsplit_once('=').map_or(text, |(_, number)| number);
    number.parse::<u32>().map(|_| text.to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a worker; the same as no command at all.
    Start(Box<StartArgs>),
    /// Run one deployment of a prefect.yaml here, to its end, with its logs. Needs no server.
    Exec(ExecArgs),
    /// Run the embedded API alone.
    Server(ServerArgs),
    /// Create a flow run of a deployment.
    Run(RunArgs),
    /// List flow runs.
    Ps(PsArgs),
    /// Show the log of a flow run.
    Logs(LogsArgs),
    /// Cancel a flow run.
    Cancel(CancelArgs),
    /// Work pools.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Let this machine's workers claim nothing more until they are resumed, a restart included; what runs goes on.
    Pause(PauseArgs),
    /// Let them claim flow runs again.
    Resume(PauseArgs),
    /// Run pull steps into a directory, and say what came.
    Pull(PullArgs),
    /// Show the job that a flow run of a deployment would become, with its secrets covered.
    Render(RenderArgs),
    /// Check everything a flow run needs here.
    Doctor(DoctorArgs),
    /// Write what a shell needs to complete this command line.
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write manual pages.
    #[command(hide = true)]
    Man {
        /// The directory to write them into.
        #[arg(value_name = "DIR")]
        into: PathBuf,
    },
    /// Write a page of the documentation.
    #[command(hide = true)]
    Reference {
        /// Which.
        #[arg(value_name = "PAGE")]
        page: Page,
    },
}

/// A page that is made from what the code knows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Page {
    /// Every setting.
    Configuration,
    /// Every command and flag.
    CommandLine,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// A directory with a prefect.yaml, or such a file.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The deployment, where the file has more than one.
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) deployment: Option<String>,
    /// A parameter; its value is read as JSON where it is JSON. May be given more than once.
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    pub(crate) params: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The address to listen on; one that others can reach needs a token in the settings.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// FLOW/DEPLOYMENT, or the id of a deployment.
    #[arg(value_name = "DEPLOYMENT")]
    pub(crate) deployment: String,
    /// A parameter; its value is read as JSON where it is JSON. May be given more than once.
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    pub(crate) params: Vec<String>,
    /// A job variable; may be given more than once.
    #[arg(long = "job-variable", value_name = "KEY=VALUE")]
    pub(crate) job_variables: Vec<String>,
    /// The flow run's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) flow_run_name: Option<String>,
    /// Show its log until it ends; the exit code says how it went.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The work pool to look at; may be given more than once.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// The pool's type, for a pool that does not exist yet: process, docker or kubernetes.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// An image to ask its registry for.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The systemd unit of a worker: whether it is set up for its pool.
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    /// The Python that runs flows in subprocesses.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// Only workers of this work pool; may be given more than once.
    #[arg(short, long = "pool", value_name = "NAME")]
    pub(crate) pools: Vec<String>,
    /// Only the worker of this name.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// FLOW/DEPLOYMENT, or the id of a deployment.
    #[arg(value_name = "DEPLOYMENT")]
    pub(crate) deployment: String,
    /// Another deployment: what differs is shown, and the exit code is 1 when something does.
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(crate) against: Option<String>,
    /// A job variable of the flow run; may be given more than once.
    #[arg(long = "job-variable", value_name = "KEY=VALUE")]
    pub(crate) job_variables: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that are over.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only those of this work pool.
    #[arg(long = "in", value_name = "POOL")]
    pub(crate) in_pool: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) most: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The flow run's name, its id, or the beginning of its id.
    #[arg(value_name = "FLOW_RUN")]
    pub(crate) flow_run: String,
    /// Go on until the flow run ends.
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The flow run's name, its id, or the beginning of its id.
    #[arg(value_name = "FLOW_RUN")]
    pub(crate) flow_run: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub(crate) struct PullArgs {
    /// The directory to pull into; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// The deployment whose steps to run: FLOW/DEPLOYMENT, or its id.
    #[arg(long, value_name = "DEPLOYMENT", group = "whose")]
    pub(crate) deployment: Option<String>,
    /// A file with pull steps: a list of steps in YAML or JSON, or a prefect.yaml, of which the `pull` section is run. `-` is the standard input.
    #[arg(long, value_name = "FILE", group = "whose")]
    pub(crate) steps: Option<PathBuf>,
    /// A file to write the manifest to, instead of the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// A symbolic link to make to the directory in which the steps end.
    #[arg(long, value_name = "PATH")]
    pub(crate) link: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a work pool.
    Create {
        /// Its name.
        name: String,
        /// Its type: process, docker or kubernetes; read out of the name where it says it.
        #[arg(short = 't', long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// A JSON file with its base job template.
        #[arg(long, value_name = "FILE")]
        base_job_template: Option<PathBuf>,
        /// How many of its flow runs may run at once.
        #[arg(long, value_name = "N")]
        concurrency_limit: Option<u32>,
        /// Create it paused.
        #[arg(long)]
        paused: bool,
    },
    /// List work pools.
    Ls,
    /// Show a work pool with its queues, its workers and its base job template.
    Inspect {
        /// Its name.
        name: String,
    },
    /// Change a work pool.
    Update {
        /// Its name.
        name: String,
        /// A JSON file with its new base job template.
        #[arg(long, value_name = "FILE")]
        base_job_template: Option<PathBuf>,
        /// How many of its flow runs may run at once; `none` lifts the limit.
        #[arg(long, value_name = "N")]
        concurrency_limit: Option<String>,
        /// What people are told it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Let no worker take flow runs from a work pool; those that run go on.
    Pause {
        /// Its name.
        name: String,
    },
    /// Let workers take flow runs from it again.
    Resume {
        /// Its name.
        name: String,
    },
    /// Remove a work pool with its queues. Flow runs that wait in it are not run.
    Rm {
        /// Its name.
        name: String,
        /// Do not ask. Without a terminal there is nobody to ask, and nothing is removed without this.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Show the base job template of a work pool, or the one that a type begins with.
    Template {
        /// The pool's name.
        #[arg(required_unless_present = "kind")]
        name: Option<String>,
        /// A type: process, docker or kubernetes.
        #[arg(
            short = 't',
            long = "type",
            value_name = "TYPE",
            conflicts_with = "name"
        )]
        kind: Option<String>,
    },
}
