//! The fake passes the suite, on paused time, and refuses what no real driver should be asked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;

use worker_config::policy::Policy;

use super::{FakeCall, FakeEngine};
use crate::{
    conformance::{Behaviour, MISSING_PROGRAM, Subject, fresh_key},
    driver::{Driver, DriverError, JobEvent},
    job::{
        Environment, Intent, Job, LogCursor, Outcome, OutputStream, Owner, Phase, Program, RunKey,
        StopRequest,
    },
};

struct FakeSubject {
    engine: FakeEngine,
}

#[async_trait]
impl Subject for FakeSubject {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.engine.driver())
    }

    fn job(&self, key: RunKey, owner: Owner, behaviour: &Behaviour) -> Job {
        job(key, owner, &variables(behaviour))
    }

    async fn processes(&self, key: RunKey) -> usize {
        self.engine.processes(key)
    }

    async fn set_reachable(&self, reachable: bool) {
        if reachable {
            self.engine.make_reachable();
        } else {
            self.engine.make_unreachable("the test says so");
        }
    }

    async fn traces(&self, key: RunKey) -> String {
        let phase = self.engine.jobs().get(&key).cloned();
        phase.map(|phase| format!("{phase:?}")).unwrap_or_default()
    }
}

fn job(key: RunKey, owner: Owner, variables: &[(&str, String)]) -> Job {
    Job {
        key,
        owner,
        name: "fake".to_owned(),
        program: Program::Execute,
        environment: Environment(
            variables
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
        ),
        labels: std::collections::BTreeMap::new(),
        configuration: serde_json::Map::new(),
        workspace: None,
    }
}

fn variables(behaviour: &Behaviour) -> Vec<(&'static str, String)> {
    let forever = ("FAKE_RUN", "forever".to_owned());
    let ready = ("FAKE_STDOUT", "ready\n".to_owned());
    match behaviour {
        Behaviour::Exit(code) => vec![("FAKE_EXIT", code.to_string())],
        Behaviour::Signal(signal) => vec![("FAKE_SIGNAL", signal.to_string())],
        Behaviour::Wait => vec![forever],
        Behaviour::WaitThenExit(code) => vec![forever, ready, ("FAKE_STOP_EXIT", code.to_string())],
        Behaviour::IgnoreStop => vec![forever, ready, ("FAKE_IGNORE_STOP", "1".to_owned())],
        Behaviour::WaitWithChild => vec![forever, ("FAKE_CHILDREN", "1".to_owned())],
        Behaviour::LeaveChild => vec![("FAKE_CHILDREN", "1".to_owned())],
        Behaviour::Write(written) => {
            let of = |which| {
                let bytes = written
                    .iter()
                    .filter(|(stream, _)| *stream == which)
                    .flat_map(|(_, bytes)| *bytes);
                bytes
                    .map(|byte| format!("\\x{byte:02x}"))
                    .collect::<Vec<_>>()
                    .concat()
            };
            vec![
                ("FAKE_STDOUT", of(OutputStream::Stdout)),
                ("FAKE_STDERR", of(OutputStream::Stderr)),
            ]
        }
        Behaviour::Lines(count) => vec![("FAKE_LINES", count.to_string())],
        Behaviour::LinesThenWait(count) => vec![("FAKE_LINES", count.to_string()), forever],
        Behaviour::LongLine(length) => vec![("FAKE_LONG_LINE", length.to_string())],
        Behaviour::LastWords => vec![
            forever,
            ready,
            ("FAKE_LAST_STDOUT", "last words\n".to_owned()),
            ("FAKE_STOP_EXIT", "0".to_owned()),
        ],
        Behaviour::MissingProgram => vec![("FAKE_MISSING_PROGRAM", MISSING_PROGRAM.to_owned())],
    }
}

async fn subject() -> FakeSubject {
    FakeSubject {
        engine: FakeEngine::new(),
    }
}

mod conformance {
    use super::subject;

    crate::driver_conformance!(subject, start_paused = true);
}

const PATIENT: StopRequest = StopRequest {
    intent: Intent::Cancel,
    grace: Duration::from_secs(30),
};

fn plan(driver: &dyn Driver, key: RunKey, variables: &[(&str, &str)]) -> crate::Plan {
    let variables: Vec<_> = variables
        .iter()
        .map(|&(name, value)| (name, value.to_owned()))
        .collect();
    let job = job(key, Owner("me".to_owned()), &variables);
    driver
        .plan(&job, &Policy::default())
        .expect("the script can be read")
}

