//! The steps of one worker, counted, and its death at one of them.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;

/// Counts the steps of a worker and keeps it from taking those after its death. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    taken: Arc<Mutex<Taken>>,
    died_tx: watch::Sender<bool>,
}

#[derive(Debug)]
struct Taken {
    fatal: Option<u32>,
    labels: Vec<String>,
}

/// How often it is looked whether enough steps were taken.
const GLANCE: Duration = Duration::from_millis(20);

// === impl Steps ===

impl Steps {
    /// The steps of a worker that dies at this one, counted from 1, or at none.
    pub(super) fn until(fatal: Option<u32>) -> Self {
        Self {
            taken: Arc::new(Mutex::new(Taken {
                fatal,
                labels: Vec::new(),
            })),
            died_tx: watch::Sender::new(false),
        }
    }

    /// Takes a step. It never returns when the worker is dead.
    pub(super) async fn take(&self, label: impl Into<String>) {
        self.count(label);
        self.live().await;
    }

    /// Goes on, if the worker lives.
    pub(super) async fn live(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts a step, unless the worker is dead. Whether it is the one at which it dies.
    pub(super) fn count(&self, label: impl Into<String>) -> bool {
        let mut taken = self.lock();
        if self.is_over() {
            return false;
        }
        let label = label.into();
        tracing::debug!(label, "step");
        taken.labels.push(label);
        let dies = taken.fatal == Some(taken.count());
        if dies {
            tracing::info!("the worker dies here");
            self.died_tx.send_replace(true);
        }
        dies
    }

    /// Waits until the worker dies.
    pub(super) async fn death(&self) {
        // The sender is in here, so there will be no error.
        drop(self.died_tx.subscribe().wait_for(|died| *died).await);
    }

    /// How many steps were taken.
    pub(super) fn taken(&self) -> u32 {
        self.lock().count()
    }

    /// Waits until more steps were taken than these.
    pub(super) async fn taken_more_than(&self, count: u32) {
        while self.taken() <= count {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The step at which the worker died, or the last one it took.
    pub(super) fn last(&self) -> String {
        self.lock().labels.last().cloned().unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        *self.died_tx.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken
            .lock()
            .expect("nothing panics while it holds this")
    }
}

// === impl Taken ===

impl Taken {
    fn count(&self) -> u32 {
        u32::try_from(self.labels.len()).expect("few steps")
    }
}
