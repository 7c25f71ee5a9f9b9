//! How far a fetch is, in sentences, not too many of them.

use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;

/// Between two sentences: what a person who watches a log wants to see move.
const INTERVAL: Duration = Duration::from_secs(5);

/// Watches one transfer.
pub(super) struct Meter<'a> {
    context: &'a Context,
    next: Instant,
}

// === impl Meter ===

impl<'a> Meter<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            next: Instant::now() + INTERVAL,
        }
    }

    /// Whether to go on.
    pub(super) fn see(&mut self, progress: &git2::Progress<'_>) -> bool {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            (self.context.operation.progress)(format!(
                "Fetching {}: {} of {} objects, {:.1} MB",
                self.context.address,
                progress.received_objects(),
                progress.total_objects(),
                megabytes(progress.received_bytes()),
            ));
        }
        self.context.go_on()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a person reads it, with one digit behind the point"
)]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
