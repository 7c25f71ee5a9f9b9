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
    /// Where it looks.
    places: Vec<Watched>,
    /// Attempts that are being made and of which it will hear.
    expected: HashSet<RunKey>,
    /// When somebody took in what the cluster tells.
    looked_at: Instant,
}

/// A place that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The cluster's id.
    pub(super) cluster: String,
    /// None: all of the cluster.
    pub(super) namespace: Option<String>,
    /// Whether all is seen that is there.
    pub(super) is_listed: bool,
    /// Since when it is listed, or is to be.
    pub(super) since: Instant,
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

/// How long a place may take to be listed before the cluster is asked instead.
const BEHIND: Duration = Duration::from_secs(10);

// === impl View ===

impl View {
    fn new() -> Self {
        Self {
            store: Store::default(),
            places: Vec::new(),
            expected: HashSet::new(),
            looked_at: Instant::now(),
        }
    }

    /// Somebody takes in what the cluster tells.
    pub(super) fn looked(&mut self) {
        self.looked_at = Instant::now();
    }

    /// These are the places now. What is made while one is not listed may be gone before it is seen.
    pub(super) fn looks_at(&mut self, mut places: Vec<Watched>) {
        for place in places.iter_mut().filter(|place| !place.is_listed) {
            // One that fails is begun again and again.
            let before = self.places.iter().find(|before| before.is_same(place));
            if let Some(before) = before.filter(|before| !before.is_listed) {
                place.since = before.since;
            }
        }
        if self.places == places {
            return;
        }
        if !places.iter().all(|place| place.is_listed) {
            self.expected.clear();
        }
        self.places = places;
    }

    /// A Job is there.
    pub(super) fn saw(&mut self, key: RunKey) {
        self.expected.remove(&key);
    }

    fn find_place(&self, cluster: &str, namespace: &str) -> Option<&Watched> {
        self.places
            .iter()
            .find(|place| place.has(cluster, namespace))
    }

    fn glance(&self, key: RunKey, cluster: &str, namespace: &str) -> Glance {
        if self.looked_at.elapsed() > STALE {
            return Glance::Unknown;
        }
        match self.find_place(cluster, namespace) {
            None => return Glance::Unknown,
            Some(place) if !place.is_listed && place.since.elapsed() < BEHIND => {
                return Glance::Behind;
            }
            Some(place) if !place.is_listed => return Glance::Unknown,
            Some(_) => {}
        }
        match self.store.find(key) {
            // The pods of a Job may be told of later than its end.
            Some((job, pods)) if job.has_ended() && pods.is_empty() => Glance::Unknown,
            Some((job, pods)) => Glance::Seen(Box::new(job), pods),
            None if self.expected.contains(&key) => Glance::Expected,
            None => Glance::Unknown,
        }
    }
}

// === impl Watched ===

impl Watched {
    fn is_same(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.namespace == other.namespace
    }

    fn has(&self, cluster: &str, namespace: &str) -> bool {
        let here = self.namespace.as_deref();
        cluster == self.cluster && here.is_none_or(|here| here == namespace)
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

    /// What is known of an attempt that is in this namespace of this cluster.
    pub(super) fn glance(&self, key: RunKey, cluster: &str, namespace: &str) -> Glance {
        let mut found = Glance::Unknown;
        for view in self.all() {
            match lock(&view).glance(key, cluster, namespace) {
                Glance::Unknown => {}
                Glance::Behind => found = Glance::Behind,
                seen => return seen,
            }
        }
        found
    }

    /// An attempt is about to be made. Said before it is there, so that nothing that is told of it comes first.
    pub(super) fn expect(&self, key: RunKey, cluster: &str, namespace: &str) {
        for view in self.all() {
            let mut view = lock(&view);
            let place = view.find_place(cluster, namespace);
            if place.is_some_and(|place| place.is_listed) {
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
