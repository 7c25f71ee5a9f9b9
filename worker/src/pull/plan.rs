//! Who gets the code of a deployment, and why: what settings, job variables, the engine and the deployment say, put together. Pure.

use std::fmt;

use serde_json::{Map, Value};

use worker_api::types::Deployment;
use worker_config::settings::PullMode;

/// The job variable that says who runs pull steps: the template of a pool may give it a default, a deployment or a flow run a value.
const VARIABLE: &str = "pull_mode";

/// Who is to run the pull steps, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(super) mode: PullMode,
    by_variable: bool,
}

/// What is known before anything is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Outlook {
    /// Whether there are steps, or a storage block.
    pub(super) anything: bool,
    /// Whether one of them fetches something.
    pub(super) fetches: bool,
    /// Whether one of them speaks of a directory that only the job has.
    pub(super) names_directory: bool,
    /// Whether the job has a file system of its own.
    pub(super) inside: bool,
    /// Whether the job has a command of its own that runs Prefect's engine.
    pub(super) delegated: bool,
}

/// Who runs the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is nothing to run.
    Nothing,
    /// This worker, if it knows every step.
    Worker,
    /// The job.
    Job(String),
    /// Nobody: the wish cannot be met.
    Refused(String),
}

// === impl Wish ===

impl Wish {
    /// What the job variable says, else what the settings do.
    pub(crate) fn of(settings: PullMode, variables: &Map<String, Value>) -> Result<Self, String> {
        match variables.get(VARIABLE).filter(|value| !value.is_null()) {
            None => Ok(Self {
                mode: settings,
                by_variable: false,
            }),
            Some(value) => match value.as_str().unwrap_or_default().parse() {
                Ok(mode) => Ok(Self {
                    mode,
                    by_variable: true,
                }),
                Err(expected) => Err(format!("the job variable '{VARIABLE}' {expected}")),
            },
        }
    }

    /// Whether anybody asked for anything: what goes without saying is not said on run pages.
    pub(super) fn was_chosen(self) -> bool {
        self.by_variable || self.mode != PullMode::Auto
    }

    /// What becomes of a list of steps that this worker cannot run, for that reason.
    pub(super) fn without(self, why: &str) -> Verdict {
        match self.mode {
            PullMode::Worker => Verdict::Refused(format!(
                "{self}, and this worker cannot get the code: {why}"
            )),
            PullMode::Job | PullMode::Auto => Verdict::Job(why.to_owned()),
        }
    }
}

/// For the log of a flow run.
impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.as_str();
        if self.by_variable {
            write!(f, "the job variable '{VARIABLE}' is '{mode}'")
        } else {
            write!(f, "pull.mode of this worker is '{mode}'")
        }
    }
}

// === impl Outlook ===

impl Outlook {
    pub(super) fn of(deployment: &Deployment, inside: bool, delegated: bool) -> Self {
        let steps = deployment.pull_steps.iter().flatten();
        let named: Vec<_> = steps.flat_map(|step| step.iter()).collect();
        let goes = |name: &str| name.ends_with(".set_working_directory");
        let stored = deployment.storage_document_id.is_some() && named.is_empty();
        let directories = named.iter().filter(|(name, _)| goes(name));
        let mut directories =
            directories.filter_map(|(_, inputs)| inputs.get("directory")?.as_str());
        Self {
            anything: stored || !named.is_empty(),
            fetches: stored || named.iter().any(|(name, _)| !goes(name)),
            names_directory: directories.any(|directory| directory.starts_with('/')),
            inside,
            delegated,
        }
    }

    /// Who runs the steps, as far as that can be said without a look at each.
    pub(super) fn judge(self, wish: Wish) -> Verdict {
        if !self.anything {
            return Verdict::Nothing;
        }
        if wish.mode == PullMode::Job {
            return Verdict::Job(wish.to_string());
        }
        if self.delegated {
            return wish.without("the job has a command of its own, which pulls for itself");
        }
        if self.inside && !self.fetches {
            // They speak of the job's own files, and nobody has anything to get.
            return Verdict::Nothing;
        }
        if self.inside && self.names_directory {
            return wish.without("one of them goes to a directory that only the job has");
        }
        Verdict::Worker
    }
}

#[cfg(test)]
mod tests;
