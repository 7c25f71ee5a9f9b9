//! Counts how requests were answered, for whoever shows it to operators.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// How many tries of requests were answered how. Redirects count for themselves.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By the first digit of the status, from 1 to 5.
    answered: [AtomicU64; 5],
    /// Without an answer.
    lost: AtomicU64,
}

/// The names of the classes, as they are shown.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

// === impl Tally ===

impl Tally {
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        // No HTTP library lets a status below 100 through; one above 599 is nobody's.
        if let Some(count) = class.checked_sub(1).and_then(|at| self.answered.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Each class with its count, and `none` for requests without an answer.
    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = self.answered.iter().chain([&self.lost]);
        CLASSES
            .into_iter()
            .chain(["none"])
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_counted_for_itself() {
        let tally = Tally::default();
        tally.answered(StatusCode::CREATED);
        tally.answered(StatusCode::NOT_FOUND);
        tally.answered(StatusCode::CONFLICT);
        tally.lost();
        let counted = [
            ("1xx", 0),
            ("2xx", 1),
            ("3xx", 0),
            ("4xx", 2),
            ("5xx", 0),
            ("none", 1),
        ];
        assert_eq!(tally.read(), counted);
    }
}
