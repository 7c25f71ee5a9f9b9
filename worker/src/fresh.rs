//! Reads shared by those who ask at the same time, and by nobody else.
//!
//! A hundred lives that begin at once read the same deployment once or twice instead of a hundred times, and still nobody gets an answer
//! that was asked for before they came: the pool's template must be as new as the claim.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

/// Shares reads by key.
#[derive(Debug)]
pub(crate) struct Fresh<K, V> {
    flights: Mutex<HashMap<K, Flight<V>>>,
}

/// For one key: the read that is under way, and the one that waits for it and may still be joined.
#[derive(Debug)]
struct Flight<V> {
    turn: Arc<tokio::sync::Mutex<()>>,
    boarding: Arc<OnceCell<V>>,
    users: usize,
}

// === impl Fresh ===

impl<K: Eq + Hash + Clone, V: Clone> Fresh<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            flights: Mutex::new(HashMap::new()),
        }
    }

    /// The value of a read that began after this call, made here or by another caller. A failed read is not shared: whoever waited reads again.
    pub(crate) async fn read<E, F>(&self, key: &K, read: impl Fn() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let (turn, cell) = self.board(key);
        let landed = Landing { fresh: self, key };
        let result = cell
            .get_or_try_init(|| async {
                // One read at a time: those who come while it is under way board the next one together.
                let _turn = turn.lock().await;
                self.depart(key);
                read().await
            })
            .await
            .cloned();
        drop(landed);
        result
    }

    fn board(&self, key: &K) -> (Arc<tokio::sync::Mutex<()>>, Arc<OnceCell<V>>) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = flights.entry(key.clone()).or_insert_with(Flight::new);
        flight.users += 1;
        (Arc::clone(&flight.turn), Arc::clone(&flight.boarding))
    }

    /// Closes the doors: from here on callers board the next read.
    fn depart(&self, key: &K) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get_mut(key) {
            flight.boarding = Arc::new(OnceCell::new());
        }
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self {
            turn: Arc::default(),
            boarding: Arc::new(OnceCell::new()),
            users: 0,
        }
    }
}

/// Forgets a key when the last caller has left, also one whose future was dropped, so that the map holds what is being read and no more.
struct Landing<'a, K: Eq + Hash, V> {
    fresh: &'a Fresh<K, V>,
    key: &'a K,
}

impl<K: Eq + Hash, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self
            .fresh
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get_mut(self.key) {
            flight.users -= 1;
            if flight.users == 0 {
                flights.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
