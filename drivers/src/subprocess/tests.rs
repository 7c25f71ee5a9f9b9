//! What can be shown without a shim: the test writes the files that a shim would.

use std::{io::Write as _, sync::Arc, time::Duration};

use futures::StreamExt as _;
use serde_json::json;

use super::{
    Shared, SubprocessDriver, SubprocessOptions, act, default_template,
    jobs_dir::{End, ExitRecord, Intended, Part, Started, try_lock},
    watch::{self, Watcher},
};
use crate::{
    conformance::fresh_key,
    driver::{Driver as _, DriverError, JobEvent},
    job::{Environment, LogCursor, Outcome, Owner, Phase, RunKey},
};

fn owner() -> Owner {
    Owner("me".to_owned())
}

fn settings(root: &tempfile::TempDir) -> SubprocessOptions {
    SubprocessOptions::new(root.path().join("jobs"), Environment::default())
}

/// Writes the record of a job that was started, and gives the file that would hold its lock.
fn record(shared: &Shared, key: RunKey) -> std::fs::File {
    let mut file = shared.jobs.open_record(key).expect("there is room");
    let intended = serde_json::to_string(&Intended::new(owner(), None)).expect("it can be written");
    let started = Started {
        pid: i32::MAX,
        shim: i32::MAX,
    };
    let started = serde_json::to_string(&started).expect("it can be written");
    writeln!(file, "{intended}\n{started}").expect("there is room");
    file
}

#[test]
fn the_template_has_the_keys_types_and_defaults_of_the_reference() {
    let mut template = default_template();
    for variable in template["variables"]["properties"]
        .as_object_mut()
        .expect("it is an object")
        .values_mut()
    {
        let variable = variable.as_object_mut().expect("it is an object");
        variable.remove("description").expect("each is described");
    }
    let text_or_null = json!([{"type": "string"}, {"type": "null"}]);
    assert_eq!(
        template,
        json!({
            "job_configuration": {
                "command": "{{ command }}", "env": "{{ env }}", "labels": "{{ labels }}", "name": "{{ name }}",
                "stream_output": "{{ stream_output }}", "working_dir": "{{ working_dir }}",
            },
            "variables": {
                "type": "object",
                "properties": {
                    "name": {"title": "Name", "anyOf": text_or_null, "default": null},
                    "env": {
                        "title": "Environment Variables", "type": "object",
                        "additionalProperties": {"anyOf": text_or_null},
                    },
                    "labels": {"title": "Labels", "type": "object", "additionalProperties": {"type": "string"}},
                    "command": {"title": "Command", "anyOf": text_or_null, "default": null},
                    "stream_output": {"title": "Stream Output", "type": "boolean", "default": true},
                    "working_dir": {
                        "title": "Working Directory", "default": null,
                        "anyOf": [{"type": "string", "format": "path"}, {"type": "null"}],
                    },
                },
            },
        })
    );
}

#[tokio::test]
async fn without_inotify_ends_are_told_all_the_same() {
    let root = tempfile::tempdir().expect("there is room");
    let shared = Shared::open(settings(&root)).expect("there is room");
    let _watcher = Watcher::start_blind(Arc::clone(&shared)).expect("there is room");
    let mut events = watch::events(Arc::clone(&shared), owner());
    assert_eq!(events.next().await, Some(JobEvent::Snapshot(Vec::new())));
    let (exits, lost) = (fresh_key(), fresh_key());
    let locked = record(&shared, exits);
    assert!(try_lock(&locked).expect("it can be asked"));
    shared
        .jobs
        .write_exit(exits, &ExitRecord::new(End::Code(4)))
        .expect("there is room");
    drop(record(&shared, lost));
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next())
            .await
            .expect("it is told");
        match event {
            Some(JobEvent::Changed {
                key,
                phase: Phase::Exited(outcome),
            }) => told.push((key, outcome)),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        told.contains(&(
            exits,
            Outcome::Exited {
                code: 4,
                reported: false
            }
        )),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|(key, outcome)| *key == lost && matches!(outcome, Outcome::Lost { .. })),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_was_never_started_is_listed_as_such_unless_it_is_being_started() {
    let root = tempfile::tempdir().expect("there is room");
    let shared = Shared::open(settings(&root)).expect("there is room");
    let key = fresh_key();
    let mut file = shared.jobs.open_record(key).expect("there is room");
    assert_eq!(
        act::list_owned(&shared, &owner()).expect("it can be listed"),
        []
    );
    let intended = serde_json::to_string(&Intended::new(owner(), None)).expect("it can be written");
    writeln!(file, "{intended}").expect("there is room");
    assert_eq!(act::settle(&shared, key).expect("it can be asked"), None);
    let listed = act::list_owned(&shared, &owner()).expect("it can be listed");
    assert!(
        matches!(
            &listed[0].phase,
            Phase::Exited(Outcome::NeverStarted { .. })
        ),
        "{listed:?}"
    );
    assert!(try_lock(&file).expect("it can be asked"));
    let listed = act::list_owned(&shared, &owner()).expect("it can be listed");
    assert_eq!(listed[0].phase, Phase::Pending(None));
}

