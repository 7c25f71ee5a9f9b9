//! Where our worker or our server differs on purpose.
//!
//! Each entry is a sentence for people, which stands in DIFFERENCES.md with its reason, and the lines by which the
//! matrix knows it. An entry that no longer shows is as wrong as a difference without an entry.

use crate::{
    column::{ServerKind, WorkerKind},
    expected::{Difference, Expected, Trace, assert_documented},
};

/// Whose difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Worker,
    Server,
}

/// The log that a worker writes about a flow run.
const WORKER_LOG: &str = "log of prefect.flow_runs.worker";

/// All of them.
const DIFFERENCES: &[(Whose, Difference)] = &[
    (
        Whose::Worker,
        Difference {
            what: "The log line that a flow run was submitted names its process and its attempt.",
            reason: "Whoever looks for the process need not ask the API for it.",
            traces: &[Trace {
                scenario: "",
                aspect: WORKER_LOG,
                theirs: &["20 Flow run 'RUN' submitted to infrastructure"],
                ours: &["20 Flow run 'RUN' submitted to infrastructure: process PID, attempt 1."],
            }],
        },
    ),
    (
        Whose::Worker,
        Difference {
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
                    theirs: &[
                        "20 Check the flow run logs and infrastructure logs for more details.",
                    ],
                    ours: &["40 Process exited with status code: 7. Last output: *"],
                },
            ],
        },
    ),
    (
        Whose::Worker,
        Difference {
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
    ),
    (
        Whose::Worker,
        Difference {
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
    ),
    (
        Whose::Worker,
        Difference {
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
    ),
    (
        Whose::Worker,
        Difference {
            what: "The log of a flow run whose deployment is gone says so.",
            reason: "The Python worker logs that it submits it, which it does not.",
            traces: &[Trace {
                scenario: "deleted deployment, retried run",
                aspect: WORKER_LOG,
                theirs: &["20 Worker 'WORKER' submitting flow run 'RUN-ID'"],
                ours: &["20 Deployment DEPLOYMENT-ID no longer exists, cancelled run."],
            }],
        },
    ),
    (
        Whose::Server,
        Difference {
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
    ),
];

/// What a column should show that is not the truth.
pub(crate) fn expected(worker: WorkerKind, server: ServerKind) -> Expected {
    let applies = |(whose, _): &&(Whose, Difference)| match whose {
        Whose::Worker => worker == WorkerKind::Ours,
        Whose::Server => server == ServerKind::Embedded,
    };
    let own = DIFFERENCES.iter().filter(applies);
    Expected::of(own.map(|(_, difference)| difference))
}

#[test]
fn the_document_lists_the_differences_and_no_others() {
    let row = |(whose, difference): &(Whose, Difference)| {
        let whose = match whose {
            Whose::Worker => "worker",
            Whose::Server => "embedded API",
        };
        format!("| {whose} {}", difference.row())
    };
    assert_documented(DIFFERENCES.iter().map(row), "tests/live/DIFFERENCES.md");
}
