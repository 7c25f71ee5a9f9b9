//! Where our worker or our server differs on purpose.
//!
//! Each entry is a sentence for people, which stands in DIFFERENCES.md with its reason, and the lines by which the
//! matrix knows it. An entry that no longer shows is as wrong as a difference without an entry.

use super::compare::Gap;
use crate::column::{ServerKind, WorkerKind};

/// Whose difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Worker,
    Server,
}

/// A difference on purpose.
#[derive(Debug)]
struct Difference {
    whose: Whose,
    /// What differs, for people.
    what: &'static str,
    /// Why ours is better.
    reason: &'static str,
    /// Where it shows.
    traces: &'static [Trace],
}

/// Lines that the truth has and ours has not, and lines that ours has instead. One that ends in `*` stands for all that
/// begin so.
#[derive(Debug)]
struct Trace {
    /// Empty when it may show in any.
    scenario: &'static str,
    aspect: &'static str,
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
}

/// The differences that one column should show.
#[derive(Debug)]
pub(crate) struct Expected {
    traces: Vec<(&'static Difference, &'static Trace, bool)>,
}

/// All of them.
const DIFFERENCES: &[Difference] = &[];

// === impl Expected ===

impl Expected {
    /// What a column should show that is not the truth.
    pub(crate) fn of(worker: WorkerKind, server: ServerKind) -> Self {
        let applies = |difference: &&Difference| match difference.whose {
            Whose::Worker => worker == WorkerKind::Ours,
            Whose::Server => server == ServerKind::Embedded,
        };
        let traces = DIFFERENCES.iter().filter(applies).flat_map(|difference| {
            difference
                .traces
                .iter()
                .map(move |trace| (difference, trace, false))
        });
        Self {
            traces: traces.collect(),
        }
    }

    /// What of a gap is not on purpose.
    pub(crate) fn take(&mut self, scenario: &str, mut gap: Gap) -> Gap {
        for (_, trace, seen) in &mut self.traces {
            let here = trace.scenario.is_empty() || trace.scenario == scenario;
            if here && trace.aspect == gap.aspect && trace.is_in(&gap) {
                *seen = true;
                gap.theirs.retain(|line| !matches_any(trace.theirs, line));
                gap.ours.retain(|line| !matches_any(trace.ours, line));
            }
        }
        gap
    }

    /// Differences of the table that did not show.
    pub(crate) fn unseen(&self) -> Vec<String> {
        self.traces
            .iter()
            .filter(|(_, _, seen)| !seen)
            .map(|(difference, trace, _)| format!("no longer so: {} {trace:?}", difference.what))
            .collect()
    }
}

// === impl Trace ===

impl Trace {
    /// Whether all of its lines show.
    fn is_in(&self, gap: &Gap) -> bool {
        let shows = |patterns: &[&str], lines: &[String]| {
            patterns
                .iter()
                .all(|pattern| lines.iter().any(|line| matches(pattern, line)))
        };
        shows(self.theirs, &gap.theirs) && shows(self.ours, &gap.ours)
    }
}

// === functions ===

fn matches_any(patterns: &[&str], line: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, line))
}

fn matches(pattern: &str, line: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => line.starts_with(start),
        None => line == pattern,
    }
}
