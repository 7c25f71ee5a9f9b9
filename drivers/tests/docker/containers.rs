//! What only containers have: files put in before the start, environments nobody sees, names that are taken, memory.

use std::{collections::BTreeMap, fs, time::Duration};

use futures::StreamExt as _;
use serde_json::{Value, json};
use worker_config::policy::Policy;
use worker_drivers::{
    Driver, DriverError, JobEvent, LogCursor, Outcome, Owner, Phase, Program, Recovered, RunKey,
    conformance::{Behaviour, Subject as _, fresh_key},
    docker::EnvironmentMode,
};

use crate::subject::DockerSubject;

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn owner() -> Owner {
    Owner(format!("owner-{}", fresh_key().flow_run))
}

/// The output of a job that runs this, and its end.
async fn run(
    subject: &DockerSubject,
    line: &str,
    change: impl FnOnce(&mut worker_drivers::Job),
) -> Result<(Vec<String>, Outcome), DriverError> {
    let driver = subject.driver().await;
    let mut job = subject.job(fresh_key(), owner(), &Behaviour::Exit(0));
    job.program = Program::Command {
        line: line.to_owned(),
        engine: false,
    };
    change(&mut job);
    let plan = driver.plan(&job, &Policy::default())?;
    let handle = driver.submit(&plan).await?.into_handle();
    let lines = driver.logs(&handle, LogCursor::default());
    let lines = tokio::time::timeout(LIMIT, lines.collect::<Vec<_>>())
        .await
        .expect("it ends");
    let Recovered::Exited(outcome) = driver.recover(&handle).await? else {
        panic!("its output ended before it did");
    };
    driver.destroy(handle.key).await?;
    let text = |line: Result<worker_drivers::LogLine, _>| line.expect("it can be read").text;
    Ok((lines.into_iter().map(text).collect(), outcome))
}

fn set(job: &mut worker_drivers::Job, field: &str, value: Value) {
    job.configuration.insert(field.to_owned(), value);
}

const FINE: Outcome = Outcome::Exited {
    code: 0,
    reported: false,
};

#[tokio::test]
async fn a_workspace_is_where_the_job_starts_and_it_may_write_there() {
    let subject = DockerSubject::new();
    let workspace = tempfile::tempdir().expect("there is room");
    fs::create_dir(workspace.path().join("flows")).expect("there is room");
    fs::write(workspace.path().join("flows/a.py"), "code").expect("there is room");
    let line = "sh -c 'pwd; cat flows/a.py; echo; echo x > flows/new && cat flows/new; id -u'";
    let (lines, outcome) = run(&subject, line, |job| {
        job.workspace = Some(workspace.path().to_owned());
        set(job, "container_create_kwargs", json!({"user": "1000"}));
    })
    .await
    .expect("it runs");
    assert_eq!(lines, ["/opt/prefect/workspace", "code", "x", "1000"]);
    assert_eq!(outcome, FINE);
}

#[tokio::test]
async fn a_workspace_may_be_mounted_and_what_the_job_writes_there_is_here() {
    let mut subject = DockerSubject::new();
    subject.bind_workspace = true;
    let workspace = tempfile::tempdir().expect("there is room");
    fs::write(workspace.path().join("a.py"), "code").expect("there is room");
    let other = tempfile::tempdir().expect("there is room");
    let line = "sh -c 'pwd; cat a.py; echo; ls -d /other; echo x > new'";
    let mounts = json!([{"Type": "bind", "Source": other.path(), "Target": "/other"}]);
    let (lines, outcome) = run(&subject, line, |job| {
        job.workspace = Some(workspace.path().to_owned());
        set(job, "container_create_kwargs", json!({ "mounts": mounts }));
    })
    .await
    .expect("it runs");
    assert_eq!(lines, ["/opt/prefect/workspace", "code", "/other"]);
    assert_eq!(outcome, FINE);
    let written = fs::read_to_string(workspace.path().join("new"));
    assert_eq!(written.expect("the job wrote it"), "x\n");
}

