//! How often this crate tries again, and after how long; in one place, also for git, whose tries block a thread.
//!
//! Whoever makes a try says whether another one may help. The delays come from the `backoff` crate, used as arithmetic only.

use std::{future::Future, time::Duration};

use backoff::{SystemClock, backoff::Backoff, exponential::ExponentialBackoffBuilder};

/// How something is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// How often it is tried at most, the first time included.
    pub attempts: u32,
    /// The delay after the first failure; each further one is twice as long, and each strays by up to a half.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
}

// === impl Retry ===

impl Default for Retry {
    /// Rides out a restarting server or a full one for some seconds, and lets a person know within half a minute.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The delays between tries, one after the other.
    pub(crate) fn delays(&self) -> impl FnMut() -> Duration + use<> {
        let longest = self.max_delay;
        let mut delays = ExponentialBackoffBuilder::<SystemClock>::new()
            .with_initial_interval(self.first_delay)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_interval(longest)
            .with_max_elapsed_time(None)
            .build();
        move || delays.next_backoff().unwrap_or(longest)
    }

    /// Makes tries until one succeeds, fails for good, or is the last; with an error comes how many were made.
    ///
    /// # Cancellation
    /// Dropping the future ends the present try or wait.
    pub(crate) async fn run<T, E, F>(
        &self,
        mut attempt: impl FnMut() -> F,
        may_pass: impl Fn(&E) -> bool,
    ) -> Result<T, (E, u32)>
    where
        F: Future<Output = Result<T, E>>,
        E: std::fmt::Display,
    {
        let mut delays = self.delays();
        let mut made = 1;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if made >= self.attempts || !may_pass(&error) {
                return Err((error, made));
            }
            tracing::debug!(%error, attempt = made, "trying again");
            tokio::time::sleep(delays()).await;
            made += 1;
        }
    }
}

#[cfg(test)]
mod tests;
