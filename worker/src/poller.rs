//! Asks the pool for due flow runs, as often as is useful and no oftener.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use worker_api::{
    ApiError, Client,
    types::{FlowRunId, ScheduledFlowRun},
};

use worker_config::settings::{Settings, WorkerSettings};

use crate::{
    event::{Event, Gate, Seen},
    metrics::Metrics,
    status::Vitals,
};

/// The least time between two polls. It is what a pool full of work costs the server: four requests a second.
const FLOOR: Duration = Duration::from_millis(250);

/// The time between two polls that ask for nothing, while there is room for nothing. A server calls work queues and deployments not
/// ready when they were not polled for a minute (3.8.8).
const SHOWN: Duration = Duration::from_secs(30);

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

/// Asks, and tells the loop.
pub(crate) struct Poller {
    /// The API.
    pub(crate) client: Client,
    /// What to ask for.
    pub(crate) question: Question,
    /// How this worker is set up: how often to ask, and how far ahead, may change.
    pub(crate) settings_rx: watch::Receiver<Arc<Settings>>,
    /// Whether to ask, and for how many.
    pub(crate) gate_rx: watch::Receiver<Gate>,
    /// Says that something may be due now.
    pub(crate) soon: Arc<Notify>,
    /// The loop.
    pub(crate) events_tx: mpsc::Sender<Event>,
    /// What probes read.
    pub(crate) vitals: Arc<Vitals>,
    /// Numbers for operators.
    pub(crate) metrics: Arc<Metrics>,
}

/// When to poll next: pure, so that its rules are tested without a clock.
#[derive(Debug, Default)]
struct Cadence {
    last: Option<Instant>,
    more: bool,
    /// Somebody says that something may be due.
    woken: bool,
    /// Something seen ahead of its time may be taken then.
    ahead: Option<Instant>,
    failures: u32,
    jitter: f64,
    /// The server wants to be left alone until then.
    not_before: Option<Instant>,
}

/// What a poll found.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// What may be taken now.
    due: Vec<ScheduledFlowRun>,
    /// How long until something else may be.
    ahead: Option<Duration>,
}

// === impl Poller ===

