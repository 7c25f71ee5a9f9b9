//! Runs steps in their order and says where the code is in the end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use worker_config::{Secret, template::Lookups};

use super::{
    InputError, Step,
    action::{self, Action},
    github,
    shell::{self, Shell, Show, Written},
};
use crate::{
    Interrupted, Operation,
    blob::{self, BlobError},
    git::{Git, GitError},
};

/// What steps need of the world around them.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Writes into the log of the run.
    async fn tell(&self, level: Level, message: String);

    /// A step was taken, well or not; its place in the list is counted from 0.
    fn taken(&self, index: usize, well: bool) {
        let _ = (index, well);
    }

    /// Asks Prefect Cloud for a token of its GitHub App; the error says why there is none.
    async fn github_token(&self, owner: &str, repository: &str) -> Result<Secret, String> {
        let _ = (owner, repository);
        Err("there is no API of Prefect Cloud to ask".to_owned())
    }

    /// What `{{ $NAME }}` is.
    fn environment(&self, name: &str) -> Option<String>;
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The course of things.
    Info,
    /// What went wrong.
    Error,
}

/// What runs steps.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// Fetches repositories.
    pub git: &'a Git,
    /// On what terms blobs are fetched.
    pub terms: &'a blob::Terms,
    /// Ends the steps early, and hears of progress.
    pub operation: &'a Operation,
    /// The world around.
    pub outside: &'a dyn Outside,
    /// What the steps refer to on the server.
    pub lookups: &'a Lookups,
    /// Where programs run; steps that need one were told apart by [`Step::parse`].
    pub shell: Option<&'a Shell>,
    /// Where relative paths begin that were written before anything was pulled.
    pub base: &'a Path,
    /// The directory that steps write into.
    pub workspace: &'a Path,
}

/// What the steps came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pulled {
    /// Where the code is; none when no step had anything to do with that.
    pub directory: Option<PathBuf>,
    /// What the steps gave, by their ids and by themselves.
    pub outputs: Map<String, Value>,
    /// What each step fetched.
    pub done: Vec<Done>,
}

/// What one step did, for a manifest. It names no credential.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Done {
    /// The step's name.
    pub step: &'static str,
    /// Where it got what: an address, a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it put it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The commit that is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How many files came, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// How many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A step failed, and those after it were not run.
#[derive(Debug, thiserror::Error)]
#[error("pull step {step} failed")]
pub struct StepFailed {
    /// Its name.
    pub step: &'static str,
    /// Its place in the list, from 0.
    pub index: usize,
    /// Why.
    pub source: StepError,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It was ended early.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Its inputs.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A directory that is not there.
    #[error("directory {} does not exist on this machine", .0.display())]
    NoDirectory(PathBuf),
    /// A repository.
    #[error(transparent)]
    Git(GitError),
    /// A blob store.
    #[error(transparent)]
    Blob(BlobError),
    /// A program that cannot be started.
    #[error("cannot run '{program}'; check that it is installed where the worker runs")]
    Program {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that failed.
    #[error("{program} failed with error code {code}: {stderr}")]
    Exit {
        /// The step, as the reference quotes it.
        program: &'static str,
        /// How it ended.
        code: i32,
        /// What it wrote.
        stderr: String,
    },
    /// A token of Prefect Cloud's GitHub App.
    #[error("no GitHub token for {repository}: {reason}")]
    Token {
        /// Owner and name.
        repository: String,
        /// Why not.
        reason: String,
    },
    /// A line of a script that is no line.
    #[error("a quotation in the script has no end")]
    Quote,
}

/// Lines of programs that wait to be logged; a program that writes faster loses lines of the log, not of its output.
const MOST_WAITING: usize = 1_000;

/// Shorter texts of secrets are not masked: they would take every second letter with them.
const SHORTEST_SECRET: usize = 4;

/// Where the steps have come to.
struct Place<'a> {
    runner: &'a Runner<'a>,
    cwd: PathBuf,
    pulled: Pulled,
    /// What steps were given that nobody may see.
    tokens: Vec<String>,
}

// === impl Runner ===

