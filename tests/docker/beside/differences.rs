//! Where our Docker worker differs from the Python one on purpose.

use crate::expected::{Difference, Trace, assert_documented};

/// The log that a worker writes about a flow run.
const WORKER_LOG: &str = "log of prefect.flow_runs.worker";

/// All of them.
pub(super) const DIFFERENCES: &[Difference] = &[
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

#[test]
fn the_document_lists_the_differences_and_no_others() {
    let rows = DIFFERENCES.iter().map(Difference::row);
    assert_documented(rows, "tests/docker/DIFFERENCES.md");
}