#[tokio::test]
async fn a_hidden_environment_reaches_the_job_and_no_inspection_shows_it() {
    let mut subject = DockerSubject::new();
    subject.environment = EnvironmentMode::File;
    let value = "canary it's $HOME\n`two`";
    let driver = subject.driver().await;
    let mut job = subject.job(fresh_key(), owner(), &Behaviour::Exit(0));
    job.program = Program::Command {
        line: "sh -c 'echo \"$SECRET\"; exec sleep 60'".to_owned(),
        engine: false,
    };
    job.environment.0 = BTreeMap::from([("SECRET".to_owned(), value.to_owned())]);
    let plan = driver
        .plan(&job, &Policy::default())
        .expect("it can be planned");
    let handle = driver.submit(&plan).await.expect("it starts").into_handle();
    let lines = driver.logs(&handle, LogCursor::default()).take(2);
    let lines: Vec<_> = lines
        .map(|line| line.expect("it can be read").text)
        .collect()
        .await;
    assert_eq!(lines.join("\n"), value);
    let shown = subject.traces(handle.key).await;
    assert!(!shown.contains("canary"), "{shown}");
    driver.destroy(handle.key).await.expect("it can be removed");
}

#[tokio::test]
async fn a_name_that_is_taken_gets_a_number() {
    let subject = DockerSubject::new();
    let driver = subject.driver().await;
    let name = format!("taken-{}", fresh_key().flow_run);
    let mut handles = Vec::new();
    for _ in 0..2 {
        let mut job = subject.job(fresh_key(), owner(), &Behaviour::Wait);
        job.name.clone_from(&name);
        let plan = driver
            .plan(&job, &Policy::default())
            .expect("it can be planned");
        handles.push(driver.submit(&plan).await.expect("it starts").into_handle());
    }
    let mut names = Vec::new();
    for handle in &handles {
        names.push(subject.name_of(handle.key).await);
        driver.destroy(handle.key).await.expect("it can be removed");
    }
    assert_eq!(names, [format!("/{name}"), format!("/{name}-1")]);
}

#[tokio::test]
async fn too_much_memory_is_told_with_the_limit() {
    let subject = DockerSubject::new();
    let line = "sh -c 'x=a; while :; do x=$x$x; done'";
    let (_, outcome) = run(&subject, line, |job| {
        set(job, "mem_limit", json!("32m"));
        set(job, "memswap_limit", json!("32m"));
        set(job, "container_create_kwargs", json!({}));
    })
    .await
    .expect("it runs");
    let limit = Some(32 << 20);
    assert_eq!(outcome, Outcome::OutOfMemory { limit });
}

