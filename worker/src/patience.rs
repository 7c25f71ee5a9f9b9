//! Waiting between tries of what must not be given up: from half a second to a minute, spread so that lives do not try in step.
//!
//! It has no limit on tries because an unreported end would be a lost flow run; shutdown ends it, and the journal keeps what it waits for.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// Counts tries and sleeps between them.
#[derive(Debug)]
pub(crate) struct Patience {
    next: Duration,
}

// === impl Patience ===

impl Patience {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Sleeps; longer each time.
    pub(crate) async fn wait(&mut self) {
        let spread = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
        tokio::time::sleep(self.next.mul_f64(0.5 + spread / 2.0)).await;
        self.next = (self.next * 2).min(LONGEST);
    }
}
