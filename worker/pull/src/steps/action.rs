//! From a step's inputs, filled with what earlier steps gave, to a request that can be carried out. Pure.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use worker_config::template::{Lookups, TemplateError, block_type, expand_once};

use super::{Sort, Step, github, shell::Script};
use crate::{
    blob::{Source, SourceError},
    git::{self, Address, AddressError, Credentials, CredentialsError, Reference},
};

/// What a step is to do.
#[derive(Debug)]
pub(super) enum Action {
    Go(PathBuf),
    Clone(git::Request, String),
    Download(Box<Source>),
    Run(Script),
    AskForToken(github::Repository),
    Install {
        directory: Option<PathBuf>,
        requirements: String,
        shown: bool,
    },
}

/// Why the inputs of a step cannot be used. It names no values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// An input that must be there.
    #[error("the input '{0}' is missing, or its placeholder leads nowhere")]
    Missing(&'static str),
    /// An input of another type than it must have.
    #[error("the input '{input}' must be {wanted}")]
    Type {
        /// The input.
        input: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// Two ways to say which commit.
    #[error("give either 'branch' or 'commit_sha', not both")]
    BranchAndCommit,
    /// A branch that git would take for an option.
    #[error("'branch' must not begin with '-'")]
    Branch,
    /// Not the id of a commit.
    #[error("'commit_sha' must be 4 to 64 hexadecimal digits")]
    Commit,
    /// A name that would leave the workspace.
    #[error("'{0}' must be a name without slashes, and neither '.' nor '..'")]
    DirectoryName(&'static str),
    /// The address of a repository.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Credentials of a repository.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A place in a blob store.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A block or a variable.
    #[error(transparent)]
    Template(#[from] TemplateErrorText),
}

/// A template's error, which is compared in tests by its words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct TemplateErrorText(#[from] TemplateError);

/// The inputs of one step, filled.
struct Inputs(Map<String, Value>);

/// The fields that the blocks of repositories have for the same things: address, reference, credentials.
const REPOSITORY_BLOCKS: [(&str, &str, &str, &str); 4] = [
    (
        "github-repository",
        "repository_url",
        "credentials",
        "github-credentials",
    ),
    (
        "gitlab-repository",
        "repository",
        "credentials",
        "gitlab-credentials",
    ),
    (
        "bitbucket-repository",
        "repository",
        "bitbucket_credentials",
        "bitbucket-credentials",
    ),
    (
        "azure-devops-repository",
        "repository",
        "credentials",
        "azuredevops-credentials",
    ),
];

const STORE_BLOCKS: [&str; 5] = [
    "s3-bucket",
    "gcs-bucket",
    "azure-blob-storage-container",
    "local-file-system",
    "remote-file-system",
];

/// Whether code can be pulled with a block of this type.
pub(super) fn can_pull_with(slug: &str) -> bool {
    STORE_BLOCKS.contains(&slug) || REPOSITORY_BLOCKS.iter().any(|(known, ..)| *known == slug)
}

/// Makes of a step what it is to do. Paths of repositories are relative to `base`.
pub(super) fn of(
    step: &Step,
    outputs: &Map<String, Value>,
    lookups: &Lookups,
    environment: &dyn Fn(&str) -> Option<String>,
    base: &Path,
) -> Result<Action, InputError> {
    let written = Value::Object(step.inputs.clone());
    let filled = expand_once(&written, outputs, lookups, environment);
    let inputs = match filled.map_err(TemplateErrorText)? {
        Some(Value::Object(inputs)) => Inputs(inputs),
        _ => Inputs(Map::new()),
    };
    match step.sort {
        Sort::SetWorkingDirectory => Ok(Action::Go(inputs.text("directory")?.into())),
        Sort::GitClone => {
            let slug = step.inputs.get("credentials").and_then(block_type);
            inputs.git_clone(slug, base)
        }
        Sort::PullFromS3
        | Sort::PullFromGcs
        | Sort::PullFromAzureBlobStorage
        | Sort::PullFromRemoteStorage => {
            let source = Source::from_step(step.name(), &inputs.0)?;
            Ok(Action::Download(Box::new(source)))
        }
        Sort::PullWithBlock => {
            let (slug, name) = step.block().ok_or(InputError::Missing("block_type_slug"))?;
            with_block(&slug, &name, lookups, base)
        }
        Sort::PipInstallRequirements => Ok(Action::Install {
            directory: inputs.find_text("directory")?.map(PathBuf::from),
            requirements: inputs
                .find_text("requirements_file")?
                .unwrap_or("requirements.txt")
                .to_owned(),
            shown: inputs.flag("stream_output")?.unwrap_or(true),
        }),
        Sort::GithubToken => github::Repository::asked_for(&inputs.0)
            .map(Action::AskForToken)
            .ok_or(InputError::Missing("script")),
        Sort::RunShellScript => Ok(Action::Run(Script {
            text: match inputs.find("script") {
                Some(Value::String(empty)) if empty.is_empty() => String::new(),
                _ => inputs.text("script")?.to_owned(),
            },
            directory: inputs.find_text("directory")?.map(PathBuf::from),
            environment: inputs.texts("env")?,
            shown: inputs.flag("stream_output")?.unwrap_or(true),
            expands: inputs.flag("expand_env_vars")?.unwrap_or(false),
            shell: inputs.flag("shell")?.unwrap_or(false),
        })),
    }
}

// === impl Inputs ===

impl Inputs {
    fn git_clone(&self, slug: Option<&str>, base: &Path) -> Result<Action, InputError> {
        let url = self.text("repository")?;
        let branch = self.find_text("branch")?;
        let reference = match (branch, self.find_text("commit_sha")?) {
            (Some(_), Some(_)) => return Err(InputError::BranchAndCommit),
            (Some(branch), None) if branch.starts_with('-') => return Err(InputError::Branch),
            (Some(branch), None) => Reference::Named(branch.to_owned()),
            (None, Some(commit)) => {
                let digits = commit.chars().all(|digit| digit.is_ascii_hexdigit());
                if !digits || !(4..=64).contains(&commit.len()) {
                    return Err(InputError::Commit);
                }
                Reference::Commit(commit.to_owned())
            }
            (None, None) => Reference::Default,
        };
        let (repository, in_url) = Address::parse(url, base)?;
        let host = repository.host().unwrap_or_default();
        let token = self.find_text("access_token")?;
        let given = Credentials::from_inputs(host, token, self.0.get("credentials"), slug)?;
        let name = match self.find_text("clone_directory_name")? {
            Some(name) => safe(name).ok_or(InputError::DirectoryName("clone_directory_name"))?,
            None => directory_name(url, branch),
        };
        let request = git::Request {
            repository,
            reference,
            credentials: given.or(in_url),
            submodules: self.flag("include_submodules")?.unwrap_or(false),
            directories: self.list("directories")?,
        };
        Ok(Action::Clone(request, name))
    }

    /// An input that is there and not null.
    fn find(&self, input: &'static str) -> Option<&Value> {
        self.0.get(input).filter(|value| !value.is_null())
    }

    /// An empty text says nothing, as in the reference.
    fn find_text(&self, input: &'static str) -> Result<Option<&str>, InputError> {
        match self.find(input) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(InputError::Type {
                input,
                wanted: "a text",
            }),
        }
    }

    fn text(&self, input: &'static str) -> Result<&str, InputError> {
        self.find_text(input)?.ok_or(InputError::Missing(input))
    }

    fn flag(&self, input: &'static str) -> Result<Option<bool>, InputError> {
        match self.find(input) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(InputError::Type {
                input,
                wanted: "true or false",
            }),
        }
    }

    fn list(&self, input: &'static str) -> Result<Vec<String>, InputError> {
        let wrong = || InputError::Type {
            input,
            wanted: "a list of texts",
        };
        match self.find(input) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn texts(&self, input: &'static str) -> Result<Vec<(String, String)>, InputError> {
        let wrong = || InputError::Type {
            input,
            wanted: "a mapping of texts",
        };
        match self.find(input) {
            None => Ok(Vec::new()),
            Some(Value::Object(fields)) => fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), value.as_str().ok_or_else(wrong)?.into())))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }
}

