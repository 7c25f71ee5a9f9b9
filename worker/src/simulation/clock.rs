//! Time that passes faster than it does: timers keep their order, and nobody waits for real.

use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::task::{self, Task};

/// How often time moves on.
const BEAT: Duration = Duration::from_millis(1);

/// How far it moves: slow enough that a synced write and a request on loopback take less than any limit, fast enough for hundreds of lives.
const STEP: Duration = Duration::from_millis(20);

/// Lets the paused clock of this runtime run, until this is dropped.
///
/// Tokio's own way of advancing a paused clock leaps whenever the runtime has nothing to do, which it also has not while a thread writes to
/// disk or the kernel has a request. It never leaps while there is a blocking task, such as the one that beats here.
pub(super) fn run_fast() -> Task<()> {
    let (beats_tx, mut beats_rx) = mpsc::channel(1);
    task::spawn("clock", async move {
        let beating = task::blocking(move || {
            // A runtime that is busy is not hurried.
            while !matches!(beats_tx.try_send(()), Err(TrySendError::Closed(()))) {
                std::thread::park_timeout(BEAT);
            }
        });
        tokio::pin!(beating);
        loop {
            tokio::select! {
                () = &mut beating => return,
                Some(()) = beats_rx.recv() => tokio::time::advance(STEP).await,
            }
        }
    })
}
