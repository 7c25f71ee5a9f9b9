//! What a transport knows of the fetch it works for.
//!
//! libgit2 makes transports by itself and hands them an address at most, so everything else, credentials above all, reaches them by the thread
//! that the fetch runs on, and is gone from it when the fetch ends.

use std::{
    cell::RefCell,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use git2::ErrorClass;
use tokio::{runtime::Handle, time::Instant};

use super::{Address, Credentials, GitError, Reference, error::Failure};
use crate::{Interrupted, Operation};

/// One fetch, as its transport sees it.
pub(super) struct Context {
    pub(super) address: Address,
    pub(super) credentials: Option<Credentials>,
    pub(super) http: reqwest::Client,
    /// The program and arguments that `ssh` is.
    pub(super) ssh: Arc<[String]>,
    pub(super) operation: Operation,
    /// How long may pass without a byte.
    pub(super) stall: Duration,
    /// How long the whole may take, for people.
    pub(super) limit: Duration,
    /// When the whole must be done.
    pub(super) deadline: Instant,
    pub(super) runtime: Handle,
    /// Why the transport failed, the first time it did.
    pub(super) failure: Mutex<Option<Failure>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Context>>> = const { RefCell::new(None) };
}

/// Puts back what was there before, however the work ends.
struct Restore(Option<Arc<Context>>);

// === impl Context ===

impl Context {
    /// The fetch that this thread works for.
    pub(super) fn current() -> Result<Arc<Self>, git2::Error> {
        CURRENT
            .with_borrow(Clone::clone)
            .ok_or_else(|| git2::Error::from_str("no fetch is under way on this thread"))
    }

    /// Does work with this as the current context of the thread.
    pub(super) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(Arc::clone(self))));
        work()
    }

    /// Waits for something of the network, unless the fetch is ended or out of time first.
    pub(super) fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> io::Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.operation.cancelled.cancelled() => Err(self.fail(Failure::Interrupted)),
                () = tokio::time::sleep_until(self.deadline) => Err(self.fail(Failure::TooLong)),
                done = tokio::time::timeout(self.stall, work) => done.map_err(|_| {
                    let stall = self.stall.as_secs();
                    self.fail(Failure::Passing(format!("no answer for {stall} s while {what}")))
                }),
            }
        })
    }

    /// Keeps the reason, and makes an error for libgit2 that stands for it.
    pub(super) fn fail(&self, failure: Failure) -> io::Error {
        let mut kept = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(failure);
        io::Error::other("the transport failed")
    }

    /// Whether to go on, for work of libgit2 that only looks at a callback's answer.
    pub(super) fn go_on(&self) -> bool {
        !self.operation.cancelled.is_cancelled() && Instant::now() < self.deadline
    }

    /// What to tell of libgit2's failure, or of our own: the kept reason, if there is one, is the real one.
    pub(super) fn failed(&self, doing: &'static str, source: Option<git2::Error>) -> GitError {
        let repository = self.address.to_string();
        match self.take_failure() {
            Some(Failure::Interrupted) => return Interrupted.into(),
            Some(Failure::TooLong) => return self.too_long(),
            Some(Failure::Authentication(reason)) => {
                return GitError::Authentication { repository, reason };
            }
            Some(Failure::Refused(reason)) => return GitError::Refused { repository, reason },
            Some(Failure::NotFound) => return GitError::NotFound { repository },
            Some(Failure::Passing(reason)) => return self.transient(reason),
            None => {}
        }
        if self.operation.cancelled.is_cancelled() {
            return Interrupted.into();
        }
        let Some(source) = source.filter(|_| Instant::now() < self.deadline) else {
            return self.too_long();
        };
        if source.class() != ErrorClass::Net {
            return GitError::Failed {
                doing,
                repository,
                source,
            };
        }
        // What a server says in the protocol comes as a text and no more.
        let said = source.message().to_ascii_lowercase();
        if said.contains("not found") || said.contains("does not exist") {
            GitError::NotFound { repository }
        } else if said.contains("denied") || said.contains("not exported") {
            let reason = format!("the server says: {}", source.message());
            GitError::Authentication { repository, reason }
        } else {
            self.transient(source.message().to_owned())
        }
    }

    pub(super) fn transient(&self, reason: String) -> GitError {
        GitError::Transient {
            repository: self.address.to_string(),
            reason,
        }
    }

    pub(super) fn no_reference(&self, reference: &Reference) -> GitError {
        let name = match reference {
            Reference::Default => "HEAD".to_owned(),
            Reference::Named(name) | Reference::Commit(name) => name.clone(),
        };
        GitError::NoReference {
            repository: self.address.to_string(),
            name,
        }
    }

    fn too_long(&self) -> GitError {
        GitError::TooLong {
            repository: self.address.to_string(),
            limit: self.limit,
        }
    }

    /// The reason that was kept, given away.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        let mut kept = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take()
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}
