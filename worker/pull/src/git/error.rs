//! Why a repository could not be had, in the few kinds that a caller can tell apart.

use std::{io, path::PathBuf, time::Duration};

use super::address::AddressError;
use crate::Interrupted;

/// Why a repository could not be had. No text of it holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Ended early, by who asked.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The server wants credentials, or other ones.
    #[error("{repository}: {reason}")]
    Authentication {
        /// The address.
        repository: String,
        /// What was refused, and what to do.
        reason: String,
    },
    /// The server or a program said no, for another reason.
    #[error("{repository}: {reason}")]
    Refused {
        /// The address.
        repository: String,
        /// Why, and what to do.
        reason: String,
    },
    /// There is no such repository, or none that these credentials may see.
    #[error("{repository} was not found; check the address, and that the credentials may read it")]
    NotFound {
        /// The address.
        repository: String,
    },
    /// There is nothing at a path, or something else.
    #[error("there is no repository at {repository} on this machine")]
    NoRepository {
        /// The path.
        repository: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no branch, tag or commit '{name}'")]
    NoReference {
        /// The address.
        repository: String,
        /// What was asked for.
        name: String,
    },
    /// A short commit id that fits more than one commit.
    #[error("{repository} has more than one commit that begins with '{name}'; give more of it")]
    Ambiguous {
        /// The address.
        repository: String,
        /// What was asked for.
        name: String,
    },
    /// Something that may pass, which did not pass for as long as was tried.
    #[error("{repository}: {reason}; this may pass, try again later")]
    Transient {
        /// The address.
        repository: String,
        /// What happened the last time.
        reason: String,
    },
    /// The whole took too long.
    #[error("{repository}: not fetched within {} s; give it more time, or fetch less of it", .limit.as_secs())]
    TooLong {
        /// The address.
        repository: String,
        /// How long it was given.
        limit: Duration,
    },
    /// There is something else where the repository should go.
    #[error("{} exists already and is not a clone of {repository}; name another 'clone_directory_name'", .path.display())]
    Taken {
        /// The address.
        repository: String,
        /// Where it should go.
        path: PathBuf,
    },
    /// A submodule's address cannot be used.
    #[error("submodule {path} of {repository}")]
    Submodule {
        /// The address of the repository that has it.
        repository: String,
        /// Where it stands in it.
        path: String,
        /// What is wrong.
        source: AddressError,
    },
    /// Too many submodules, or too deep.
    #[error(
        "{repository} has more submodules than {most}, or they are nested deeper than {deepest}"
    )]
    TooManySubmodules {
        /// The address.
        repository: String,
        /// The limit on their number.
        most: usize,
        /// The limit on their depth.
        deepest: usize,
    },
    /// The file system of this machine.
    #[error("{}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// libgit2, for a reason that nobody can name better.
    #[error("cannot {doing} {repository}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// The address.
        repository: String,
        /// What it said.
        source: git2::Error,
    },
}

/// What went wrong on the way to a server. libgit2 only hears that something did; this is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Interrupted,
    /// The whole took too long.
    TooLong,
    /// Credentials were refused or are missing: what to do.
    Authentication(String),
    /// Refused for another reason: why, and what to do.
    Refused(String),
    NotFound,
    /// May pass.
    Passing(String),
}

// === impl GitError ===

impl GitError {
    /// Whether the same may work in a moment.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
