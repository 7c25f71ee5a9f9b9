//! `git_clone` by libgit2: repositories that are reached without credentials, over paths, `file`, `git` and `http`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use git2::{AutotagOption, FetchOptions, RemoteCallbacks, Repository, build::CheckoutBuilder};

use super::{interruptible, steps::GitClone};
use crate::{journal::NotStarted, line::Line};

/// Why a repository could not be cloned. Credentials never come here, so its text may be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// libgit2 says no.
    #[error("cannot {doing} {repository}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// With what.
        repository: String,
        /// What it said.
        source: git2::Error,
    },
    /// There is nothing at the path.
    #[error("there is no repository at {0} on this machine")]
    NoRepository(String),
    /// There is no such branch, tag or commit.
    #[error("{repository} has no branch, tag or commit '{name}'")]
    NoSuchReference {
        /// Where it was looked for.
        repository: String,
        /// What was looked for.
        name: String,
    },
    /// Both a branch and a commit were asked for.
    #[error("give either 'branch' or 'commit_sha', not both")]
    BranchAndCommit,
}

/// Clones into a directory that does not exist yet. Ends early when the life is told to end.
pub(super) async fn clone(
    line: &mut Line,
    request: GitClone,
    into: PathBuf,
) -> Result<Result<(), GitError>, NotStarted> {
    interruptible(line, move |interrupted| {
        clone_now(&request, &into, &interrupted)
    })
    .await
}

fn clone_now(
    request: &GitClone,
    into: &Path,
    interrupted: &Arc<AtomicBool>,
) -> Result<(), GitError> {
    let GitClone {
        repository: url,
        branch,
        commit,
        name: _,
    } = request;
    // The address may hold a token, which must neither be told nor stay on disk.
    let shown = &request.shown();
    if branch.is_some() && commit.is_some() {
        return Err(GitError::BranchAndCommit);
    }
    if request.is_path() && !Path::new(url).exists() {
        return Err(GitError::NoRepository(shown.clone()));
    }
    let failed = |doing| {
        move |source| GitError::Failed {
            doing,
            repository: shown.clone(),
            source,
        }
    };
    let repository = Repository::init(into).map_err(failed("make a directory for"))?;
    repository.remote("origin", shown).map_err(failed("name"))?;
    let mut remote = repository.remote_anonymous(url).map_err(failed("name"))?;
    let mut options = FetchOptions::new();
    options
        .download_tags(AutotagOption::All)
        .remote_callbacks(callbacks(interrupted));
    let everything = ["+refs/heads/*:refs/remotes/origin/*"];
    remote
        .fetch(&everything, Some(&mut options), None)
        .map_err(failed("fetch"))?;
    let wanted = if let Some(wanted) = branch.as_ref().or(commit.as_ref()) {
        wanted.clone()
    } else {
        let head = remote
            .default_branch()
            .map_err(failed("find the branch of"))?;
        let head = head.as_str().map_err(failed("read the branch of"))?;
        head.trim_start_matches("refs/heads/").to_owned()
    };
    let found = find(&repository, &wanted).ok_or_else(|| GitError::NoSuchReference {
        repository: shown.clone(),
        name: wanted.clone(),
    })?;
    let mut checkout = CheckoutBuilder::new();
    checkout.force();
    let tree = repository
        .find_object(found, None)
        .map_err(failed("read"))?;
    repository
        .checkout_tree(&tree, Some(&mut checkout))
        .map_err(failed("check out"))?;
    repository
        .set_head_detached(found)
        .map_err(failed("check out"))
}

/// A branch, else a tag, else a commit by its full or short id.
fn find(repository: &Repository, wanted: &str) -> Option<git2::Oid> {
    [
        format!("refs/remotes/origin/{wanted}"),
        format!("refs/tags/{wanted}"),
        format!("{wanted}^{{commit}}"),
    ]
    .iter()
    .find_map(|name| repository.revparse_single(name).ok())
    .and_then(|object| object.peel_to_commit().ok())
    .map(|commit| commit.id())
}

fn callbacks(interrupted: &Arc<AtomicBool>) -> RemoteCallbacks<'static> {
    let interrupted = Arc::clone(interrupted);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(move |_| !interrupted.load(Ordering::Relaxed));
    callbacks
}

#[cfg(test)]
mod tests;
