//! What event streams see, for whoever would else ask the cluster: one who asks for the pods of a job has it look at the pods of all.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{lock, pod::PodSeen, state::JobSeen, store::Store};
use crate::job::RunKey;

/// What one event stream sees.
#[derive(Debug)]
pub(super) struct View {
    pub(super) store: Store,
    /// Whether all is in it that is there.
    is_whole: bool,
    /// Attempts that are being made and of which it will hear.
    expected: HashSet<RunKey>,
    /// When somebody took in what the cluster tells.
    looked_at: Instant,
}

/// The views there are, of one owner each.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<Vec<Weak<Mutex<View>>>>);

/// What a look at an attempt finds.
#[derive(Debug)]
pub(super) enum Glance {
    /// Its Job, and those of its pods that are there. What is newer will be told.
    Seen(Box<JobSeen>, Vec<PodSeen>),
    /// It will be told when there is something of it.
    Expected,
    /// Nothing is sure until the next snapshot.
    Behind,
    /// The cluster has to be asked.
    Unknown,
}

/// For how long a view counts at which nobody looks: an event stream does every second.
const STALE: Duration = Duration::from_secs(5);

// === impl View ===

impl View {
    fn new() -> Self {
        Self {
            store: Store::default(),
            is_whole: false,
            expected: HashSet::new(),
            looked_at: Instant::now(),
        }
    }

    /// Somebody takes in what the cluster tells.
    pub(super) fn looked(&mut self) {
        self.looked_at = Instant::now();
    }

    /// Everything is in it.
    pub(super) fn completed(&mut self) {
        self.is_whole = true;
    }

    /// Something may not be in it. What is made meanwhile may be gone before it is seen.
    pub(super) fn lost(&mut self) {
        self.is_whole = false;
        self.expected.clear();
    }

    /// A Job is there.
    pub(super) fn saw(&mut self, key: RunKey) {
        self.expected.remove(&key);
    }

    fn glance(&self, key: RunKey) -> Glance {
        if self.looked_at.elapsed() > STALE {
            return Glance::Unknown;
        }
        if !self.is_whole {
            return Glance::Behind;
        }
        match self.store.find(key) {
            Some((job, pods)) => Glance::Seen(Box::new(job), pods),
            None if self.expected.contains(&key) => Glance::Expected,
            None => Glance::Unknown,
        }
    }
}

// === impl Views ===

impl Views {
    /// One more, for an event stream, which ends with it.
    pub(super) fn open(&self) -> Arc<Mutex<View>> {
        let view = Arc::new(Mutex::new(View::new()));
        let mut views = lock(&self.0);
        views.retain(|known| known.strong_count() > 0);
        views.push(Arc::downgrade(&view));
        view
    }

    /// What is known of an attempt.
    pub(super) fn glance(&self, key: RunKey) -> Glance {
        let mut found = Glance::Unknown;
        for view in self.all() {
            match lock(&view).glance(key) {
                Glance::Unknown => {}
                Glance::Behind => found = Glance::Behind,
                seen => return seen,
            }
        }
        found
    }

    /// An attempt is about to be made. Said before it is there, so that nothing that is told of it comes first.
    pub(super) fn expect(&self, key: RunKey) {
        for view in self.all() {
            let mut view = lock(&view);
            if view.is_whole {
                view.expected.insert(key);
            }
        }
    }

    /// Nothing need come of it.
    pub(super) fn expect_no_more(&self, key: RunKey) {
        for view in self.all() {
            lock(&view).expected.remove(&key);
        }
    }

    fn all(&self) -> Vec<Arc<Mutex<View>>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests;
