//! Where our Kubernetes worker differs from the Python one on purpose.

use crate::expected::{Difference, Trace, assert_documented};

/// All of them.
pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "The log line that a flow run was submitted names its Job and its attempt, and a line says what it waits for until it begins.",
        reason: "Whoever looks for the Job need not ask the API for it, and nobody has to guess why nothing happens yet.",
        traces: &[Trace {
            scenario: "",
            aspect: "log of prefect.flow_runs.worker",
            theirs: &[
                "20 Creating Kubernetes job...",
                "20 Kubernetes job 'JOB' created in namespace 'worker-tests'",
                "20 Flow run 'RUN' submitted to infrastructure",
            ],
            ours: &[
                "20 Flow run 'RUN' submitted to infrastructure: kubernetes worker-tests:JOB, attempt 1.",
                "20 Not started yet: *",
            ],
        }],
    },
    Difference {
        what: "A Job has a name made from its attempt in the place of one that the cluster makes up (`generateName`).",
        reason: "Who asks twice to create it gets one, where a second random name would be a second run of the flow.",
        traces: &[Trace {
            scenario: "",
            aspect: "job",
            theirs: &["metadata.generateName *"],
            ours: &[],
        }],
    },
    Difference {
        what: "A Job and its pod have labels for whose they are and for which attempt, and annotations for what runs in which container and how long it may take to begin.",
        reason: "By them the next process of this worker finds them again, and knows how they are ended.",
        traces: &[Trace {
            scenario: "",
            aspect: "job",
            theirs: &[],
            ours: &[
                "metadata.annotations.prefect-worker.io/container \"prefect-job\"",
                "metadata.annotations.prefect-worker.io/pod-watch-timeout-seconds \"60\"",
                "metadata.annotations.prefect-worker.io/program \"runner\"",
                "metadata.labels.prefect-worker.io/job \"RUN-ID.1\"",
                "metadata.labels.prefect-worker.io/owner \"POOL-WORKER-LABEL\"",
                "spec.template.metadata.annotations.prefect-worker.io/container \"prefect-job\"",
                "spec.template.metadata.labels.prefect-worker.io/job \"RUN-ID.1\"",
                "spec.template.metadata.labels.prefect-worker.io/owner \"POOL-WORKER-LABEL\"",
            ],
        }],
    },
];

#[test]
fn the_document_lists_the_differences_and_no_others() {
    let rows = DIFFERENCES.iter().map(Difference::row);
    assert_documented(rows, "tests/kubernetes/DIFFERENCES.md");
}
