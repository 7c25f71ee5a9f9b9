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

// === impl Difference ===

impl Difference {
    /// Its row in the table for people.
    pub(crate) fn row(&self) -> String {
        let Self {
            what,
            reason,
            traces,
        } = self;
        let mut scenarios: Vec<&str> = traces.iter().map(|trace| trace.scenario).collect();
        scenarios.dedup();
        let scenarios = scenarios.join("; ");
        let scenarios = if scenarios.is_empty() {
            "all"
        } else {
            &scenarios
        };
        format!("| {what} | {reason} | {scenarios} |")
    }
}

// === impl Expected ===

impl Expected {
    /// These.
    pub(crate) fn of(differences: impl IntoIterator<Item = &'static Difference>) -> Self {
        let traces = differences.into_iter().flat_map(|difference| {
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

/// Whether the table of a document has these rows and no others.
pub(crate) fn assert_documented(rows: impl IntoIterator<Item = String>, document: &str) {
    let path = worker_tests::files::root().join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let (_, table) = text.split_once("|---").expect("it has a table");
    let listed: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("| "))
        .collect();
    let rows: Vec<String> = rows.into_iter().collect();
    let should_be = rows.join("\n");
    assert_eq!(listed, rows, "the table of {document}, not:\n{should_be}\n");
}
