//! The only file that spawns. Every task has a name and an owner, and ends with its owner. What is begun within a span of the log is in it to its end.

use std::{future::Future, io, thread};

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{Instrument, Span};

/// One task and its owner's hold on it: dropping this ends the task at its next await.
#[derive(Debug)]
pub(crate) struct Task<T> {
    handle: JoinHandle<T>,
}

/// Many tasks of one sort, each known by a tag, under one owner.
#[derive(Debug)]
pub(crate) struct Tasks<K, T> {
    set: JoinSet<T>,
    tags: std::collections::HashMap<tokio::task::Id, K>,
}

/// How a task of a [`Tasks`] ended: with its value, or with the words of its panic.
#[derive(Debug)]
pub(crate) struct Ended<K, T> {
    /// Which task.
    pub(crate) tag: K,
    /// Its value, or why there is none.
    pub(crate) result: Result<T, String>,
}

/// Starts a task that its owner holds.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that spawns"
)]
pub(crate) fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // A span that is too quiet for the log would not stand for the one that it is in.
    let named = future.instrument(tracing::debug_span!("task", name));
    Task {
        handle: tokio::spawn(named.in_current_span()),
    }
}

/// Runs what blocks (libgit2, a file tree's removal) off the runtime's threads.
pub(crate) async fn blocking<T, F>(work: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Starts a thread for what owns a blocking resource for its whole life, such as a database.
pub(crate) fn thread<F>(name: &'static str, work: F) -> io::Result<thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    let span = Span::current();
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(THREAD_STACK)
        .spawn(move || span.in_scope(work))
}

/// Enough for SQLite and a JSON document; the default of 2 MiB would only be address space, but it is address space per thread.
const THREAD_STACK: usize = 512 * 1024;

// === impl Task ===

impl<T> Task<T> {
    /// Waits for the task's end. Dropping the future loses nothing; after the end it must not be asked again.
    pub(crate) async fn ended(&mut self) -> Result<T, String> {
        (&mut self.handle).await.map_err(|error| describe(&error))
    }

    /// Whether the task has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

// === impl Tasks ===

impl<K, T: Send + 'static> Tasks<K, T> {
    /// No tasks yet.
    pub(crate) fn new() -> Self {
        Self {
            set: JoinSet::new(),
            tags: std::collections::HashMap::new(),
        }
    }

    /// Starts a task under a tag.
    pub(crate) fn spawn<F>(&mut self, tag: K, future: F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let id = self.set.spawn(future).id();
        self.tags.insert(id, tag);
    }

    /// Waits for the end of any task; for ever when there is none. Dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> Ended<K, T> {
        loop {
            let (id, result) = match self.set.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((id, value))) => (id, Ok(value)),
                Some(Err(error)) => (error.id(), Err(describe(&error))),
            };
            if let Some(tag) = self.tags.remove(&id) {
                return Ended { tag, result };
            }
        }
    }
}

fn describe(error: &JoinError) -> String {
    // The panic's own words were printed by the panic hook; the payload is opaque here.
    if error.is_panic() {
        "panicked".to_owned()
    } else {
        "was dropped".to_owned()
    }
}