impl Runner<'_> {
    /// Runs steps, to the end or to the first that fails.
    ///
    /// # Errors
    /// [`StepFailed`].
    ///
    /// # Cancellation
    /// Cancel the operation and wait for the end; dropping the future may leave work going on for a moment.
    pub async fn run(&self, steps: &[Step]) -> Result<Pulled, StepFailed> {
        self.tell(format!("Running {} deployment pull step(s)", steps.len()))
            .await;
        let mut place = Place {
            runner: self,
            cwd: self.base.to_owned(),
            pulled: Pulled::default(),
            tokens: Vec::new(),
        };
        for (index, step) in steps.iter().enumerate() {
            let name = step.name();
            self.tell(format!("Executing deployment step: {name}"))
                .await;
            let taken = Box::pin(place.take(step)).await;
            self.outside.taken(index, taken.is_ok());
            taken.map_err(|source| StepFailed {
                step: name,
                index,
                source: place.masked(source),
            })?;
            self.tell(format!("Deployment step '{name}' completed successfully"))
                .await;
        }
        self.tell("All deployment steps completed successfully".to_owned())
            .await;
        place.end().map_err(|source| StepFailed {
            step: steps.last().map_or("", Step::name),
            index: steps.len().saturating_sub(1),
            source,
        })
    }

    async fn tell(&self, message: String) {
        self.outside.tell(Level::Info, message).await;
    }
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("workspace", &self.workspace)
            .finish_non_exhaustive()
    }
}

// === impl Place ===

