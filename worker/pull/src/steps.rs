//! Pull steps as types: which steps there are under which names, and what is known of one before it runs.
//!
//! Pure. `action` makes typed requests of a step's inputs once earlier steps have run, `runner` carries them out. What is not known
//! here is left to the job, which runs any importable Python function as a step.

mod action;
mod github;
mod runner;
mod shell;
mod words;

use serde_json::{Map, Value};
use worker_config::template::{References, has_placeholder, references};

pub use self::{
    action::InputError,
    runner::{Done, Level, Outside, Pulled, Runner, StepError, StepFailed},
    shell::Shell,
};

/// A step that can be run here.
#[derive(Clone, PartialEq)]
pub struct Step {
    sort: Sort,
    id: Option<String>,
    inputs: Map<String, Value>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    SetWorkingDirectory,
    GitClone,
    PullFromS3,
    PullFromGcs,
    PullFromAzureBlobStorage,
    PullFromRemoteStorage,
    PullWithBlock,
    PipInstallRequirements,
    RunShellScript,
    /// The script that asks Prefect Cloud for a token of its GitHub App: asked for here, and no program is started.
    GithubToken,
}

/// Why a step is left to the job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Not a step that is known.
    #[error("this worker does not know the step {0}")]
    Step(String),
    /// An input that is not known.
    #[error("this worker does not know the input '{input}' of {step}")]
    Input {
        /// The step.
        step: &'static str,
        /// The input.
        input: String,
    },
    /// It needs the interpreter that the job has, and that is not here.
    #[error("{0} needs the interpreter of the job")]
    Interpreter(&'static str),
    /// A block whose name is known only when earlier steps have run.
    #[error("the block of {0} has a placeholder in its name")]
    UnknownBlock(&'static str),
    /// A type of block that code cannot be pulled with here.
    #[error("this worker cannot pull code with a block of type {0}")]
    Block(String),
}

/// The beginnings of steps' names: packages whose steps of one name mean the same. The first group is what 3.8.8 accepts, the second what
/// deployments of 2.x still carry.
const ROOTS: [&str; 12] = [
    "prefect.deployments.steps",
    "prefect.deployments.steps.pull",
    "prefect.deployments.steps.utility",
    "prefect_aws.deployments.steps",
    "prefect_gcp.deployments.steps",
    "prefect_azure.deployments.steps",
    "prefect.deployments",
    "prefect.projects.steps",
    "prefect.projects.steps.pull",
    "prefect_aws.projects.steps",
    "prefect_gcp.projects.steps",
    "prefect_azure.projects.steps",
];

/// What stands in a step that is about the step and no input of it.
const ABOUT: [&str; 2] = ["id", "requires"];

// === impl Sort ===

impl Sort {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "set_working_directory" => Self::SetWorkingDirectory,
            "git_clone" | "agit_clone" | "git_clone_project" => Self::GitClone,
            "pull_from_s3" | "pull_project_from_s3" => Self::PullFromS3,
            "pull_from_gcs" | "pull_project_from_gcs" => Self::PullFromGcs,
            "pull_from_azure_blob_storage" | "pull_project_from_azure_blob_storage" => {
                Self::PullFromAzureBlobStorage
            }
            "pull_from_remote_storage" => Self::PullFromRemoteStorage,
            "pull_with_block" => Self::PullWithBlock,
            "pip_install_requirements" => Self::PipInstallRequirements,
            "run_shell_script" => Self::RunShellScript,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::SetWorkingDirectory => "set_working_directory",
            Self::GitClone => "git_clone",
            Self::PullFromS3 => "pull_from_s3",
            Self::PullFromGcs => "pull_from_gcs",
            Self::PullFromAzureBlobStorage => "pull_from_azure_blob_storage",
            Self::PullFromRemoteStorage => "pull_from_remote_storage",
            Self::PullWithBlock => "pull_with_block",
            Self::PipInstallRequirements => "pip_install_requirements",
            Self::RunShellScript | Self::GithubToken => "run_shell_script",
        }
    }

    /// The inputs that there are; none when any name may be one.
    fn inputs(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::SetWorkingDirectory => &["directory"],
            Self::GitClone => &[
                "repository",
                "branch",
                "commit_sha",
                "include_submodules",
                "access_token",
                "credentials",
                "directories",
                "clone_directory_name",
            ],
            Self::PullFromS3 => &["bucket", "folder", "credentials", "client_parameters"],
            Self::PullFromGcs => &["bucket", "folder", "project", "credentials"],
            Self::PullFromAzureBlobStorage => &["container", "folder", "credentials"],
            Self::PullFromRemoteStorage => return None,
            Self::PullWithBlock => &["block_type_slug", "block_document_name"],
            Self::PipInstallRequirements => &["directory", "requirements_file", "stream_output"],
            Self::RunShellScript | Self::GithubToken => &[
                "script",
                "directory",
                "env",
                "stream_output",
                "expand_env_vars",
                "shell",
            ],
        })
    }

    fn needs_interpreter(self) -> bool {
        matches!(self, Self::PipInstallRequirements | Self::RunShellScript)
    }
}

