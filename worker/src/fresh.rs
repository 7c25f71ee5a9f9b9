//! Reads that are shared by those for whom they are new enough.
//!
//! A hundred lives that one poll began read their deployment once instead of a hundred times, and still nobody gets an answer older than
//! what they were begun for: a deployment that is changed before a flow run is created is the changed one for that flow run.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Shares reads by key.
#[derive(Debug)]
pub(crate) struct Fresh<K, V> {
    /// How much older than asked for a value may be.
    holds: Duration,
    slots: Mutex<HashMap<K, Slot<V>>>,
}

/// One key's last read. Who holds the lock reads, the others wait for what comes of it.
type Slot<V> = Arc<tokio::sync::Mutex<Option<Kept<V>>>>;

#[derive(Debug)]
struct Kept<V> {
    began: Instant,
    value: V,
}

/// How long a value is kept for those who may still come for it: a flow run waits a few seconds at most between the poll and its reads.
const KEPT: Duration = Duration::from_secs(30);

// === impl Fresh ===

impl<K: Eq + Hash + Clone, V: Clone> Fresh<K, V> {
    /// Shares reads that are as new as is asked for.
    pub(crate) fn new() -> Self {
        Self::holding(Duration::ZERO)
    }

    /// Shares reads of what hardly changes: they may be older than asked for by this much.
    pub(crate) fn holding(holds: Duration) -> Self {
        Self {
            holds,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// The value of a read that began after `since`, made here or by another caller. A failed read is not shared: whoever waited reads again.
    pub(crate) async fn read<E, F>(
        &self,
        key: &K,
        since: Instant,
        read: impl Fn() -> F,
    ) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let slot = self.slot(key);
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref()
            && kept.began + self.holds >= since
        {
            return Ok(kept.value.clone());
        }
        let began = Instant::now();
        let value = read().await?;
        *kept = Some(Kept {
            began,
            value: value.clone(),
        });
        Ok(value)
    }

    /// The slot of a key. Slots that nobody will come back to are dropped, so that the map holds what a few seconds need and no more.
    fn slot(&self, key: &K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(key) {
            slots.retain(|_, slot| is_wanted(slot, KEPT + self.holds));
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

fn is_wanted<V>(slot: &Slot<V>, kept_for: Duration) -> bool {
    let Ok(kept) = slot.try_lock() else {
        return true;
    };
    Arc::strong_count(slot) > 1
        || kept
            .as_ref()
            .is_some_and(|kept| kept.began.elapsed() < kept_for)
}

#[cfg(test)]
mod tests;