#[tokio::test]
async fn what_its_host_does_not_have_is_named_and_nothing_is_left() {
    let subject = DockerSubject::new();
    for (field, value, named) in [
        (
            "image",
            json!("worker-test/nowhere:1"),
            "worker-test/nowhere:1",
        ),
        ("networks", json!(["no-such-network"]), "no-such-network"),
    ] {
        let error = run(&subject, "true", |job| set(job, field, value)).await;
        let error = error.expect_err("it is not there");
        assert!(matches!(error, DriverError::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_container_that_somebody_removes_ends_its_job_once() {
    let subject = DockerSubject::new();
    let driver = subject.driver().await;
    let owner = owner();
    let mut events = driver.events(&owner);
    let first = events.next().await;
    assert_eq!(first, Some(JobEvent::Snapshot(Vec::new())));
    let job = subject.job(fresh_key(), owner, &Behaviour::Wait);
    let plan = driver
        .plan(&job, &Policy::default())
        .expect("it can be planned");
    let handle = driver.submit(&plan).await.expect("it starts").into_handle();
    subject.remove_from_outside(handle.key).await;
    let mut ends = 0;
    let counting = async {
        while let Some(event) = events.next().await {
            match event {
                JobEvent::Changed {
                    key,
                    phase: Phase::Exited(_),
                } if key == handle.key => ends += 1,
                JobEvent::WatchLost { reason } => panic!("the watch was lost: {reason}"),
                // The list that follows no longer has it.
                JobEvent::Snapshot(listed) if listed.is_empty() => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, counting)
        .await
        .expect("the list comes");
    assert_eq!(ends, 1);
    assert_eq!(
        driver.recover(&handle).await.expect("it is known"),
        Recovered::Missing
    );
}

#[tokio::test]
async fn what_was_made_and_never_started_is_started_by_the_next_submit() {
    let subject = DockerSubject::new();
    let key: RunKey = fresh_key();
    let owner = owner();
    subject.create_only(key, &owner).await;
    let driver = subject.driver().await;
    let listed = driver.list_owned(&owner).await.expect("it can be listed");
    assert!(matches!(listed[0].phase, Phase::Pending(_)), "{listed:?}");
    let recovered = driver
        .recover(&listed[0].handle)
        .await
        .expect("it is known");
    let Recovered::Exited(Outcome::NeverStarted { reason }) = recovered else {
        panic!("nobody starts it: {recovered:?}");
    };
    assert!(reason.contains("before it could start it"), "{reason}");
    let job = subject.job(key, owner, &Behaviour::Wait);
    let plan = driver
        .plan(&job, &Policy::default())
        .expect("it can be planned");
    let handle = driver.submit(&plan).await.expect("it starts").into_handle();
    assert_eq!(handle, listed[0].handle);
    assert_eq!(
        driver.recover(&handle).await.expect("it is known"),
        Recovered::Running
    );
    driver.destroy(key).await.expect("it can be removed");
}

#[tokio::test]
async fn a_container_made_in_vain_ends_no_job_when_it_is_removed() {
    let subject = DockerSubject::new();
    let driver = subject.driver().await;
    let owner = owner();
    let submit = async |behaviour| {
        let job = subject.job(fresh_key(), owner.clone(), &behaviour);
        let plan = driver
            .plan(&job, &Policy::default())
            .expect("it can be planned");
        driver.submit(&plan).await.expect("it starts").into_handle()
    };
    let lives = submit(Behaviour::Wait).await;
    let in_vain = subject.create_only(lives.key, &owner).await;
    let mut events = driver.events(&owner);
    let first = events.next().await;
    assert!(matches!(first, Some(JobEvent::Snapshot(_))), "{first:?}");
    subject.remove(&in_vain).await;
    // What the engine says of this one it says later.
    let ends = submit(Behaviour::Exit(0)).await;
    let listening = async {
        while let Some(event) = events.next().await {
            if let JobEvent::Changed {
                key,
                phase: Phase::Exited(outcome),
            } = event
            {
                assert_ne!(key, lives.key, "{outcome:?}");
                if key == ends.key {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, listening)
        .await
        .expect("the end comes");
    for handle in [lives, ends] {
        driver.destroy(handle.key).await.expect("it can be removed");
    }
}

#[tokio::test]
async fn another_workers_attempt_of_the_same_number_is_left_alone() {
    let subject = DockerSubject::new();
    let key = fresh_key();
    let (ours, theirs) = (subject.driver().await, subject.driver().await);
    let submit = async |driver: &dyn Driver| {
        let job = subject.job(key, owner(), &Behaviour::Wait);
        let plan = driver
            .plan(&job, &Policy::default())
            .expect("it can be planned");
        driver.submit(&plan).await.expect("it starts").into_handle()
    };
    let (own, foreign) = (submit(ours.as_ref()).await, submit(theirs.as_ref()).await);
    assert_ne!(own, foreign);
    ours.destroy(key).await.expect("it can be removed");
    assert_eq!(
        theirs.recover(&foreign).await.expect("it is known"),
        Recovered::Running
    );
    theirs.destroy(key).await.expect("it can be removed");
}

#[tokio::test]
async fn a_container_that_ended_badly_stays_for_its_time_and_is_nobodys_job() {
    let mut subject = DockerSubject::new();
    subject.keep_failed = Duration::from_secs(4);
    let driver = subject.driver().await;
    let owner = owner();
    let mut keys = Vec::new();
    for code in [0, 3] {
        let job = subject.job(fresh_key(), owner.clone(), &Behaviour::Exit(code));
        let plan = driver
            .plan(&job, &Policy::default())
            .expect("it can be planned");
        let handle = driver.submit(&plan).await.expect("it starts").into_handle();
        let lines = driver.logs(&handle, LogCursor::default());
        lines.collect::<Vec<_>>().await;
        driver.destroy(handle.key).await.expect("it can be removed");
        driver.destroy(handle.key).await.expect("it is done");
        keys.push(handle.key);
    }
    assert_eq!(subject.containers(keys[0]).await, Vec::<String>::new());
    let name = subject.name_of(keys[1]).await;
    assert!(name.contains(".kept"), "{name}");
    let gone = async {
        loop {
            let listed = driver.list_owned(&owner).await.expect("it can be listed");
            assert_eq!(listed, []);
            if subject.containers(keys[1]).await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone)
        .await
        .expect("its time is over");
}
