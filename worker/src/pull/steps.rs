//! Pull steps as types. What is not known here is left to the job.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use worker_api::types::PullStep;

/// A step this worker runs itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// `set_working_directory`.
    SetWorkingDirectory {
        /// Absolute, or relative to where the steps have come to.
        directory: PathBuf,
    },
    /// `git_clone`.
    GitClone(GitClone),
}

/// The inputs of `git_clone`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GitClone {
    /// A URL or a path.
    pub(crate) repository: String,
    /// A branch or tag; the remote's own branch when there is none.
    pub(crate) branch: Option<String>,
    /// A commit, in place of a branch.
    pub(crate) commit: Option<String>,
    /// The name of the directory to clone into.
    pub(crate) name: Option<String>,
}

/// Why a step is left to the job.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unsupported {
    /// Not a step this worker knows.
    #[error("this worker does not know the step {0}")]
    Step(String),
    /// An input it does not know.
    #[error("this worker does not know the input '{input}' of {step}")]
    Input {
        /// The step.
        step: &'static str,
        /// The input.
        input: String,
    },
    /// An input with a placeholder, which is resolved in the job.
    #[error("the input '{input}' of {step} has a placeholder")]
    Placeholder {
        /// The step.
        step: &'static str,
        /// The input.
        input: String,
    },
    /// An input that is missing or of the wrong type.
    #[error("the input '{input}' of {step} is missing or not a text")]
    Missing {
        /// The step.
        step: &'static str,
        /// The input.
        input: &'static str,
    },
    /// A way to reach a repository that this worker does not have yet.
    #[error("this worker does not clone over {0} yet")]
    Scheme(String),
}

const SET_WORKING_DIRECTORY: &str = "set_working_directory";
const GIT_CLONE: &str = "git_clone";

/// The packages whose steps of these names mean the same (`prefect.deployments.steps` and its modules in 3.8.8, `prefect.projects.steps` in 2.x).
const ROOTS: [&str; 4] = [
    "prefect.deployments.steps",
    "prefect.deployments.steps.pull",
    "prefect.projects.steps",
    "prefect.deployments",
];

/// Reads one step.
pub(crate) fn parse(step: &PullStep) -> Result<Step, Unsupported> {
    let mut entries = step.iter();
    let (Some((name, inputs)), None) = (entries.next(), entries.next()) else {
        return Err(Unsupported::Step(
            step.keys().cloned().collect::<Vec<_>>().join(" + "),
        ));
    };
    let unknown = || Unsupported::Step(name.clone());
    let (root, last) = name.rsplit_once('.').ok_or_else(unknown)?;
    if !ROOTS.contains(&root) {
        return Err(unknown());
    }
    let empty = Map::new();
    let inputs = inputs.as_object().unwrap_or(&empty);
    match last {
        "set_working_directory" => {
            let texts = Texts::read(SET_WORKING_DIRECTORY, inputs, &["directory"])?;
            Ok(Step::SetWorkingDirectory {
                directory: texts.required("directory")?.into(),
            })
        }
        "git_clone" | "agit_clone" | "git_clone_project" => {
            let known = ["repository", "branch", "commit_sha", "clone_directory_name"];
            let texts = Texts::read(GIT_CLONE, inputs, &known)?;
            let clone = GitClone {
                repository: texts.required("repository")?,
                branch: texts.find("branch"),
                commit: texts.find("commit_sha"),
                name: texts.find("clone_directory_name"),
            };
            match clone.scheme() {
                None | Some("file" | "git" | "http") => Ok(Step::GitClone(clone)),
                Some(other) => Err(Unsupported::Scheme(other.to_owned())),
            }
        }
        _ => Err(unknown()),
    }
}

/// The inputs of a step that are texts, once every one of them is known to be.
struct Texts<'a> {
    step: &'static str,
    inputs: &'a Map<String, Value>,
}

// === impl Step ===

impl Step {
    /// The name people know.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::SetWorkingDirectory { .. } => SET_WORKING_DIRECTORY,
            Self::GitClone(_) => GIT_CLONE,
        }
    }
}

// === impl GitClone ===

impl GitClone {
    /// The directory's name as the reference makes it (`GitRepository`, 3.8.8), except where that name would leave the workspace: the last part
    /// of the path without `.git`, and the branch with its slashes made dashes.
    pub(crate) fn directory_name(&self) -> String {
        let name = self.name.clone().unwrap_or_else(|| {
            let path = self.repository.trim_end_matches('/');
            let last = path.rsplit(['/', ':']).next().unwrap_or_default();
            let last = last.strip_suffix(".git").unwrap_or(last);
            match &self.branch {
                Some(branch) => format!("{last}-{}", branch.replace('/', "-")),
                None => last.to_owned(),
            }
        });
        let safe = name.replace(['/', '\0'], "-");
        if matches!(safe.as_str(), "" | "." | "..") {
            "repository".to_owned()
        } else {
            safe
        }
    }

    /// The address without user and password, for people.
    pub(crate) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.repository.split_once("://") else {
            return self.repository.clone();
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}")
    }

    /// Whether it is on this machine's file system.
    pub(crate) fn is_path(&self) -> bool {
        self.scheme().is_none()
    }

    /// The same, with a path made absolute from where the deployment's own path is.
    pub(crate) fn located(&self, base: &Path) -> Self {
        let mut located = self.clone();
        if self.is_path() {
            located.repository = base.join(&self.repository).to_string_lossy().into_owned();
        }
        located
    }

    /// The URL's scheme; `ssh` for the short form `user@host:path`; none for a path.
    fn scheme(&self) -> Option<&str> {
        if let Some((scheme, _)) = self.repository.split_once("://") {
            return Some(scheme);
        }
        let (host, _) = self.repository.split_once(':')?;
        (!host.contains('/')).then_some("ssh")
    }
}

// === impl Texts ===

impl<'a> Texts<'a> {
    fn read(
        step: &'static str,
        inputs: &'a Map<String, Value>,
        known: &[&str],
    ) -> Result<Self, Unsupported> {
        for (input, value) in inputs {
            match (input.as_str(), value) {
                // The last of these is what the reference assumes when nothing is said.
                ("id" | "requires", _)
                | (_, Value::Null)
                | ("include_submodules", Value::Bool(false)) => {}
                (name, Value::String(text)) if known.contains(&name) => {
                    if text.contains("{{") {
                        return Err(Unsupported::Placeholder {
                            step,
                            input: input.clone(),
                        });
                    }
                }
                _ => {
                    return Err(Unsupported::Input {
                        step,
                        input: input.clone(),
                    });
                }
            }
        }
        Ok(Self { step, inputs })
    }

    fn find(&self, input: &str) -> Option<String> {
        self.inputs
            .get(input)
            .and_then(Value::as_str)
            .map(str::to_owned)
    }

    fn required(&self, input: &'static str) -> Result<String, Unsupported> {
        self.find(input).ok_or(Unsupported::Missing {
            step: self.step,
            input,
        })
    }
}

#[cfg(test)]
mod tests;
