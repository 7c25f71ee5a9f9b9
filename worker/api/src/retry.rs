//! The one place that repeats a request: which delays, how often, and when not.
//!
//! It knows nothing of HTTP. Whoever makes a try says what a failure is worth (`Again`); the delays come from the
//! `backoff` crate, used as arithmetic only, so that replacing it touches this file alone.

use std::{sync::Arc, time::Duration};

use backoff::{
    backoff::Backoff,
    exponential::{ExponentialBackoff, ExponentialBackoffBuilder},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use worker_config::settings::ApiSettings;

/// How a failed request is repeated.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// How often a request is repeated after its first failure.
    pub max_retries: u32,
    /// The delay before the first repetition; each further one is twice as long.
    pub first_delay: Duration,
    /// The longest delay between two tries.
    pub max_delay: Duration,
    /// How far a delay may stray to either side, as a share of it. A delay asked for by the server only gets longer.
    pub jitter: f64,
    /// Status codes to retry beyond 408, 429, 502 and 503.
    pub extra_codes: Arc<[u16]>,
    /// The longest `Retry-After` that is waited out here. A server that asks for more gets it from the caller, who has other things to do meanwhile.
    pub max_retry_after: Duration,
    /// How long a server may be under maintenance before the caller is told. Maintenance costs no try.
    pub max_maintenance: Duration,
    /// The source of randomness: a number from 0 to 1.
    pub random: fn() -> f64,
}

/// What a failed try says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail the same way.
    Never,
    /// The cause is gone by now (a stale connection, an outdated CSRF token). Granted once, without delay, and costs no try.
    AtOnce,
    /// After the policy's delay.
    Later,
    /// Not before this has passed.
    After(Duration),
    /// The server is being maintained: costs no try, but is limited in time.
    Maintenance(Option<Duration>),
}

/// A try that failed.
#[derive(Debug)]
pub(crate) struct Failed<E> {
    /// What the caller gets if this was the last try.
    pub(crate) error: E,
    /// Whether it is.
    pub(crate) again: Again,
}

/// Where one call stands.
struct Budget<'a> {
    policy: &'a RetryPolicy,
    delays: ExponentialBackoff<TokioClock>,
    retries: u32,
    at_once: bool,
    maintained_since: Option<Instant>,
}

/// Tokio's clock, so that paused time holds here too.
#[derive(Clone, Debug, Default)]
struct TokioClock;

/// The first delay of the reference, whose n-th one is 2^n seconds.
const FIRST_DELAY: Duration = Duration::from_secs(2);

/// The last delay of the reference with its default of five retries. Waiting longer would only delay the recovery.
const MAX_DELAY: Duration = Duration::from_secs(32);

/// Longer than any rate limit window seen (one minute), short enough that a flow run does not hang unseen.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(2);

/// Prefect Cloud's announced maintenance stays below this; afterwards somebody should look.
const MAX_MAINTENANCE: Duration = Duration::from_mins(30);

/// How much longer than asked a `Retry-After` may be waited, so that not all clients come back at once (3.8.8: 1.2).
const RETRY_AFTER_SPREAD: f64 = 0.2;

// === impl RetryPolicy ===

impl RetryPolicy {
    /// The policy that the settings ask for.
    pub fn from_settings(settings: &ApiSettings) -> Self {
        Self {
            max_retries: settings.max_retries,
            jitter: settings.retry_jitter_factor,
            extra_codes: settings.retry_extra_codes.clone().into(),
            ..Self::default()
        }
    }

    /// The same policy with another number of retries. With none, maintenance is not waited out either.
    #[must_use]
    pub fn with_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        if max_retries == 0 {
            self.max_maintenance = Duration::ZERO;
        }
        self
    }

    /// Whether a status code is worth another try.
    pub(crate) fn retries_status(&self, status: u16) -> bool {
        matches!(status, 408 | 429 | 502 | 503) || self.extra_codes.contains(&status)
    }

    fn spread(&self, delay: Duration) -> Duration {
        // From (1 - jitter) to (1 + jitter) times the delay.
        let factor = 1.0 + self.jitter * (2.0 * (self.random)() - 1.0);
        delay.mul_f64(factor.clamp(0.0, 2.0))
    }

    fn lengthen(&self, delay: Duration) -> Duration {
        delay.mul_f64(1.0 + RETRY_AFTER_SPREAD * (self.random)().clamp(0.0, 1.0))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 5,
            first_delay: FIRST_DELAY,
            max_delay: MAX_DELAY,
            jitter: 0.2,
            extra_codes: Arc::default(),
            max_retry_after: MAX_RETRY_AFTER,
            max_maintenance: MAX_MAINTENANCE,
            random: random_share,
        }
    }
}

// === impl Budget ===

impl<'a> Budget<'a> {
    fn new(policy: &'a RetryPolicy) -> Self {
        let delays = ExponentialBackoffBuilder::new()
            .with_initial_interval(policy.first_delay)
            .with_max_interval(policy.max_delay)
            .with_multiplier(2.0)
            // Its own jitter cannot be given a source of randomness, so ours is added afterwards.
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self {
            policy,
            delays,
            retries: 0,
            at_once: true,
            maintained_since: None,
        }
    }

    /// The delay before the next try, if there is to be one.
    fn next_delay(&mut self, again: Again) -> Option<Duration> {
        match again {
            Again::Never => None,
            Again::AtOnce if self.at_once => {
                self.at_once = false;
                Some(Duration::ZERO)
            }
            Again::AtOnce | Again::Later => self.take_try().then(|| self.backoff()),
            Again::After(delay) if delay > self.policy.max_retry_after => None,
            Again::After(delay) => self.take_try().then(|| self.policy.lengthen(delay)),
            Again::Maintenance(delay) => {
                let since = *self.maintained_since.get_or_insert_with(Instant::now);
                let delay = match delay {
                    Some(delay) => self.policy.lengthen(delay),
                    None => self.backoff(),
                };
                let end = since.elapsed() + delay;
                (end <= self.policy.max_maintenance).then_some(delay)
            }
        }
    }

    fn take_try(&mut self) -> bool {
        let left = self.retries < self.policy.max_retries;
        self.retries += u32::from(left);
        left
    }

    fn backoff(&mut self) -> Duration {
        // Without a limit of elapsed time it never gives up; the limit is ours, by number.
        let delay = self.delays.next_backoff().unwrap_or(self.policy.max_delay);
        self.policy.spread(delay)
    }
}

// === impl TokioClock ===

impl backoff::Clock for TokioClock {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

// === functions ===

/// Makes tries until one succeeds or the policy is exhausted; then gives the last try's error.
///
/// # Cancellation
/// Dropping the future ends the present try or wait.
pub(crate) async fn retry<T, E, F>(
    policy: &RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, Failed<E>>>,
{
    let mut budget = Budget::new(policy);
    loop {
        let Failed { error, again } = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let Some(delay) = budget.next_delay(again) else {
            return Err(error);
        };
        if delay.is_zero() {
            tracing::debug!(%error, "request failed, is repeated at once");
        } else {
            tracing::warn!(%error, ?delay, retry = budget.retries, "request failed, will be repeated");
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

/// A random number from 0 to 1, from the operating system's source.
fn random_share() -> f64 {
    // The first field of a version 4 UUID is 32 random bits.
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
