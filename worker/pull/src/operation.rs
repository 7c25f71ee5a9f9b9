//! What each fetch is given by whoever asked for it: how to stop it, and where to tell how far it is.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Where a fetch tells how far it is, in sentences for the log of a flow run. Must not block.
pub type Progress = Arc<dyn Fn(String) + Send + Sync>;

/// One fetch, as whoever asked for it sees it.
#[derive(Clone)]
pub struct Operation {
    /// Ends the fetch early; it answers [`Interrupted`] within a second and leaves nothing half visible.
    pub cancelled: CancellationToken,
    /// Hears of progress, at most once in a few seconds.
    pub progress: Progress,
}

/// The fetch was ended early, by who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

// === impl Operation ===

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}