// === impl Step ===

impl Step {
    /// Reads one step as a deployment has it. `interpreter` says whether the job's interpreter is on this machine.
    ///
    /// # Errors
    /// [`Unsupported`].
    pub fn parse(written: &Map<String, Value>, interpreter: bool) -> Result<Self, Unsupported> {
        let mut entries = written.iter();
        let (Some((name, inputs)), None) = (entries.next(), entries.next()) else {
            let names: Vec<&str> = written.keys().map(String::as_str).collect();
            return Err(Unsupported::Step(names.join(" + ")));
        };
        let unknown = || Unsupported::Step(name.clone());
        let (root, last) = name.rsplit_once('.').ok_or_else(unknown)?;
        let sort = Sort::of(last).filter(|_| ROOTS.contains(&root));
        let sort = sort.ok_or_else(unknown)?;
        let mut inputs = match inputs {
            Value::Object(inputs) => inputs.clone(),
            Value::Null => Map::new(),
            _ => return Err(unknown()),
        };
        let id = inputs.get("id").and_then(Value::as_str);
        let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
        for about in ABOUT {
            inputs.shift_remove(about);
        }
        let sort = match sort {
            Sort::RunShellScript if github::Repository::asked_for(&inputs).is_some() => {
                Sort::GithubToken
            }
            sort => sort,
        };
        if let Some(known) = sort.inputs()
            && let Some(input) = inputs.keys().find(|input| !known.contains(&input.as_str()))
        {
            return Err(Unsupported::Input {
                step: sort.name(),
                input: input.clone(),
            });
        }
        if sort.needs_interpreter() && !interpreter {
            return Err(Unsupported::Interpreter(sort.name()));
        }
        let step = Self { sort, id, inputs };
        step.check_block()?;
        Ok(step)
    }

    /// The name people know.
    pub fn name(&self) -> &'static str {
        self.sort.name()
    }

    /// What must be looked up on the server before it runs.
    pub fn references(&self) -> References {
        let mut found = references(&Value::Object(self.inputs.clone()));
        found.blocks.extend(self.block());
        found
    }

    /// Whether it reads files of this machine, which are the job's own where that has the same disk.
    pub fn is_local(&self) -> bool {
        let text = |input: &str| self.inputs.get(input).and_then(Value::as_str);
        let starts = |text: Option<&str>, with: &[&str]| {
            text.is_some_and(|text| with.iter().any(|start| text.starts_with(start)))
        };
        match self.sort {
            Sort::GitClone => starts(text("repository"), &["file://", "/", ".", "~"]),
            Sort::PullFromRemoteStorage => starts(text("url"), &["file://", "local://"]),
            Sort::PullWithBlock => text("block_type_slug") == Some("local-file-system"),
            _ => false,
        }
    }

    /// Whether it puts files into the directory that it runs in.
    fn writes(&self) -> bool {
        !matches!(self.sort, Sort::SetWorkingDirectory | Sort::GithubToken)
            && !self.sort.needs_interpreter()
    }

    /// What it asks the environment for.
    pub fn environment_names(&self) -> Vec<String> {
        worker_config::template::environment_names(&Value::Object(self.inputs.clone()))
    }

    /// Type and name of the block that `pull_with_block` names.
    fn block(&self) -> Option<(String, String)> {
        if self.sort != Sort::PullWithBlock {
            return None;
        }
        let text = |name: &str| self.inputs.get(name)?.as_str().map(str::to_owned);
        Some((text("block_type_slug")?, text("block_document_name")?))
    }

    fn check_block(&self) -> Result<(), Unsupported> {
        let Some((slug, _)) = self.block() else {
            return Ok(());
        };
        if self.inputs.values().any(has_placeholder) {
            return Err(Unsupported::UnknownBlock(self.name()));
        }
        if action::can_pull_with(&slug) {
            Ok(())
        } else {
            Err(Unsupported::Block(slug))
        }
    }
}

impl std::fmt::Debug for Step {
    /// Names only: any input may hold a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name())
            .field("id", &self.id)
            .field("inputs", &self.inputs.keys())
            .finish_non_exhaustive()
    }
}

/// Whether any of the steps needs a workspace: all but those that name a directory which is there.
pub fn need_workspace(steps: &[Step]) -> bool {
    steps
        .iter()
        .any(|step| step.sort != Sort::SetWorkingDirectory)
}

#[cfg(test)]
mod tests;