#[tokio::test]
async fn a_record_that_is_not_understood_is_left_alone_and_hides_no_other() {
    let root = tempfile::tempdir().expect("there is room");
    let shared = Shared::open(settings(&root)).expect("there is room");
    let (strange, known) = (fresh_key(), fresh_key());
    let path = shared.jobs.file(strange, Part::Record);
    std::fs::write(&path, "{\"version\":2}\n").expect("there is room");
    shared
        .jobs
        .write_exit(strange, &ExitRecord::new(End::Code(0)))
        .expect("there is room");
    drop(record(&shared, known));
    let listed = act::list_owned(&shared, &owner()).expect("it can be listed");
    let listed: Vec<_> = listed.iter().map(|owned| owned.handle.key).collect();
    assert_eq!(listed, [known]);
    act::settle(&shared, strange).ok();
    act::destroy(&shared, strange).expect_err("it is not understood");
    assert!(path.exists());
    assert!(shared.jobs.file(strange, Part::Exit).exists());
}

#[tokio::test]
async fn an_exit_file_alone_is_swept_away() {
    let root = tempfile::tempdir().expect("there is room");
    let driver = SubprocessDriver::new(settings(&root)).expect("there is room");
    let key = fresh_key();
    driver
        .shared
        .jobs
        .write_exit(key, &ExitRecord::new(End::Code(0)))
        .expect("there is room");
    let path = driver.shared.jobs.file(key, Part::Exit);
    let swept = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), swept)
        .await
        .expect("it is swept away");
}

#[tokio::test]
async fn output_that_somebody_removed_is_said_to_be_gone() {
    let root = tempfile::tempdir().expect("there is room");
    let driver = SubprocessDriver::new(settings(&root)).expect("there is room");
    let shared = &driver.shared;
    let key = fresh_key();
    drop(record(shared, key));
    shared
        .jobs
        .write_exit(key, &ExitRecord::new(End::Code(0)))
        .expect("there is room");
    std::fs::write(shared.jobs.file(key, Part::Stdout), "short\n").expect("there is room");
    let owned = act::list_owned(shared, &owner()).expect("it can be listed");
    let from = LogCursor {
        stdout: 100,
        stderr: 0,
    };
    let lines: Vec<_> = driver.logs(&owned[0].handle, from).collect().await;
    let gone: Vec<_> = lines
        .into_iter()
        .map(|line| line.expect("it can be read").text)
        .collect();
    assert!(
        !gone.is_empty()
            && gone
                .iter()
                .all(|text| text.contains("removed before it was read")),
        "{gone:?}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().expect("there is room");
    std::fs::write(root.path().join("jobs"), "a file").expect("there is room");
    let error = SubprocessDriver::new(settings(&root)).expect_err("it cannot be made");
    assert!(matches!(error, DriverError::Unavailable { .. }));
    assert!(
        error
            .to_string()
            .contains(&root.path().join("jobs").display().to_string()),
        "{error}"
    );
}
