//! The subprocess driver with real processes.

use std::{collections::BTreeMap, path::Path, time::Duration};

use futures::StreamExt as _;
use uuid::Uuid;
use worker_config::policy::Policy;
use worker_drivers::{
    Driver, Environment, Intent, Job, JobEvent, LogCursor, Outcome, Owner, Phase, Program, RunKey,
    StopRequest,
    subprocess::{SubprocessDriver, SubprocessOptions},
};

fn driver(dir: &Path) -> SubprocessDriver {
    let env = Environment(std::env::vars().collect());
    let mut o = SubprocessOptions::new(dir, env);
    o.shim = env!("CARGO_BIN_EXE_job-shim").into();
    SubprocessDriver::new(o).unwrap()
}

fn job(line: &str) -> Job {
    Job {
        key: RunKey {
            flow_run: Uuid::new_v4(),
            attempt: 1,
        },
        owner: Owner("me".into()),
        name: "n".into(),
        program: Program::Command {
            line: line.into(),
            engine: false,
        },
        environment: Environment(BTreeMap::new()),
        labels: BTreeMap::new(),
        configuration: serde_json::Map::new(),
        workspace: None,
    }
}

async fn run(line: &str, stop: bool) -> (Outcome, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let d = driver(dir.path());
    let mut events = d.events(&Owner("me".into()));
    let job = job(line);
    let plan = d.plan(&job, &Policy::default()).unwrap();
    let handle = d.submit(&plan).await.unwrap().into_handle();
    if stop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        d.stop(
            &handle,
            StopRequest {
                intent: Intent::Plain,
                grace: Duration::from_secs(5),
            },
        )
        .await
        .unwrap();
    }
    let outcome = loop {
        if let JobEvent::Changed {
            phase: Phase::Exited(o),
            ..
        } = events.next().await.unwrap()
        {
            break o;
        }
    };
    let lines = d
        .logs(&handle, LogCursor::default())
        .map(|l| l.unwrap().text)
        .collect()
        .await;
    d.destroy(job.key).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    (outcome, lines)
}

#[tokio::test]
async fn smoke() {
    assert_eq!(
        run("sh -c 'echo hi; exit 3'", false).await,
        (
            Outcome::Exited {
                code: 3,
                reported: false
            },
            vec!["hi".to_string()]
        )
    );
    assert_eq!(
        run("sleep 100", true).await.0,
        Outcome::Signalled {
            signal: 15,
            by_us: true
        }
    );
    assert_eq!(
        run(
            "sh -c 'setsid sleep 77 & (setsid setsid sleep 78 &) ; kill -9 $$'",
            false
        )
        .await
        .0,
        Outcome::Signalled {
            signal: 9,
            by_us: false
        }
    );
}