#[tokio::test(start_paused = true)]
async fn a_script_is_played_in_its_time() {
    let engine = FakeEngine::new();
    let driver = engine.driver();
    let key = fresh_key();
    let script = [
        ("FAKE_PENDING", "5"),
        ("FAKE_RUN", "60"),
        ("FAKE_OOM", "1024"),
    ];
    let mut events = driver.events(&Owner("me".to_owned()));
    assert_eq!(events.next().await, Some(JobEvent::Snapshot(Vec::new())));
    let start = tokio::time::Instant::now();
    driver
        .submit(&plan(&driver, key, &script))
        .await
        .expect("it starts");
    let told: Vec<_> = events
        .by_ref()
        .take(3)
        .map(|event| match event {
            JobEvent::Changed { phase, .. } => (start.elapsed().as_secs(), phase),
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    let ended = Phase::Exited(Outcome::OutOfMemory { limit: Some(1024) });
    assert_eq!(
        told,
        [(0, Phase::Pending(None)), (5, Phase::Running), (65, ended)]
    );
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_the_error_of_its_name() {
    let engine = FakeEngine::new();
    let driver = engine.driver();
    for (fault, transient) in [
        ("invalid", false),
        ("denied", false),
        ("not_found", false),
        ("conflict", false),
        ("quota", true),
        ("unavailable", true),
        ("lost", true),
    ] {
        let key = fresh_key();
        let plan = plan(
            &driver,
            key,
            &[
                ("FAKE_SUBMIT_ERROR", fault),
                ("FAKE_SUBMIT_ERRORS", "1"),
                ("FAKE_RUN", "forever"),
            ],
        );
        let error = driver.submit(&plan).await.expect_err("the script says so");
        assert_eq!(error.is_transient(), transient, "{fault}");
        assert_eq!(engine.created(key), usize::from(fault == "lost"), "{fault}");
        driver.submit(&plan).await.expect("it fails once");
        assert_eq!(engine.created(key), 1, "{fault}");
    }
    assert_eq!(engine.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn calls_out_of_order_are_refused_and_remembered() {
    let engine = FakeEngine::new();
    let driver = engine.driver();
    let key = fresh_key();
    let plan = plan(&driver, key, &[("FAKE_RUN", "forever")]);
    let handle = driver.submit(&plan).await.expect("it starts").into_handle();
    let next = engine.driver();
    let early = next.stop(&handle, PATIENT).await;
    assert!(
        matches!(early, Err(DriverError::Unsupported { .. })),
        "{early:?}"
    );
    driver.destroy(key).await.expect("it is removed");
    let late = driver.submit(&plan).await;
    assert!(
        matches!(late, Err(DriverError::Unsupported { .. })),
        "{late:?}"
    );
    let line = driver
        .logs(&handle, LogCursor::default())
        .next()
        .await
        .expect("an error");
    assert!(
        matches!(line, Err(DriverError::Unsupported { .. })),
        "{line:?}"
    );
    drop(driver.events(&plan_owner(&plan)));
    drop(driver.events(&plan_owner(&plan)));
    assert_eq!(engine.violations().len(), 4);
    assert_eq!(
        engine.calls(),
        [FakeCall::Submit(key), FakeCall::Destroy(key)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_submission_beside_another_of_the_same_attempt_is_out_of_order() {
    let engine = FakeEngine::new();
    let driver = engine.driver();
    let plan = plan(&driver, fresh_key(), &[("FAKE_SUBMIT_TAKES", "3")]);
    let (one, two) = futures::join!(driver.submit(&plan), driver.submit(&plan));
    assert!(one.is_ok() && two.is_err());
    assert_eq!(engine.violations().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_watch_is_lost_is_in_the_next_snapshot() {
    let engine = FakeEngine::new();
    let driver = engine.driver();
    let key = fresh_key();
    let mut events = driver.events(&Owner("me".to_owned()));
    driver
        .submit(&plan(&driver, key, &[("FAKE_RUN", "forever")]))
        .await
        .expect("it starts");
    assert!(matches!(events.next().await, Some(JobEvent::Snapshot(owned)) if owned.len() == 1));
    engine.lose_watch("the connection was reset");
    assert!(engine.end(
        key,
        Outcome::Exited {
            code: 1,
            reported: true
        }
    ));
    assert!(
        matches!(events.next().await, Some(JobEvent::WatchLost { reason }) if reason.contains("reset"))
    );
    engine.make_reachable();
    let Some(JobEvent::Snapshot(owned)) = events.next().await else {
        panic!("no snapshot followed");
    };
    assert_eq!(
        owned[0].phase,
        Phase::Exited(Outcome::Exited {
            code: 1,
            reported: true
        })
    );
}

#[tokio::test]
async fn a_script_that_cannot_be_read_names_the_variable() {
    let driver = FakeEngine::new().driver();
    for (name, value) in [
        ("FAKE_EXIT", "x"),
        ("FAKE_RUN", "-1"),
        ("FAKE_STDOUT", "\\q"),
        ("FAKE_SUBMIT_ERROR", "x"),
    ] {
        let job = job(
            fresh_key(),
            Owner("me".to_owned()),
            &[(name, value.to_owned())],
        );
        let error = driver
            .plan(&job, &Policy::default())
            .expect_err("it cannot be read");
        assert!(
            matches!(&error, DriverError::Invalid { field, .. } if field == name),
            "{error:?}"
        );
    }
}

fn plan_owner(plan: &crate::Plan) -> Owner {
    match plan {
        crate::Plan::Fake(plan) => plan.owner.clone(),
        crate::Plan::Subprocess(plan) => plan.owner.clone(),
        crate::Plan::Docker(plan) => plan.owner.clone(),
        crate::Plan::Kubernetes(plan) => plan.owner.clone(),
    }
}
