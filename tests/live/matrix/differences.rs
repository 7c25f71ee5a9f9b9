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

/// The log that a worker writes about a flow run.
const WORKER_LOG: &str = "log of prefect.flow_runs.worker";

/// The differences that one column should show.
#[derive(Debug)]
pub(crate) struct Expected {
    traces: Vec<(&'static Difference, &'static Trace, bool)>,
}

/// All of them.
const DIFFERENCES: &[Difference] = &[
    Difference {
        whose: Whose::Worker,
        what: "The log line that a flow run was submitted names its process and its attempt.",
        reason: "Whoever looks for the process need not ask the API for it.",
        traces: &[Trace {
            scenario: "",
            aspect: WORKER_LOG,
            theirs: &["20 Flow run 'RUN' submitted to infrastructure"],
            ours: &["20 Flow run 'RUN' submitted to infrastructure: process PID, attempt 1."],
        }],
    },
    Difference {
        whose: Whose::Worker,
        what: "A Crashed state says what the process said last, and the log has the end of its output.",
        reason: "\"Process exited with a general error\" tells nobody what to mend.",
        traces: &[
            Trace {
                scenario: "crash before import",
                aspect: "states",
                theirs: &[
                    "CRASHED Crashed: Process exited with status code: 1. Process exited with a general error.",
                ],
                ours: &[
                    "CRASHED Crashed: Process exited with status code: 1. Last output: prefect.exceptions.ScriptError: *",
                ],
            },
            Trace {
                scenario: "crash before import",
                aspect: "events",
                theirs: &["prefect.flow-run.Crashed of *"],
                ours: &["prefect.flow-run.Crashed of *"],
            },
            Trace {
                scenario: "crash before import",
                aspect: WORKER_LOG,
                theirs: &[
                    "20 Check the flow run logs for an unhandled exception or assertion error.",
                ],
                ours: &["40 Process exited with status code: 1. Last output: *"],
            },
            Trace {
                scenario: "dies in the flow",
                aspect: "states",
                theirs: &[
                    "CRASHED Crashed: Process exited with status code: 7. Process exited with an unexpected status code.",
                ],
                ours: &["CRASHED Crashed: Process exited with status code: 7. Last output: *"],
            },
            Trace {
                scenario: "dies in the flow",
                aspect: "events",
                theirs: &["prefect.flow-run.Crashed of *"],
                ours: &["prefect.flow-run.Crashed of *"],
            },
            Trace {
                scenario: "dies in the flow",
                aspect: WORKER_LOG,
                theirs: &["20 Check the flow run logs and infrastructure logs for more details."],
                ours: &["40 Process exited with status code: 7. Last output: *"],
            },
        ],
    },
    Difference {
        whose: Whose::Worker,
        what: "A flow run whose flow cannot be imported has no word in its log about hooks.",
        reason: "Why it cannot be imported is in its state and its log; that hooks of it cannot be found either helps nobody.",
        traces: &[Trace {
            scenario: "crash before import",
            aspect: "log of prefect.flow_runs",
            theirs: &[
                "30 Runner failed to retrieve flow to execute on_crashed hooks for flow run *",
            ],
            ours: &[],
        }],
    },
    Difference {
        whose: Whose::Worker,
        what: "A flow run that is cancelled before its flow has begun says how its process was ended.",
        reason: "That the process is gone, and how, is what one wants to know then.",
        traces: &[
            Trace {
                scenario: "cancel while pending",
                aspect: "states",
                theirs: &["CANCELLED Cancelled: Flow run was cancelled successfully."],
                ours: &[
                    "CANCELLED Cancelled: Cancelled; the process was ended by this worker with SIGTERM.",
                ],
            },
            Trace {
                scenario: "cancel while pending",
                aspect: "events",
                theirs: &["prefect.flow-run.Cancelled of *"],
                ours: &["prefect.flow-run.Cancelled of *"],
            },
            Trace {
                scenario: "cancel while pending",
                aspect: WORKER_LOG,
                theirs: &["20 If this was caused by cancellation, no action is needed. *"],
                ours: &["20 Cancelled; the process was ended by this worker with SIGTERM."],
            },
        ],
    },
    Difference {
        whose: Whose::Worker,
        what: "A running flow that is cancelled runs its `on_cancellation` hooks and reports its end itself.",
        reason: "Prefect's engine does both when it is let, where the flow already is: no second Python is started, and the \
                 hooks have what the flow had. The engine's words for it differ, and it proposes Cancelling once more.",
        traces: &[
            Trace {
                scenario: "cancel while running",
                aspect: "states",
                theirs: &["CANCELLED Cancelled: Flow run was cancelled successfully."],
                ours: &[
                    "CANCELLING Cancelling: Flow run was cancelled.",
                    "CANCELLED Cancelled: Flow run was cancelled.",
                ],
            },
            Trace {
                scenario: "cancel while running",
                aspect: "events",
                theirs: &["prefect.flow-run.Cancelled of *"],
                ours: &[
                    "prefect.flow-run.Cancelled of *",
                    "prefect.flow-run.Cancelling of *",
                ],
            },
            Trace {
                scenario: "cancel while running",
                aspect: "log of prefect.flow_runs",
                theirs: &["20 Finished in state Running()"],
                ours: &[
                    "20 Running hook 'tidy_up' in response to entering state 'Cancelling'",
                    "20 Hook 'tidy_up' finished running successfully",
                    "20 Finished in state Cancelled('Flow run was cancelled.')",
                ],
            },
        ],
    },
    Difference {
        whose: Whose::Worker,
        what: "The log of a flow run whose deployment is gone says so.",
        reason: "The Python worker logs that it submits it, which it does not.",
        traces: &[Trace {
            scenario: "deleted deployment, retried run",
            aspect: WORKER_LOG,
            theirs: &["20 Worker 'WORKER' submitting flow run 'RUN-ID'"],
            ours: &["20 Deployment DEPLOYMENT-ID no longer exists, cancelled run."],
        }],
    },
    Difference {
        whose: Whose::Server,
        what: "Events of a flow run whose deployment is gone do not name the deployment.",
        reason: "A Prefect server names it for as long as it has its name in memory, and not after.",
        traces: &[Trace {
            scenario: "deleted deployment, retried run",
            aspect: "events",
            theirs: &[
                "prefect.flow-run.AwaitingRetry of *",
                "prefect.flow-run.Cancelled of *",
            ],
            ours: &[
                "prefect.flow-run.AwaitingRetry of *",
                "prefect.flow-run.Cancelled of *",
            ],
        }],
    },
];

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

/// The table of DIFFERENCES.md.
fn rows() -> Vec<String> {
    let row = |difference: &Difference| {
        let Difference {
            whose,
            what,
            reason,
            traces,
        } = difference;
        let whose = match whose {
            Whose::Worker => "worker",
            Whose::Server => "embedded API",
        };
        let mut scenarios: Vec<&str> = traces.iter().map(|trace| trace.scenario).collect();
        scenarios.dedup();
        let scenarios = scenarios.join("; ");
        let scenarios = if scenarios.is_empty() {
            "all"
        } else {
            &scenarios
        };
        format!("| {whose} | {what} | {reason} | {scenarios} |")
    };
    DIFFERENCES.iter().map(row).collect()
}

#[test]
fn the_document_lists_the_differences_and_no_others() {
    let path = worker_tests::files::root().join("tests/live/DIFFERENCES.md");
    let document = std::fs::read_to_string(&path).expect("the document is there");
    let listed: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| worker") || line.starts_with("| embedded"))
        .collect();
    let rows = rows();
    assert_eq!(listed, rows, "its table should be:\n{}\n", rows.join("\n"));
}
