//! With the chart's Role and nothing else everything works; without one of its rights everything else does, and a person learns which is missing.

use std::time::Duration;

use serde_json::json;
use worker_tests::{
    program::{Program, Running},
    wait,
};

use crate::stage::{BOUND, POOL, Stage};

/// A right, and what its lack is called in the one warning about it.
type Right = (&'static str, &'static str);

/// The rights without which a worker gets by.
const OPTIONAL: [Right; 6] = [
    ("delete", "pods"),
    ("get", "pods/log"),
    ("list", "events"),
    ("patch", "jobs"),
    ("patch", "secrets"),
    ("delete", "secrets"),
];

/// How long a right that was given takes to be known to all of the cluster's API, on a loaded machine.
const SETTLED: Duration = Duration::from_secs(20);

/// Everything that a worker may want of its cluster.
fn live(stage: &Stage, worker: &Running) {
    let ends = stage.run("start exit:0", &json!({"finished_job_ttl": 600}));
    let fails = stage.run("start exit:3", &json!({}));
    let never = stage.run("wait:ErrImageNeverPull", &json!({}));
    let cancelled = stage.run("start", &json!({}));
    let refused = stage.run("start", &json!({"memory_limit": "lots"}));
    stage.wait_until_runs(&cancelled, worker);
    stage.cancel(&cancelled);
    let cases = [
        (ends, "Completed"),
        (fails, "Crashed"),
        (never, "Crashed"),
        (cancelled, "Cancelled"),
        (refused, "Crashed"),
    ];
    for (run, expected) in &cases {
        let (ended, message) = stage.wait_for_end_within(BOUND, run, worker);
        assert_eq!(&ended, expected, "{message}; {}", worker.stderr());
    }
    // What a failed job has left is removed.
    for (run, _) in &cases[1..] {
        let is_gone = || stage.jobs(run).is_empty();
        assert!(wait::holds(BOUND, is_gone), "{}", worker.stderr());
    }
}

/// What a job may not show is in a Secret.
fn with_key(stage: &Stage) -> Program {
    stage.worker().with("PREFECT_API_KEY", "canary-key")
}

const ARGUMENTS: [&str; 4] = ["--pool", POOL, "--name", "ada"];

/// Waits until the cluster says that the worker may do this, or may not.
#[track_caller]
fn wait_for_right(stage: &Stage, (verb, resource): Right, is_given: bool) {
    let (resource, below) = resource.split_once('/').unwrap_or((resource, ""));
    let group = if resource == "jobs" { "batch" } else { "" };
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{}:prefect-worker", stage.namespace),
            "resourceAttributes": {
                "verb": verb, "resource": resource, "subresource": below, "group": group, "namespace": stage.namespace,
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let is_so = || stage.cluster().post(path, &review)["status"]["allowed"] == is_given;
    assert!(wait::holds(SETTLED, is_so), "{verb} {resource}");
}

fn warnings(worker: &Running) -> Vec<String> {
    let said = worker.stderr();
    let warnings = said
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    warnings.map(str::to_owned).collect()
}

#[test]
fn the_charts_role_is_enough() {
    let stage = Stage::set();
    let program = with_key(&stage);
    let worker = program.start(&ARGUMENTS);
    live(&stage, &worker);
    let about_rights = warnings(&worker)
        .into_iter()
        .filter(|line| line.contains("permission") || line.contains("may not"));
    assert_eq!(about_rights.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_right_that_it_can_do_without_is_missed_once() {
    let stage = Stage::set();
    for right in OPTIONAL {
        stage.allow_all_but(right.0, right.1);
        wait_for_right(&stage, right, false);
        let program = with_key(&stage);
        let worker = program.start(&ARGUMENTS);
        live(&stage, &worker);
        live(&stage, &worker);
        let about: Vec<String> = warnings(&worker);
        let about: Vec<&String> = about
            .iter()
            .filter(|line| line.contains("permission="))
            .collect();
        assert_eq!(about.len(), 1, "{right:?}: {}", worker.stderr());
        // What is below a resource has one verb.
        let named = match right {
            (_, below) if below.contains('/') => below.to_owned(),
            (verb, resource) => format!("{resource}/{verb}"),
        };
        assert!(about[0].contains(&named), "{right:?}: {about:?}");
    }
}

#[test]
fn a_right_that_it_needs_is_named_with_what_to_do() {
    let stage = Stage::set();
    stage.allow_all_but("create", "jobs");
    wait_for_right(&stage, ("create", "jobs"), false);
    let program = with_key(&stage);
    let worker = program.start(&ARGUMENTS);
    let run = stage.run("start exit:0", &json!({}));
    let (ended, message) = stage.wait_for_end_within(BOUND, &run, &worker);
    assert_eq!(ended, "Crashed", "{message}");
    for said in ["create", "\"jobs\"", &stage.namespace, "service account"] {
        assert!(message.contains(said), "no {said:?} in {message:?}");
    }
    drop(worker);
    // Without one of these a job may run that nobody sees: it is neither ended nor given up, and nothing more is begun.
    for right in [
        ("list", "pods"),
        ("watch", "jobs"),
        ("watch", "pods"),
        ("list", "jobs"),
    ] {
        stage.allow_all_but(right.0, right.1);
        wait_for_right(&stage, right, false);
        let program = with_key(&stage);
        let worker = program.start(&ARGUMENTS);
        let run = stage.run("start exit:0", &json!({}));
        let says = || {
            let said = format!("{}\n{}", worker.stderr(), stage.log(&run));
            let named = said.lines().any(|line| {
                let verb = format!("cannot {} resource", right.0);
                let resource = format!("\"{}\"", right.1);
                let parts = [
                    verb.as_str(),
                    &resource,
                    &stage.namespace,
                    "service account the permission",
                ];
                parts
                    .iter()
                    .all(|part| line.contains(part) || line.replace('\\', "").contains(part))
            });
            if named { Ok(()) } else { Err(said) }
        };
        wait::until("it is named", BOUND, says);
        stage.allow_all_but("", "");
        wait_for_right(&stage, right, true);
        let (ended, message) = stage.wait_for_end_within(BOUND, &run, &worker);
        assert_eq!(
            ended,
            "Completed",
            "{right:?}: {message}; {}",
            worker.stderr()
        );
        assert_eq!(stage.kubelet.pods_of(&run), 1);
    }
}
