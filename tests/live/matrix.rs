//! Two kinds of worker beside two kinds of server: what people see of their flow runs is the same.
//!
//! The Python worker beside a Prefect server is the truth; the other three columns are held against it. Where ours does
//! better on purpose, the difference is in a table, and with its reason in DIFFERENCES.md.

mod differences;
mod scenarios;

use worker_tests::{
    prefect::{PrefectServer, Python},
    program::Program,
};

use self::{
    differences::expected,
    scenarios::{Stories, play},
};
use crate::{
    PROGRAM,
    column::{Column, ServerKind, WorkerKind},
    compare::gaps,
    expected::Expected,
    servers::start_embedded,
};

#[test]
fn four_pairs_of_worker_and_server_tell_the_same_stories() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let program = Program::new(PROGRAM);
    let (_embedded, embedded) = start_embedded(&program);

    let truth = play(&Column::new(server.api(), WorkerKind::Python, &python));
    let mut findings = Vec::new();
    for (worker, kind, api) in [
        (WorkerKind::Ours, ServerKind::Prefect, server.api()),
        (WorkerKind::Ours, ServerKind::Embedded, embedded),
        (WorkerKind::Python, ServerKind::Embedded, embedded),
    ] {
        let stories = play(&Column::new(api, worker, &python));
        let found = compare(&truth, &stories, expected(worker, kind));
        findings.extend(
            found
                .into_iter()
                .map(|line| format!("{worker:?} worker, {kind:?} server, {line}")),
        );
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// What differs and should not, and what should and does not.
fn compare(truth: &Stories, stories: &Stories, mut expected: Expected) -> Vec<String> {
    let mut findings = Vec::new();
    for (scenario, theirs) in truth {
        for gap in gaps(theirs, &stories[scenario]) {
            let gap = expected.take(scenario, gap);
            let lines = gap.theirs.iter().map(|line| format!("\n  - {line}"));
            let lines = lines.chain(gap.ours.iter().map(|line| format!("\n  + {line}")));
            let lines: String = lines.collect();
            if !lines.is_empty() {
                findings.push(format!("{scenario}, {}:{lines}", gap.aspect));
            }
        }
    }
    findings.extend(expected.unseen());
    findings
}