// === functions ===

/// A block that stands for code: a repository or a store.
fn with_block(
    slug: &str,
    name: &str,
    lookups: &Lookups,
    base: &Path,
) -> Result<Action, InputError> {
    let key = (slug.to_owned(), name.to_owned());
    let data = lookups.blocks.get(&key).and_then(Option::as_ref);
    let data = data.ok_or_else(|| {
        TemplateErrorText(TemplateError::BlockNotFound(format!(
            "'{name}' of type '{slug}'"
        )))
    })?;
    let repository = REPOSITORY_BLOCKS.iter().find(|(known, ..)| *known == slug);
    let Some((_, address, credentials, credentials_slug)) = repository else {
        let source = Source::from_block(slug, name, data)?;
        return Ok(Action::Download(Box::new(source)));
    };
    let text = |field: &str| data.get(field)?.as_str().filter(|text| !text.is_empty());
    let url = text(address).ok_or(InputError::Missing("repository"))?;
    let (repository, in_url) = Address::parse(url, base)?;
    let host = repository.host().unwrap_or_default();
    let given = data.get(*credentials);
    let given = Credentials::from_inputs(host, None, given, Some(credentials_slug))?;
    let directory = format!("{slug}-{name}");
    let request = git::Request {
        repository,
        reference: text("reference")
            .map_or(Reference::Default, |name| Reference::Named(name.to_owned())),
        credentials: given.or(in_url),
        submodules: false,
        directories: Vec::new(),
    };
    let directory = safe(&directory).ok_or(InputError::DirectoryName("block_document_name"))?;
    Ok(Action::Clone(request, directory))
}

/// The directory's name as the reference makes it (`GitRepository`, 3.8.8), except where that name would leave the workspace: the last part
/// of the path without one `.git` at its end, and the branch with its slashes made dashes.
fn directory_name(url: &str, branch: Option<&str>) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit(['/', ':']).next();
    let last = last.unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name = match branch {
        Some(branch) => format!("{last}-{}", branch.replace('/', "-")),
        None => last.to_owned(),
    };
    safe(&name).unwrap_or_else(|| "repository".to_owned())
}

fn safe(name: &str) -> Option<String> {
    let leaves = matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']);
    (!leaves).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
