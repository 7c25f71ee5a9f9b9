//! From a job to what will be started. Pure: what has to be looked up on the file system is left to `act`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use worker_config::policy::Policy;

use super::{SubprocessOptions, options::Options};
use crate::{
    command_line,
    driver::DriverError,
    job::{Environment, Job, Owner, Program, RunKey},
};

/// What will be started for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: RunKey,
    /// Whose it is.
    pub owner: Owner,
    /// The name for people.
    pub name: String,
    /// What is started.
    pub launch: Launch,
    /// Where it runs.
    pub directory: Directory,
    /// Its whole environment, but for the control session's variables.
    pub environment: Environment,
    /// Whether Prefect's control session is offered to it.
    pub control_session: bool,
    /// Whether the hooks of its flow are run when its engine dies.
    pub hooks: bool,
}

/// The program of a job. Printing shows nothing of a command: any word of it may be a credential.
#[derive(Clone, PartialEq, Eq)]
pub enum Launch {
    /// A Python interpreter with these arguments.
    Python {
        /// The interpreter, where the worker or the job names one; else the first on the job's `PATH`.
        interpreter: Option<PathBuf>,
        /// What comes after it.
        arguments: Vec<String>,
    },
    /// A command, with the program first; never empty.
    Command(Vec<String>),
}

/// The working directory of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// One that has to be there.
    Given {
        /// Where it is.
        path: PathBuf,
        /// What asked for it, for the error when it is not there.
        field: &'static str,
    },
    /// One of its own, made before it starts and removed by `destroy`.
    Private(PathBuf),
}

/// Variables that a systemd service gets for itself. A job that had them would speak to systemd in the worker's name.
const SERVICE_VARIABLES: [&str; 11] = [
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What a job gets of the worker's environment when it may not have all of it: what programs cannot do without.
const BASIC_VARIABLES: [&str; 12] = [
    "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TEMP", "TMPDIR",
    "TZ", "USER",
];

/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Plans one attempt. `private` is the directory it may have for itself.
pub(super) fn plan(
    job: &Job,
    policy: &Policy,
    settings: &SubprocessOptions,
    private: PathBuf,
) -> Result<Plan, DriverError> {
    let Job {
        key,
        owner,
        name,
        program,
        environment,
        // A process has nothing to put labels on.
        labels: _,
        configuration,
        workspace,
    } = job;
    let Options {
        // It says who is shown the output, which is the worker's affair. It is kept either way: a crash needs its last lines.
        stream_output: _,
        working_dir,
    } = Options::read(configuration)?;
    let mut environment = inherited(environment, &settings.inherit, policy);
    let launch = launch(program, policy, settings, &environment)?;
    let directory = directory(program, working_dir, workspace.clone(), settings, private);
    let runs_engine = match program {
        Program::Engine { .. } => true,
        Program::Command { line: _, engine } => *engine,
        // It runs pull steps and its own supervisor, which offers the engine a control session.
        Program::Execute => false,
    };
    if let Program::Engine { entrypoint } = program {
        set(
            &mut environment,
            "PREFECT__FLOW_ENTRYPOINT",
            entrypoint.clone(),
        );
        let path = python_path(directory.path(), environment.0.get("PYTHONPATH"));
        set(&mut environment, "PYTHONPATH", path);
    }
    if runs_engine {
        // So the engine itself runs the hooks, without a second interpreter.
        let hooks = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS";
        set(&mut environment, hooks, "true".to_owned());
    }
    Ok(Plan {
        key: *key,
        owner: owner.clone(),
        name: name.clone(),
        launch,
        directory,
        environment,
        control_session: runs_engine,
        hooks: matches!(program, Program::Engine { .. }),
    })
}

// === impl Plan ===

impl Plan {
    /// What will be started, as a document for people.
    pub(crate) fn request(&self) -> Value {
        let command = match &self.launch {
            Launch::Python {
                interpreter,
                arguments,
            } => {
                let python = interpreter
                    .as_ref()
                    .map_or("python".into(), |python| python.to_string_lossy());
                std::iter::once(python.into_owned())
                    .chain(arguments.iter().cloned())
                    .collect()
            }
            Launch::Command(words) => words.clone(),
        };
        json!({
            "command": command,
            "working_directory": match &self.directory {
                Directory::Given { path, field: _ } => path.to_string_lossy(),
                Directory::Private(_) => "one of its own".into(),
            },
            "environment": self.environment.0,
        })
    }

    /// Where programs are looked for.
    pub(super) fn search_path(&self) -> &str {
        self.environment
            .0
            .get("PATH")
            .map_or(DEFAULT_PATH, String::as_str)
    }
}

// === impl Launch ===

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python {
                interpreter,
                arguments,
            } => f
                .debug_struct("Python")
                .field("interpreter", interpreter)
                .field("arguments", arguments)
                .finish(),
            Self::Command(_) => f.debug_struct("Command").finish_non_exhaustive(),
        }
    }
}

