//! How far the server's clock is from ours, by what its answers say: what is due, and what is late, is a matter of clocks.

use std::sync::atomic::{AtomicI64, Ordering};

use http::{HeaderMap, header::DATE};
use jiff::{SignedDuration, Timestamp};

/// What is known of the server's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    /// How many milliseconds it was ahead of ours at the last answer that had a date.
    ahead: AtomicI64,
}

/// Nothing is known.
const UNKNOWN: i64 = i64::MIN;

/// A date in an answer has whole seconds, of which half were over on average.
const HALF_A_SECOND: i64 = 500;

// === impl Clock ===

impl Clock {
    /// Takes note of an answer that has just come.
    pub(crate) fn told(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let Some(date) = date {
            let ours = Timestamp::now().as_millisecond();
            let theirs = date.timestamp().as_millisecond() + HALF_A_SECOND;
            self.ahead.store(theirs - ours, Ordering::Relaxed);
        }
    }

    /// How far the server's clock is ahead of ours, give or take a second.
    pub(crate) fn ahead(&self) -> Option<SignedDuration> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead != UNKNOWN).then(|| SignedDuration::from_millis(ahead))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            ahead: AtomicI64::new(UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_date_tells_how_far_a_clock_is_ahead() {
        let clock = Clock::default();
        assert_eq!(clock.ahead(), None);
        let hour = Timestamp::now() + SignedDuration::from_hours(1);
        let date = hour.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_str(&date).unwrap());
        clock.told(&headers);
        let ahead = clock.ahead().unwrap().as_secs();
        assert!((3590..=3610).contains(&ahead), "{ahead}");
    }

    #[test]
    fn an_answer_without_a_date_says_nothing() {
        let clock = Clock::default();
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("soon"));
        clock.told(&headers);
        assert_eq!(clock.ahead(), None);
    }
}
