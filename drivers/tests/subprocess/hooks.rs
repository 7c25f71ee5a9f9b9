//! The hooks of a flow whose engine died, with a script in Python's place.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use worker_drivers::{
    Handle, Intent, Outcome, Program, StopRequest,
    conformance::{Behaviour, Scene, Subject as _},
};

use crate::subject::SubprocessSubject;

/// Does what the test says in place of the engine, and notes which hooks it is to run in place of them.
const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = -m ]; then eval "$AS_ENGINE"; fi
echo "$3" >>"$NOTES"
eval "$AS_HOOKS"
"#;

/// A directory with the script, and what it noted.
struct Stage {
    directory: tempfile::TempDir,
}

// === impl Stage ===

impl Stage {
    fn set() -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let python = directory.path().join("python3");
        fs::write(&python, PYTHON).expect("there is room");
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self { directory }
    }

    fn notes(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    /// Which hooks were run.
    fn noted(&self) -> String {
        fs::read_to_string(self.notes()).unwrap_or_default()
    }

    async fn start(&self, scene: &Scene<'_>, engine: &str, hooks: &str) -> Handle {
        let mut job = scene.job(&Behaviour::Exit(0));
        job.program = Program::Engine {
            entrypoint: "flows.py:hello".to_owned(),
        };
        let path = format!("{}:/usr/bin:/bin", self.directory.path().display());
        for (name, value) in [
            ("PATH", path),
            ("NOTES", self.notes().display().to_string()),
            ("AS_ENGINE", engine.to_owned()),
            ("AS_HOOKS", hooks.to_owned()),
        ] {
            job.environment.0.insert(name.to_owned(), value);
        }
        let submitted = scene.submit(&scene.plan(&job)).await;
        submitted.expect("it starts").into_handle()
    }

    async fn wait_for_note(&self) {
        let noted = async {
            while self.noted().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), noted)
            .await
            .expect("the hooks begin");
    }
}

fn exited(code: i32) -> Outcome {
    Outcome::Exited {
        code,
        reported: false,
    }
}

async fn stop(scene: &Scene<'_>, handle: &Handle, intent: Intent, grace: Duration) {
    let request = StopRequest { intent, grace };
    let stopped = scene.driver.stop(handle, request).await;
    stopped.expect("it can be asked to stop");
}

#[tokio::test]
async fn an_engine_that_dies_has_its_hooks_run_before_its_end_is_told() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    for (engine, outcome) in [
        ("exit 3", exited(3)),
        (
            "kill -9 $$",
            Outcome::Signalled {
                signal: 9,
                by_us: false,
            },
        ),
    ] {
        let stage = Stage::set();
        let handle = stage.start(&scene, engine, "").await;
        assert_eq!(scene.ended(handle.key).await, outcome);
        assert_eq!(stage.noted(), "crashed\n");
        scene.destroy(handle.key).await;
    }
}

#[tokio::test]
async fn an_engine_that_ends_well_has_had_its_say() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let stage = Stage::set();
    let handle = stage.start(&scene, "exit 0", "").await;
    assert_eq!(scene.ended(handle.key).await, exited(0));
    assert_eq!(stage.noted(), "");
}

#[tokio::test]
async fn a_cancelled_engine_that_takes_no_hint_has_its_hooks_run_for_it_and_one_that_is_stopped_has_not()
 {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    for (intent, noted) in [(Intent::Cancel, "cancellation\n"), (Intent::Plain, "")] {
        let stage = Stage::set();
        let engine = "trap 'exit 9' TERM; while :; do sleep 0.02; done";
        let handle = stage.start(&scene, engine, "").await;
        stop(&scene, &handle, intent, Duration::from_secs(30)).await;
        scene.ended(handle.key).await;
        assert_eq!(stage.noted(), noted);
        scene.destroy(handle.key).await;
    }
}

#[tokio::test]
async fn hooks_that_do_not_end_are_stopped_with_the_job() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let stage = Stage::set();
    let handle = stage.start(&scene, "exit 3", "sleep 600").await;
    stage.wait_for_note().await;
    stop(&scene, &handle, Intent::Cancel, Duration::ZERO).await;
    assert_eq!(scene.ended(handle.key).await, exited(3));
    assert_eq!(subject.processes(handle.key).await, 0);
}
