//! Where the worker of one pool is seen from the outside: from before it begins until the process ends.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{notify::Report, status::Status};

/// The place of one worker in its process.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The pool that it is there for.
    pub(crate) pool: String,
    /// The name of its worker, once that has had its directory.
    pub(crate) worker: OnceLock<String>,
    place: Mutex<Place>,
}

/// What is to be seen there.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Its worker has not begun yet; what it waits for.
    Beginning(String),
    /// Its worker turns.
    Working(Status),
    /// Its worker cannot serve the pool, and why. It is begun again after a while.
    Away(String),
    /// Its worker has come to its end.
    Over,
}

// === impl Seat ===

impl Seat {
    pub(crate) fn new(pool: &str) -> Self {
        Self {
            pool: pool.to_owned(),
            worker: OnceLock::new(),
            place: Mutex::new(Place::Beginning("starting".to_owned())),
        }
    }

    /// What is to be seen now.
    pub(crate) fn place(&self) -> Place {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// There is something else to be seen.
    pub(crate) fn show(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// What a supervisor is told.
    pub(crate) fn report(&self) -> Report {
        match self.place() {
            Place::Working(status) => status.vitals.report(),
            Place::Beginning(what) | Place::Away(what) => Report {
                alive: true,
                status: what,
                ..Report::default()
            },
            Place::Over => Report {
                alive: true,
                ending: true,
                ..Report::default()
            },
        }
    }

    /// Whether there is a worker whose loop does not turn.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.place(), Place::Working(status) if status.vitals.is_stuck())
    }
}