impl Poller {
    /// Polls until its owner drops it. It never ends by itself, whatever the API answers.
    pub(crate) async fn poll(mut self) {
        // The loop is its own retry: a retry inside the client would only hide from it how the API is.
        self.client = self.client.with_retries(0);
        let mut cadence = Cadence::default();
        let mut before = HashSet::new();
        loop {
            self.question
                .follow(&self.settings_rx.borrow_and_update().worker);
            let gate = self.gate_rx.borrow_and_update().clone();
            let next = match gate {
                Gate::Open(_) => cadence.next(self.question.interval),
                Gate::Full(_) => cadence.next_shown(self.question.interval),
                Gate::Closed(_) => {
                    // What the closed gate says is the dispatcher's affair. It opens with a change, so wait for that.
                    if self.gate_rx.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                // Cancel-safe: a change that is not seen here is seen by the next `borrow`.
                changed = self.gate_rx.changed() => {
                    if changed.is_err() { return }
                    continue;
                }
                // Without its sender there is no worker any more.
                Ok(()) = self.settings_rx.changed() => continue,
                () = self.soon.notified(), if !cadence.woken => {
                    cadence.woken = true;
                    continue;
                }
            }
            let Gate::Open(limit) = gate else {
                self.show(&mut cadence).await;
                continue;
            };
            let asked = Instant::now();
            let answer = self.ask(limit).await;
            self.metrics
                .polled(answer.as_ref().map(|found| found.due.len()).ok());
            match answer {
                Ok(Found { due, ahead }) => {
                    self.vitals.poll_succeeded();
                    let shown: HashSet<FlowRunId> = due.iter().map(|due| due.flow_run.id).collect();
                    // What is shown again was not taken, for a reason that may last.
                    let more = due.len() >= limit as usize && !shown.is_subset(&before);
                    before = shown;
                    cadence.succeeded(more, Instant::now(), jitter());
                    cadence.ahead = ahead.map(|ahead| asked + ahead);
                    let seen = Seen {
                        asked,
                        answered: Instant::now(),
                    };
                    let polled = Event::Polled { due, seen };
                    if self.events_tx.send(polled).await.is_err() {
                        return;
                    }
                }
                Err(error) => self.failed(&mut cadence, &error),
            }
        }
    }

    /// Lets the server see that the pool is served, although there is room for nothing.
    async fn show(&self, cadence: &mut Cadence) {
        match self.due_before(Timestamp::now(), 0).await {
            Ok(_) => {
                self.metrics.polled(Some(0));
                self.vitals.poll_succeeded();
                cadence.shown(Instant::now());
            }
            Err(error) => self.failed(cadence, &error),
        }
    }

    fn failed(&self, cadence: &mut Cadence, error: &ApiError) {
        self.vitals.poll_failed(error);
        cadence.failed(Instant::now(), jitter(), error.retry_after());
        let next = cadence.next(self.question.interval);
        let wait = next.duration_since(Instant::now());
        let pool = &self.question.pool;
        tracing::warn!(%pool, error = %crate::telemetry::chain(error), ?wait, "poll failed");
    }

    /// Looks as far ahead as the next poll may be, so that what becomes due before it is met by a timer.
    async fn ask(&self, limit: u32) -> Result<Found, ApiError> {
        let Question {
            prefetch, interval, ..
        } = self.question;
        let now = Timestamp::now();
        let page = self
            .due_before(now + prefetch + longest(interval), limit)
            .await?;
        let mut found = Found::sort(page, now + prefetch);
        if found.ahead.is_some() {
            // What is not due yet may have taken the place of what is: by our limit, or by one of the pool or of a queue, which we do not
            // know.
            found.due = self.due_before(now + prefetch, limit).await?;
        }
        Ok(found)
    }

    async fn due_before(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<ScheduledFlowRun>, ApiError> {
        let Question {
            pool, work_queues, ..
        } = &self.question;
        self.client
            .scheduled_flow_runs(pool, work_queues, before, limit)
            .await
    }
}

// === impl Question ===

impl Question {
    /// What is asked for is asked as the settings say now.
    fn follow(&mut self, settings: &WorkerSettings) {
        self.prefetch = settings.prefetch;
        self.interval = settings.query_interval;
    }
}

// === impl Found ===

impl Found {
    /// Tells what may be taken now from what may be taken later. Pure.
    fn sort(page: Vec<ScheduledFlowRun>, before: Timestamp) -> Self {
        let mut found = Self::default();
        for scheduled in page {
            let due = scheduled.flow_run.next_scheduled_start_time;
            match due.filter(|due| *due > before) {
                None => found.due.push(scheduled),
                Some(due) => {
                    let ahead = Duration::try_from(due.duration_since(before)).unwrap_or_default();
                    found.ahead = Some(found.ahead.map_or(ahead, |first| first.min(ahead)));
                }
            }
        }
        found
    }
}

/// A number from 0 to 1, different for each worker and poll, so that a fleet does not poll in step.
fn jitter() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128();
    f64::from(u32::try_from(random & 0xffff_ffff).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The longest time between two polls that succeed.
fn longest(interval: Duration) -> Duration {
    interval.mul_f64(1.25)
}

// === impl Cadence ===

impl Cadence {
    /// The next poll: at once after the start, at the floor while there is more or when woken, else after the interval spread by a quarter to
    /// both sides, or when something seen ahead may be taken; after failures the interval doubles up to the ceiling, and is never shorter
    /// than the server asked for.
    fn next(&self, interval: Duration) -> Instant {
        let Some(last) = self.last else {
            return Instant::now();
        };
        if self.failures > 0 {
            let slowed = interval
                .saturating_mul(2_u32.saturating_pow(self.failures - 1))
                .min(CEILING.max(interval));
            let next = last + self.spread(slowed);
            // Who was woken was told so by the server: it lives.
            let next = if self.woken { last + FLOOR } else { next };
            return self.not_before.map_or(next, |asked| next.max(asked));
        }
        if self.more || self.woken {
            return last + FLOOR;
        }
        let next = last + self.spread(interval);
        self.ahead
            .map_or(next, |ahead| next.min(ahead).max(last + FLOOR))
    }

    /// The next poll while there is room for nothing: slower, as nothing waits for it.
    fn next_shown(&self, interval: Duration) -> Instant {
        let next = self.next(interval);
        self.last.map_or(next, |last| next.max(last + SHOWN))
    }

    fn spread(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.75 + self.jitter / 2.0).max(FLOOR)
    }

    fn succeeded(&mut self, full: bool, now: Instant, jitter: f64) {
        *self = Self {
            last: Some(now),
            more: full,
            jitter,
            ..Self::default()
        };
    }

    /// A poll asked for nothing and was answered. What is known of work that waits stays known.
    fn shown(&mut self, now: Instant) {
        *self = Self {
            last: Some(now),
            failures: 0,
            not_before: None,
            more: true,
            ..*self
        };
    }

    fn failed(&mut self, now: Instant, jitter: f64, retry_after: Option<Duration>) {
        *self = Self {
            last: Some(now),
            failures: self.failures + 1,
            jitter,
            // A server that asks for hours has most likely a wrong clock.
            not_before: retry_after.map(|delay| now + delay.min(LONGEST_ASKED)),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests;
