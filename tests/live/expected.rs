//! What may differ between the Python worker and ours on one engine: a table, held in both directions.
//!
//! Each entry is a sentence for people, which stands in a document with its reason, and the lines by which a test knows it. An entry that no longer
//! shows is as wrong as a difference without an entry.

use crate::compare::Gap;

/// A difference on purpose.
#[derive(Debug)]
pub(crate) struct Difference {
    /// What differs, for people.
    pub(crate) what: &'static str,
    /// Why ours is better.
    pub(crate) reason: &'static str,
    /// Where it shows.
    pub(crate) traces: &'static [Trace],
}

/// Lines that only the Python worker leaves, and lines that ours leaves instead. One that ends in `*` stands for all that begin so.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Empty when it may show in any.
    pub(crate) scenario: &'static str,
    pub(crate) aspect: &'static str,
    pub(crate) theirs: &'static [&'static str],
    pub(crate) ours: &'static [&'static str],
}

/// The differences that should show.
#[derive(Debug)]
pub(crate) struct Expected {
    traces: Vec<(&'static Difference, &'static Trace, bool)>,
}

// === impl Expected ===

impl Expected {
    /// Those of a table.
    pub(crate) fn all(table: &'static [Difference]) -> Self {
        let traces = table.iter().flat_map(|difference| {
            let traces = difference.traces.iter();
            traces.map(move |trace| (difference, trace, false))
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

/// The table as the document for people has it.
fn rows(table: &[Difference]) -> Vec<String> {
    let row = |difference: &Difference| {
        let mut scenarios: Vec<&str> = difference
            .traces
            .iter()
            .map(|trace| trace.scenario)
            .collect();
        scenarios.dedup();
        let scenarios = scenarios.join("; ");
        let scenarios = if scenarios.is_empty() {
            "all"
        } else {
            &scenarios
        };
        format!(
            "| {} | {} | {scenarios} |",
            difference.what, difference.reason
        )
    };
    table.iter().map(row).collect()
}

/// Whether a document has this table and nothing else.
pub(crate) fn assert_documented(table: &[Difference], document: &str) {
    let path = worker_tests::files::root().join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let listed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| What "))
        .collect();
    assert_eq!(listed, rows(table), "the table of {}", path.display());
}
