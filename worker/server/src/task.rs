//! The only file that spawns: every task of the server has a name and ends with it.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one server. When it is dropped, they end.
#[derive(Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    drain: CancellationToken,
    end: CancellationToken,
}

// === impl Tasks ===

impl Tasks {
    /// No tasks yet.
    pub(crate) fn new() -> Self {
        let end = CancellationToken::new();
        Self {
            tracker: TaskTracker::new(),
            drain: end.child_token(),
            end,
        }
    }

    /// Says when to begin nothing new.
    pub(crate) fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Says when it is over.
    pub(crate) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Runs a future until it ends, or the server begins to stop.
    pub(crate) fn start(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, self.drain(), future);
    }

    /// Runs a future until it ends, or the server's patience with it does.
    pub(crate) fn start_draining(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, self.end(), future);
    }

    /// Tells all tasks to come to an end, waits for them so long at most, and then ends them.
    ///
    /// Says whether all had come to an end by themselves.
    pub(crate) async fn stop(&self, patience: Duration) -> bool {
        self.drain.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(patience, self.tracker.wait()).await;
        self.end.cancel();
        self.tracker.wait().await;
        ended.is_ok()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns, and the tracker owns the task"
    )]
    fn spawn(
        &self,
        name: &'static str,
        until: CancellationToken,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tracker.track_future(async move {
            until.run_until_cancelled(future).await;
            tracing::trace!(name, "task of the embedded API ended");
        });
        drop(tokio::spawn(task));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