impl Place<'_> {
    async fn take(&mut self, step: &Step) -> Result<(), StepError> {
        let Runner {
            outside,
            lookups,
            base,
            workspace,
            ..
        } = *self.runner;
        let environment = |name: &str| outside.environment(name);
        let outputs = &self.pulled.outputs;
        let action = action::of(step, outputs, lookups, &environment, base)?;
        // What steps write stays in the workspace. Programs begin there too, unless an earlier step went elsewhere.
        let outside_of_it = !self.cwd.starts_with(workspace);
        let nowhere_yet = self.cwd == base;
        if outside_of_it && (step.writes() || (nowhere_yet && !matches!(action, Action::Go(_)))) {
            workspace.clone_into(&mut self.cwd);
        }
        let mut done = Done::of(step);
        let outputs = self.carry_out(action, &mut done).await?;
        self.pulled.done.push(done);
        if let Some(id) = &step.id {
            self.pulled.outputs.insert(id.clone(), outputs.clone());
        }
        if let Value::Object(outputs) = outputs {
            self.pulled.outputs.extend(outputs);
        }
        Ok(())
    }

    /// Does what a step is to do, and says what it gives to later ones.
    async fn carry_out(&mut self, action: Action, done: &mut Done) -> Result<Value, StepError> {
        let Runner {
            git,
            terms,
            operation,
            ..
        } = *self.runner;
        Ok(match action {
            Action::Go(directory) => {
                let directory = self.cwd.join(directory);
                let found = fs::canonicalize(&directory)
                    .ok()
                    .filter(|found| found.is_dir());
                self.cwd = found.ok_or(StepError::NoDirectory(directory))?;
                done.directory = Some(self.cwd.clone());
                json!({"directory": self.cwd})
            }
            Action::Clone(request, name) => {
                let into = self.cwd.join(&name);
                done.source = Some(request.repository.to_string());
                done.directory = Some(into.clone());
                let fetched = git.fetch(operation, request, &into).await;
                done.commit = Some(fetched.map_err(StepError::git)?.commit);
                json!({"directory": name})
            }
            Action::Download(source) => {
                done.source = Some(source.to_string());
                let fetched = blob::download(operation, &source, &self.cwd, terms).await;
                let fetched = fetched.map_err(StepError::blob)?;
                (done.files, done.bytes) = (Some(fetched.files), Some(fetched.bytes));
                done.directory = Some(fetched.directory);
                Value::Object(fetched.outputs)
            }
            Action::AskForToken(repository) => self.ask_for_token(repository).await?,
            Action::Run(script) => {
                let shell = self.shell()?;
                let written = self
                    .showing(script.shown, async |show| {
                        shell.run(&script, &self.programs(&self.cwd, show)).await
                    })
                    .await?;
                written.outputs()
            }
            Action::Install {
                directory,
                requirements,
                shown,
            } => {
                let shell = self.shell()?;
                let directory =
                    directory.map_or_else(|| self.cwd.clone(), |one| self.cwd.join(one));
                if !directory.is_dir() {
                    return Err(StepError::NoDirectory(directory));
                }
                let written = self
                    .showing(shown, async |show| {
                        shell
                            .install(&requirements, &self.programs(&directory, show))
                            .await
                    })
                    .await?;
                written.outputs()
            }
        })
    }

    /// Gives what the program would have written, and remembers to show it to nobody.
    async fn ask_for_token(&mut self, repository: github::Repository) -> Result<Value, StepError> {
        let github::Repository { owner, name } = repository;
        let Runner {
            outside, operation, ..
        } = *self.runner;
        let asking = outside.github_token(&owner, &name);
        let asked = operation.cancelled.run_until_cancelled(asking).await;
        let token = asked
            .ok_or(Interrupted)?
            .map_err(|reason| StepError::Token {
                repository: format!("{owner}/{name}"),
                reason,
            })?;
        self.tokens.push(token.expose().to_owned());
        Ok(json!({"stdout": token.expose(), "stderr": ""}))
    }

    fn programs<'a>(&'a self, directory: &'a Path, show: &'a Show<'a>) -> shell::Terms<'a> {
        shell::Terms {
            operation: self.runner.operation,
            directory,
            show,
        }
    }

    fn shell(&self) -> Result<&Shell, StepError> {
        self.runner.shell.ok_or_else(|| StepError::Program {
            program: "a shell".to_owned(),
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// What a program wrote may have a secret in it that it was given.
    fn masked(&self, error: StepError) -> StepError {
        match error {
            StepError::Exit {
                program,
                code,
                stderr,
            } => StepError::Exit {
                program,
                code,
                stderr: mask(&stderr, &self.secrets()),
            },
            error => error,
        }
    }

    /// What no line of a log may show, the longest first.
    fn secrets(&self) -> Vec<String> {
        let mut found = secrets(self.runner.lookups);
        found.extend(self.tokens.iter().cloned());
        found.sort_by_key(|text| std::cmp::Reverse(text.len()));
        found
    }

    /// Does work whose lines go to the log, secrets masked.
    async fn showing<T>(&self, shown: bool, work: impl AsyncFnOnce(&Show<'_>) -> T) -> T {
        let (lines_tx, mut lines_rx) = mpsc::channel::<String>(MOST_WAITING);
        let secrets: Arc<[String]> = self.secrets().into();
        let show = move |line: &str| {
            if shown {
                drop(lines_tx.try_send(mask(line, &secrets)));
            }
        };
        let working = async move { work(&show).await };
        let telling = async {
            while let Some(line) = lines_rx.recv().await {
                self.runner.outside.tell(Level::Info, line).await;
            }
        };
        tokio::join!(working, telling).0
    }

    /// As the reference ends: the last `directory` that a step gave, else where the steps went, else the workspace if anything is in it.
    fn end(mut self) -> Result<Pulled, StepError> {
        let given = match self.pulled.outputs.get("directory") {
            Some(Value::String(directory)) if !directory.is_empty() => Some(directory),
            _ => None,
        };
        let directory = match given {
            Some(directory) => {
                let directory = self.cwd.join(directory);
                if !directory.is_dir() {
                    return Err(StepError::NoDirectory(directory));
                }
                Some(directory)
            }
            None if self.cwd != self.runner.base => {
                let filled = fs::read_dir(&self.cwd).is_ok_and(|mut all| all.next().is_some());
                filled.then(|| self.cwd.clone())
            }
            None => None,
        };
        self.pulled.directory = directory;
        Ok(self.pulled)
    }
}

// === impl Written ===

impl Written {
    fn outputs(&self) -> Value {
        let Self { stdout, stderr } = self;
        json!({"stdout": stdout.trim(), "stderr": stderr.trim()})
    }
}

// === impl Done ===

impl Done {
    fn of(step: &Step) -> Self {
        Self {
            step: step.name(),
            source: None,
            directory: None,
            commit: None,
            files: None,
            bytes: None,
        }
    }
}

// === impl StepError ===

impl StepError {
    fn git(error: GitError) -> Self {
        match error {
            GitError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            error => Self::Git(error),
        }
    }

    fn blob(error: BlobError) -> Self {
        match error {
            BlobError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            error => Self::Blob(error),
        }
    }
}

// === functions ===

/// Every text in the blocks that were looked up.
fn secrets(lookups: &Lookups) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= SHORTEST_SECRET => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let blocks = lookups
        .blocks
        .values()
        .chain(lookups.block_documents.values());
    for field in blocks.flatten().flat_map(Map::values) {
        collect(field, &mut found);
    }
    found
}

fn mask(text: &str, secrets: &[String]) -> String {
    let masked = secrets
        .iter()
        .filter(|secret| text.contains(secret.as_str()));
    masked.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

#[cfg(test)]
mod tests;
