//! Where our Docker worker differs from the Python one on purpose.
//!
//! Each entry is a sentence for people, which stands in DIFFERENCES.md with its reason, and the lines by which the test knows it. An entry that no longer
//! shows is as wrong as a difference without an entry.

use crate::compare::Gap;

/// A difference on purpose.
#[derive(Debug)]
struct Difference {
    /// What differs, for people.
    what: &'static str,
    /// Why ours is better.
    reason: &'static str,
    /// Where it shows.
    traces: &'static [Trace],
}

/// Lines that only the Python worker leaves, and lines that ours leaves instead. One that ends in `*` stands for all that begin so.
#[derive(Debug)]
struct Trace {
    /// Empty when it may show in any.
    scenario: &'static str,
    aspect: &'static str,
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
}

/// The differences that should show.
#[derive(Debug)]
pub(super) struct Expected {
    traces: Vec<(&'static Difference, &'static Trace, bool)>,
}

/// The log that a worker writes about a flow run.
const WORKER_LOG: &str = "log of prefect.flow_runs.worker";

/// All of them.
const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "The log line that a flow run was submitted names its container and its attempt.",
        reason: "Whoever looks for the container need not ask the API for it.",
        traces: &[Trace {
            scenario: "",
            aspect: WORKER_LOG,
            theirs: &["20 Flow run 'RUN' submitted to infrastructure"],
            ours: &[
                "20 Flow run 'RUN' submitted to infrastructure: docker http+docker://localhost:CONTAINER, attempt 1.",
            ],
        }],
    },
    Difference {
        what: "A container has three labels more: whose it is, for which attempt, and what runs in it.",
        reason: "By them the next process of this worker finds it again, and knows how it is ended.",
        traces: &[Trace {
            scenario: "what its container is",
            aspect: "container",
            theirs: &[],
            ours: &[
                "Config.Labels.io.prefect-worker.job \"RUN-ID.1\"",
                "Config.Labels.io.prefect-worker.owner \"POOL/WORKER\"",
                "Config.Labels.io.prefect-worker.program \"runner\"",
            ],
        }],
    },
    Difference {
        what: "A flow run whose image is missing says which one and why nobody pulls it, and has no Python traceback in its log.",
        reason: "What an HTTP client says of the engine tells nobody what to mend.",
        traces: &[
            Trace {
                scenario: "image missing",
                aspect: "states",
                theirs: &[
                    "CRASHED Crashed: Failed to submit flow run to infrastructure: ImageNotFound: *",
                ],
                ours: &[
                    "CRASHED Crashed: Failed to submit flow run to infrastructure: image 'worker-test/nowhere:1' *",
                ],
            },
            Trace {
                scenario: "image missing",
                aspect: "events",
                theirs: &["prefect.flow-run.Crashed of *"],
                ours: &["prefect.flow-run.Crashed of *"],
            },
            Trace {
                scenario: "image missing",
                aspect: WORKER_LOG,
                theirs: &[
                    "40 Failed to submit flow run 'RUN' to infrastructure.*",
                    "20 Reported flow run 'RUN-ID' as crashed: *",
                ],
                ours: &["40 Failed to submit flow run to infrastructure: image *"],
            },
        ],
    },
];

// === impl Expected ===

impl Expected {
    pub(super) fn all() -> Self {
        let traces = DIFFERENCES.iter().flat_map(|difference| {
            let traces = difference.traces.iter();
            traces.map(move |trace| (difference, trace, false))
        });
        Self {
            traces: traces.collect(),
        }
    }

    /// What of a gap is not on purpose.
    pub(super) fn take(&mut self, scenario: &str, mut gap: Gap) -> Gap {
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
    pub(super) fn unseen(&self) -> Vec<String> {
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

/// The table of DIFFERENCES.md.
fn rows() -> Vec<String> {
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
    DIFFERENCES.iter().map(row).collect()
}

#[test]
fn the_document_lists_the_differences_and_no_others() {
    let path = worker_tests::files::root().join("tests/docker/DIFFERENCES.md");
    let document = std::fs::read_to_string(&path).expect("the document is there");
    let listed: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| What "))
        .collect();
    assert_eq!(listed, rows(), "the table of {}", path.display());
}