// === impl Directory ===

impl Directory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Given { path, field: _ } | Self::Private(path) => path,
        }
    }
}

/// The worker's environment, as far as policy allows, with the job's above it: what a job's process has, and programs that do something for it.
pub fn inherited(job: &Environment, worker: &Environment, policy: &Policy) -> Environment {
    let allowed = |name: &str| {
        let belongs_to_job = policy.inherit_environment || BASIC_VARIABLES.contains(&name);
        belongs_to_job && !SERVICE_VARIABLES.contains(&name)
    };
    let inherited = worker.0.iter().filter(|(name, _)| allowed(name));
    let mut environment = Environment(inherited.map(|(k, v)| (k.clone(), v.clone())).collect());
    environment
        .0
        .extend(job.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    environment
        .0
        .entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    environment
}

fn launch(
    program: &Program,
    policy: &Policy,
    settings: &SubprocessOptions,
    environment: &Environment,
) -> Result<Launch, DriverError> {
    let python = |arguments: &[&str]| Launch::Python {
        interpreter: settings.python.clone().or_else(|| {
            let venv = environment
                .0
                .get("VIRTUAL_ENV")
                .filter(|path| !path.is_empty())?;
            Some(Path::new(venv).join("bin/python"))
        }),
        arguments: arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
    };
    match program {
        Program::Engine { entrypoint: _ } => Ok(python(&["-m", "prefect.engine"])),
        Program::Execute => Ok(python(&["-m", "prefect", "flow-run", "execute"])),
        Program::Command { .. } if !policy.allow_command => Err(DriverError::Denied {
            what: "command".to_owned(),
            reason: "the operator of this worker lets no job bring a command of its own".to_owned(),
        }),
        Program::Command { line, engine: _ } => {
            let invalid = |reason: String| DriverError::Invalid {
                field: "command".to_owned(),
                reason,
            };
            let arguments =
                command_line::split(line).map_err(|error| invalid(error.to_string()))?;
            match arguments.first() {
                None => Err(invalid("it is blank".to_owned())),
                Some(_) if line.contains('\0') => {
                    Err(invalid("it holds a null character".to_owned()))
                }
                Some(_) => Ok(Launch::Command(arguments)),
            }
        }
    }
}

/// The engine runs where the pull steps ended, because its entrypoint is relative to that; a command where it was configured to.
fn directory(
    program: &Program,
    working_dir: Option<PathBuf>,
    workspace: Option<PathBuf>,
    settings: &SubprocessOptions,
    private: PathBuf,
) -> Directory {
    let given = |field: &'static str| {
        move |path: PathBuf| Directory::Given {
            path: settings.current_dir.join(path),
            field,
        }
    };
    let configured = working_dir.map(given("working_dir"));
    let pulled = workspace.map(given("workspace"));
    let chosen = match program {
        Program::Engine { .. } => pulled.or(configured),
        Program::Execute | Program::Command { .. } => configured.or(pulled),
    };
    chosen.unwrap_or(Directory::Private(private))
}

/// The directory before what was there, so that processes the flow starts find its code as well.
fn python_path(directory: &Path, before: Option<&String>) -> String {
    let directory = directory.to_string_lossy();
    match before {
        Some(before) if !before.is_empty() => format!("{directory}:{before}"),
        _ => directory.into_owned(),
    }
}

fn set(environment: &mut Environment, name: &str, value: String) {
    environment.0.insert(name.to_owned(), value);
}

#[cfg(test)]
mod tests;
