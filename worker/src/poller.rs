//! Asks the pool for due flow runs, as often as is useful and no oftener.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use worker_api::{ApiError, Client, types::ScheduledFlowRun};

use crate::{
    event::{Event, Gate},
    metrics::Metrics,
    status::Vitals,
};

/// The least time between two polls. It is what a pool full of work costs the server: four requests a second.
const FLOOR: Duration = Duration::from_millis(250);

/// The most time between two polls while the API fails.
const CEILING: Duration = Duration::from_mins(1);

/// The longest that a server's request to be left alone is followed. Longer than any rate limit seen (one minute).
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The work pool.
    pub(crate) pool: String,
    /// Its queues; empty means all.
    pub(crate) work_queues: Vec<String>,
    /// How far ahead of its time a flow run may be taken.
    pub(crate) prefetch: Duration,
    /// Time between polls when nothing speaks for sooner.
    pub(crate) interval: Duration,
}

/// When to poll next: pure, so that its rules are tested without a clock.
#[derive(Debug, Default)]
struct Cadence {
    last: Option<Instant>,
    more: bool,
    failures: u32,
    jitter: f64,
    /// The server wants to be left alone until then.
    not_before: Option<Instant>,
}

/// Polls until its owner drops it. It never ends by itself, whatever the API answers.
pub(crate) async fn poll(
    client: Client,
    question: Question,
    mut gate_rx: watch::Receiver<Gate>,
    events_tx: mpsc::Sender<Event>,
    (vitals, metrics): (Arc<Vitals>, Arc<Metrics>),
) {
    // The loop is its own retry: a retry inside the client would only hide from it how the API is.
    let client = client.with_retries(0);
    let mut cadence = Cadence::default();
    loop {
        let due = cadence.next(question.interval);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            // Cancel-safe: a change that is not seen here is seen by the next `borrow`.
            changed = gate_rx.changed() => {
                if changed.is_err() { return }
                continue;
            }
        }
        let gate = gate_rx.borrow_and_update().clone();
        let Gate::Open(limit) = gate else {
            // What the closed gate says is the dispatcher's affair. It opens with a change, so wait for that.
            if gate_rx.changed().await.is_err() {
                return;
            }
            continue;
        };
        let asked = Instant::now();
        let answer = ask(&client, &question, limit).await;
        metrics.polled(answer.as_ref().map(Vec::len).ok());
        match answer {
            Ok(due) => {
                vitals.poll_succeeded();
                cadence.succeeded(due.len() >= limit as usize, Instant::now(), jitter());
                if events_tx.send(Event::Polled { due, asked }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                vitals.poll_failed(&error);
                cadence.failed(Instant::now(), jitter(), error.retry_after());
                let wait = cadence
                    .next(question.interval)
                    .duration_since(Instant::now());
                tracing::warn!(pool = %question.pool, error = %crate::telemetry::chain(&error), ?wait, "poll failed");
            }
        }
    }
}

async fn ask(
    client: &Client,
    question: &Question,
    limit: u32,
) -> Result<Vec<ScheduledFlowRun>, ApiError> {
    let before = Timestamp::now() + question.prefetch;
    client
        .scheduled_flow_runs(&question.pool, &question.work_queues, before, limit)
        .await
}

/// A number from 0 to 1, different for each worker and poll, so that a fleet does not poll in step.
fn jitter() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128();
    f64::from(u32::try_from(random & 0xffff_ffff).unwrap_or(0)) / f64::from(u32::MAX)
}

// === impl Cadence ===

impl Cadence {
    /// The next poll: at once after the start, at the floor while there is more, else after the interval spread by a quarter to both sides;
    /// after failures the interval doubles up to the ceiling, and is never shorter than the server asked for.
    fn next(&self, interval: Duration) -> Instant {
        let Some(last) = self.last else {
            return Instant::now();
        };
        if self.more {
            return last + FLOOR;
        }
        let slowed = interval
            .saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1)))
            .min(CEILING.max(interval));
        let next = last + slowed.mul_f64(0.75 + self.jitter / 2.0).max(FLOOR);
        self.not_before.map_or(next, |asked| next.max(asked))
    }

    fn succeeded(&mut self, full: bool, now: Instant, jitter: f64) {
        *self = Self {
            last: Some(now),
            more: full,
            failures: 0,
            jitter,
            not_before: None,
        };
    }

    fn failed(&mut self, now: Instant, jitter: f64, retry_after: Option<Duration>) {
        *self = Self {
            last: Some(now),
            more: false,
            failures: self.failures + 1,
            jitter,
            // A server that asks for hours has most likely a wrong clock.
            not_before: retry_after.map(|delay| now + delay.min(LONGEST_ASKED)),
        };
    }
}

#[cfg(test)]
mod tests;
