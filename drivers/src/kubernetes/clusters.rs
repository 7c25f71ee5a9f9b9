//! The clusters that a worker has to do with: its own, and those that the blocks of its jobs named; and which of them an attempt is on. Asks nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{connection::Cluster, lock};
use crate::job::RunKey;

/// All that answered at least once, and the worker's own.
pub(super) struct Clusters {
    /// The first is the worker's own.
    known: Mutex<Vec<Arc<Cluster>>>,
    /// By the ids of clusters, from before the attempt's Job is made there.
    whereabouts: Mutex<HashMap<RunKey, String>>,
}

// === impl Clusters ===

impl Clusters {
    pub(super) fn of_home(home: Cluster) -> Self {
        Self {
            known: Mutex::new(vec![Arc::new(home)]),
            whereabouts: Mutex::default(),
        }
    }

    /// The worker's own.
    pub(super) fn home(&self) -> Arc<Cluster> {
        Arc::clone(&lock(&self.known)[0])
    }

    pub(super) fn all(&self) -> Vec<Arc<Cluster>> {
        lock(&self.known).clone()
    }

    /// The one of this name in a handle.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Cluster>> {
        let known = lock(&self.known);
        known.iter().find(|cluster| cluster.id == id).cloned()
    }

    pub(super) fn names(&self) -> String {
        let known = lock(&self.known);
        let names: Vec<&str> = known.iter().map(|cluster| cluster.id.as_str()).collect();
        names.join(", ")
    }

    /// Takes in one that a block named and that has answered. Whether it is new.
    pub(super) fn learn(&self, cluster: Cluster) -> (Arc<Cluster>, bool) {
        let mut known = lock(&self.known);
        match known.iter().position(|one| one.id == cluster.id) {
            // The worker's own rights hold in its own cluster.
            Some(0) => (Arc::clone(&known[0]), false),
            // A block's credentials may be newer than those we know.
            Some(index) => {
                let cluster = Arc::new(cluster.in_place_of(&known[index]));
                known[index] = Arc::clone(&cluster);
                (cluster, false)
            }
            None => {
                let cluster = Arc::new(cluster);
                known.push(Arc::clone(&cluster));
                (cluster, true)
            }
        }
    }

    /// An attempt is on this cluster if it is anywhere.
    pub(super) fn expect(&self, key: RunKey, cluster: &Cluster) {
        lock(&self.whereabouts).insert(key, cluster.id.clone());
    }

    /// Where an attempt can be: another cluster that does not answer must not hold up its end.
    pub(super) fn of(&self, key: RunKey) -> Vec<Arc<Cluster>> {
        let id = lock(&self.whereabouts).get(&key).cloned();
        let one = id.and_then(|id| self.find(&id));
        one.map_or_else(|| self.all(), |cluster| vec![cluster])
    }

    /// The attempt is nowhere any more.
    pub(super) fn forget(&self, key: RunKey) {
        lock(&self.whereabouts).remove(&key);
    }
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&*lock(&self.known)).finish()
    }
}

#[cfg(test)]
mod tests;
