//! Pull steps: how the code of a deployment gets to where its job can have it.
//!
//! The worker runs the steps itself when it knows every one of them; else it leaves them all to the job, and says so in the flow run's log.
//! The only room that names git2.

mod git;
mod steps;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use worker_api::types::{Deployment, FlowRunId, LogEntry, LogLevel};
use worker_drivers::RunKey;

use crate::{
    emitter::Pulled,
    journal::{Entry, NotStarted, Reporter},
    line::Line,
    services::Services,
    task,
    telemetry::chain,
};

pub(crate) use steps::{Step, Unsupported, parse};

/// Where the code is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Code {
    /// In this directory on the worker's file system.
    At(PathBuf),
    /// Wherever the job starts: nothing had to be pulled.
    InPlace,
    /// Not here: the job pulls it.
    LeftToJob,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// The directory of `set_working_directory` is not there.
    #[error("directory {} does not exist on this machine", .0.display())]
    NoDirectory(PathBuf),
    /// The workspace could not be made.
    #[error("workspace {}", .path.display())]
    Workspace {
        /// Where it should be.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// Cloning failed.
    #[error(transparent)]
    Git(#[from] git::GitError),
}

// === impl Code ===

impl Code {
    /// The directory, if it is on this machine.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::At(directory) => Some(directory.clone()),
            Self::InPlace | Self::LeftToJob => None,
        }
    }
}

/// Gets the code of a deployment, by its pull steps or from its path.
pub(crate) async fn pull(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    deployment: &Deployment,
) -> Result<Code, NotStarted> {
    let id = FlowRunId(entry.key.flow_run);
    let written: Vec<_> = deployment
        .pull_steps
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, step)| !step.is_empty())
        .collect();
    if written.is_empty() {
        if deployment.storage_document_id.is_some() {
            return left_to_job(entry, "it is in a storage block");
        }
        return in_path(deployment.path.as_deref());
    }
    let steps: Result<Vec<Step>, Unsupported> =
        written.iter().map(|(_, step)| parse(step)).collect();
    let steps = match steps {
        Ok(steps) => steps,
        Err(unsupported) => {
            let code = left_to_job(entry, &unsupported.to_string())?;
            let message = format!("The job runs the pull steps itself: {unsupported}.");
            services.run_log.say(id, LogLevel::INFO, message).await;
            return Ok(code);
        }
    };
    let base = deployment
        .path
        .as_deref()
        .map_or_else(PathBuf::new, PathBuf::from);
    let tell = |message: String| say(services, id, LogLevel::INFO, message);
    tell(format!("Running {} deployment pull step(s)", steps.len())).await;
    let mut place = Place {
        base,
        workspace: None,
        directory: None,
    };
    for (step, (index, written)) in steps.iter().zip(written) {
        let name = step.name();
        tell(format!("Executing deployment step: {name}")).await;
        let taken = place.take(services, line, entry, step).await?;
        let well = taken.is_ok();
        let pulled = Pulled {
            index,
            written,
            well,
        };
        services.emitter.pulled(id.0, deployment.id.0, &pulled);
        if let Err(error) = taken {
            let reason = format!("pull step {name} failed: {}", chain(&error));
            say(services, id, LogLevel::ERROR, reason.clone()).await;
            return Err(NotStarted::Failed(reason));
        }
        tell(format!("Deployment step '{name}' completed successfully")).await;
    }
    tell("All deployment steps completed successfully".to_owned()).await;
    Ok(place.directory.map_or(Code::InPlace, Code::At))
}

/// Where the steps have come to.
struct Place {
    base: PathBuf,
    workspace: Option<PathBuf>,
    directory: Option<PathBuf>,
}

impl Place {
    async fn take(
        &mut self,
        services: &Services,
        line: &mut Line,
        entry: &mut Entry,
        step: &Step,
    ) -> Result<Result<(), PullError>, NotStarted> {
        match step {
            Step::SetWorkingDirectory { directory } => {
                let start = self.directory.as_ref().unwrap_or(&self.base);
                let directory = start.join(directory);
                if !directory.is_dir() {
                    return Ok(Err(PullError::NoDirectory(directory)));
                }
                self.directory = Some(directory);
            }
            Step::GitClone(clone) => {
                let workspace = match self.workspace(services, entry) {
                    Ok(workspace) => workspace,
                    Err(error) => return Ok(Err(error)),
                };
                let into = workspace.join(clone.directory_name());
                let request = clone.located(&self.base);
                match git::clone(line, request, into.clone()).await? {
                    Ok(()) => self.directory = Some(into),
                    Err(error) => return Ok(Err(error.into())),
                }
            }
        }
        Ok(Ok(()))
    }

    /// The attempt's own directory, made when the first step needs it.
    fn workspace(&mut self, services: &Services, entry: &mut Entry) -> Result<PathBuf, PullError> {
        if let Some(workspace) = &self.workspace {
            return Ok(workspace.clone());
        }
        let path = path_of(&services.workspaces, entry.key);
        let failed = |source| PullError::Workspace {
            path: path.clone(),
            source,
        };
        // What an earlier process left of this attempt is half a workspace.
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed)?;
        entry.workspace = Some(path.clone());
        self.workspace = Some(path.clone());
        Ok(path)
    }
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

/// Runs what blocks under a flag that is raised when the life is told to end.
pub(crate) async fn interruptible<T: Send + 'static>(
    line: &mut Line,
    work: impl FnOnce(std::sync::Arc<std::sync::atomic::AtomicBool>) -> T + Send + 'static,
) -> Result<T, NotStarted> {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let raised = RaiseOnDrop(std::sync::Arc::clone(&flag));
    let done = line.unless_ended(task::blocking(move || work(flag))).await;
    drop(raised);
    done
}

struct RaiseOnDrop(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
