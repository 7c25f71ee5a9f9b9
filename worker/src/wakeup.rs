//! Listens to what the server says about the pool's flow runs, so that nobody has to wait for the next poll.
//!
//! An event is only a reason to look now: it may be old, doubled, or about another attempt. What is true is asked of the API by those who
//! are woken, and what is never heard is found by their polling, so a lost socket costs time and nothing else.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use worker_api::{
    Client, SocketError,
    types::{EventFilter, FlowRunId, ReceivedEvent, WorkPoolId},
};

use crate::telemetry::chain;

/// Those who are woken.
#[derive(Clone, Debug)]
pub(crate) struct Sleepers {
    /// The poller: something may be due.
    pub(crate) poller: Arc<Notify>,
    /// Who looks for cancelled flow runs: this one may be.
    pub(crate) cancellation: mpsc::Sender<FlowRunId>,
    /// The work queues that are polled; empty means all.
    pub(crate) work_queues: Vec<String>,
}

/// What an event is a reason for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Poll,
    LookAt(FlowRunId),
}

/// The names of states that make a flow run due, now or soon.
const DUE: [&str; 4] = ["Scheduled", "AwaitingRetry", "Rescheduled", "Resuming"];

/// The name of the state in which a job must end. One that is Cancelled may have said so itself.
const CANCELLING: &str = "Cancelling";

/// How far a new subscription looks back. Whatever happened before the last poll was seen by it; this covers clocks that differ a little.
const LOOK_BACK: SignedDuration = SignedDuration::from_secs(5);

/// The first wait before a lost socket is opened again.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest, and the wait after a refusal that only a person can change, such as an upgrade of the server.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How long a socket must last for the next wait to be the first again. A server that opens and closes is not asked every second.
const STEADY: Duration = Duration::from_secs(30);

/// Listens until its owner drops it, to the pool that there is.
pub(crate) async fn listen(
    client: Client,
    mut pool_rx: watch::Receiver<Option<WorkPoolId>>,
    sleepers: Sleepers,
) {
    loop {
        let Some(pool) = *pool_rx.borrow_and_update() else {
            if pool_rx.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            never = listen_to(&client, pool, &sleepers) => match never {},
            // The pool was made anew and has another id.
            changed = pool_rx.changed() => if changed.is_err() { return },
        }
    }
}

async fn listen_to(
    client: &Client,
    pool: WorkPoolId,
    sleepers: &Sleepers,
) -> std::convert::Infallible {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match client.subscribe(&filter(pool)).await {
            Ok(mut events) => {
                let opened = Instant::now();
                tracing::debug!("listening to the work pool's events");
                // What came between the last poll and now was told to nobody.
                sleepers.poller.notify_one();
                let error = loop {
                    match events.next().await {
                        Ok(event) => sleepers.wake(reason(&event, &sleepers.work_queues)),
                        Err(error) => break error,
                    }
                };
                if opened.elapsed() > STEADY {
                    wait = FIRST_WAIT;
                }
                error
            }
            Err(error) => error,
        };
        let pause = pause_after(&error, wait);
        tracing::debug!(error = %chain(&error), ?pause, "not listening to events; polling is what remains");
        tokio::time::sleep(spread(pause)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn filter(pool: WorkPoolId) -> EventFilter {
    let names = DUE.iter().chain([&CANCELLING]);
    EventFilter {
        names: names
            .map(|name| format!("prefect.flow-run.{name}"))
            .collect(),
        resource: format!("prefect.work-pool.{pool}"),
        since: Timestamp::now()
            .saturating_sub(LOOK_BACK)
            .unwrap_or(Timestamp::MIN),
    }
}

/// What an event is a reason for. Pure.
fn reason(event: &ReceivedEvent, queues: &[String]) -> Option<Reason> {
    let state = event.name.strip_prefix("prefect.flow-run.")?;
    if DUE.contains(&state) {
        let queue = event.find_related("work-queue");
        let is_elsewhere = queue.is_some_and(|queue| !queues.iter().any(|ours| ours == queue));
        (queues.is_empty() || !is_elsewhere).then_some(Reason::Poll)
    } else if state == CANCELLING {
        event
            .find_subject("flow-run")
            .map(|id| Reason::LookAt(FlowRunId(id)))
    } else {
        None
    }
}

fn pause_after(error: &SocketError, wait: Duration) -> Duration {
    if error.may_pass() { wait } else { LONGEST_WAIT }
}

/// A pause between half and all of the given one, so that a fleet does not come back all at once.
pub(crate) fn spread(pause: Duration) -> Duration {
    let chance = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
    pause.mul_f64(0.5 + chance / 2.0)
}

// === impl Sleepers ===

impl Sleepers {
    fn wake(&self, reason: Option<Reason>) {
        match reason {
            Some(Reason::Poll) => self.poller.notify_one(),
            // When so many wait that there is no room, the regular look finds it.
            Some(Reason::LookAt(id)) => {
                self.cancellation.try_send(id).ok();
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
