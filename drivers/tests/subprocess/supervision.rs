//! What the shim owes a job, the worker and the machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getsid},
};
use serde_json::json;

use worker_drivers::{
    DriverError, Job, LogCursor, Outcome, Program,
    conformance::{Behaviour, Scene, Subject as _},
    subprocess::SubprocessDriver,
};

use crate::subject::{Process, SubprocessSubject, processes};

/// A job that runs this line.
fn job(scene: &Scene<'_>, line: &str) -> Job {
    let mut job = scene.job(&Behaviour::Exit(0));
    job.program = Program::Command {
        line: line.to_owned(),
        engine: false,
    };
    job
}

fn shim_of(key: worker_drivers::RunKey) -> Pid {
    let processes = processes(key);
    let shims: Vec<_> = processes
        .iter()
        .filter(|process| process.is_shim())
        .collect();
    assert_eq!(shims.len(), 1, "a job has one shim");
    Pid::from_raw(shims[0].pid)
}

/// Everything a job of this line wrote, and how it ended.
async fn run(scene: &mut Scene<'_>, job: &Job) -> (Vec<String>, Outcome) {
    let plan = scene.plan(job);
    let handle = scene.submit(&plan).await.expect("it starts").into_handle();
    let outcome = scene.ended(handle.key).await;
    let lines = scene.lines(&handle, LogCursor::default()).await;
    scene.destroy(handle.key).await;
    (lines.into_iter().map(|line| line.text).collect(), outcome)
}

#[tokio::test]
async fn arguments_of_a_job_are_in_no_list_but_its_own() {
    const CANARY: &str = "canary-2b7d";
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    let job = job(
        &scene,
        &format!("sh -c 'while :; do sleep 3600; done' {CANARY}"),
    );
    let handle = scene
        .submit(&scene.plan(&job))
        .await
        .expect("it starts")
        .into_handle();
    // The job shows it, so that it did get its arguments.
    scene.processes(handle.key, 2).await;
    let (shims, others): (Vec<_>, Vec<_>) = processes(handle.key)
        .into_iter()
        .partition(Process::is_shim);
    assert!(others.iter().any(|process| process.shows(CANARY)));
    assert!(!shims.is_empty() && !shims.iter().any(|process| process.shows(CANARY)));
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn a_job_whose_shim_is_killed_is_lost_and_does_not_run_on() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::WaitWithChild).await;
    scene.processes(handle.key, 2).await;
    kill(shim_of(handle.key), Signal::SIGKILL).expect("it runs");
    let outcome = scene.ended(handle.key).await;
    let Outcome::Lost { reason } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        reason.contains(&format!("pid {}", handle.infrastructure_id)),
        "{reason}"
    );
    assert_eq!(subject.processes(handle.key).await, 0);
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn a_shim_that_is_asked_to_terminate_stops_its_job() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    kill(shim_of(handle.key), Signal::SIGTERM).expect("it runs");
    let outcome = scene.ended(handle.key).await;
    assert_eq!(
        outcome,
        Outcome::Signalled {
            signal: 15,
            by_us: true
        }
    );
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn signals_of_the_workers_terminal_do_not_reach_a_job() {
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let shim = shim_of(handle.key);
    let job = Pid::from_raw(handle.infrastructure_id.parse().expect("it is a pid"));
    assert_eq!(getsid(Some(shim)), Ok(shim));
    assert_eq!(getsid(Some(job)), Ok(shim));
    assert_ne!(getsid(None), Ok(shim));
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(shim, signal).expect("it runs");
    }
    assert_eq!(scene.owned().await.len(), 1);
    scene.processes(handle.key, 1).await;
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn a_job_has_its_environment_and_nothing_of_ours() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let mut job = job(&scene, "env");
    job.environment
        .0
        .insert("GREETING".to_owned(), "hello".to_owned());
    let (lines, _) = run(&mut scene, &job).await;
    assert!(lines.contains(&"GREETING=hello".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&format!("WORKER__JOB={}", job.key)),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("WORKER__SHIM=")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_job_blocks_no_signal_and_reads_from_nowhere() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let job = job(
        &scene,
        "sh -c 'cat; grep SigBlk /proc/self/status; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l'",
    );
    let (lines, _) = run(&mut scene, &job).await;
    // `ls` has the directory open besides the usual three, and writes to a pipe.
    assert_eq!(lines, ["SigBlk:\t0000000000000000", "/dev/null", "4"]);
}

#[tokio::test]
async fn a_private_directory_is_the_jobs_and_goes_with_it() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let job = job(&scene, "sh -c 'mkdir -p a/b; echo x > a/b/c; pwd'");
    let (lines, _) = run(&mut scene, &job).await;
    let directory = PathBuf::from(&lines[0]);
    assert!(directory.starts_with(subject.jobs_dir()), "{lines:?}");
    assert!(!directory.exists());
}

#[tokio::test]
async fn files_about_jobs_are_nobody_elses() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::Lines(1)).await;
    scene.ended(handle.key).await;
    let mode = |path: PathBuf| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o077
    };
    assert_eq!(mode(subject.jobs_dir()), 0);
    let entries: Vec<_> = fs::read_dir(subject.jobs_dir())
        .expect("it is there")
        .flatten()
        .collect();
    assert!(entries.len() >= 5, "{entries:?}");
    assert!(
        entries.iter().all(|entry| mode(entry.path()) == 0),
        "{entries:?}"
    );
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn output_nobody_is_shown_is_kept_for_the_reason_of_a_crash() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let mut job = scene.job(&Behaviour::Lines(5));
    job.configuration
        .insert("stream_output".to_owned(), json!(false));
    let (lines, outcome) = run(&mut scene, &job).await;
    assert_eq!(lines.len(), 10, "five on each stream");
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 0,
            reported: false
        }
    );
}

#[tokio::test]
async fn a_shim_that_dies_before_it_starts_anything_is_a_passing_trouble() {
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    for (shim, reason) in [
        ("/bin/false", "ended before it started anything"),
        ("/no/such/worker", "/no/such/worker"),
    ] {
        let mut options = subject.options();
        options.shim = PathBuf::from(shim);
        let driver = SubprocessDriver::new(options).expect("the directory is there");
        let plan = scene.plan(&scene.job(&Behaviour::Exit(0)));
        let error = worker_drivers::Driver::submit(&driver, &plan)
            .await
            .expect_err("it cannot start");
        assert!(error.is_transient(), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(subject.traces(plan.key()).await, "");
        scene
            .submit(&plan)
            .await
            .expect("a worker that can starts it");
        scene.destroy(plan.key()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_named_and_leaves_nothing() {
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    let root = tempfile::tempdir().expect("there is room");
    let program = |name: &str, content: &str, mode| {
        let path = root.path().join(name);
        fs::write(&path, content).expect("there is room");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        path.display().to_string()
    };
    let script = program("script", "#!/no/such/interpreter\n", 0o755);
    let garbage = program("garbage", "\u{1}\u{2}\u{3}", 0o755);
    let unmarked = program("plain", "#!/bin/sh\n", 0o644);
    for (line, message) in [
        (
            script.clone(),
            format!("the interpreter of program {script} not found"),
        ),
        (
            garbage.clone(),
            format!(
                "program {garbage}: it is neither a binary for this machine nor a script with an interpreter"
            ),
        ),
        (
            unmarked.clone(),
            format!("program {unmarked}: it is not an executable file"),
        ),
        (
            root.path().display().to_string(),
            format!(
                "program {}: it is not an executable file",
                root.path().display()
            ),
        ),
    ] {
        let plan = scene.plan(&job(&scene, &line));
        let error = scene.submit(&plan).await.expect_err("it cannot start");
        assert_eq!(error.to_string(), message);
        assert!(!error.is_transient());
        assert_eq!(subject.traces(plan.key()).await, "");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named_and_leaves_nothing() {
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    let mut job = job(&scene, "true");
    job.configuration
        .insert("working_dir".to_owned(), json!("/no/such/place"));
    let error = scene
        .submit(&scene.plan(&job))
        .await
        .expect_err("it cannot start");
    assert!(matches!(error, DriverError::Invalid { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "working_dir: /no/such/place does not exist on this machine"
    );
    assert_eq!(subject.traces(job.key).await, "");
}

#[tokio::test]
async fn a_machine_without_python_says_so() {
    let subject = SubprocessSubject::new();
    let scene = Scene::new(&subject).await;
    let empty = tempfile::tempdir().expect("there is room");
    let mut job = scene.job(&Behaviour::Exit(0));
    job.program = Program::Engine {
        entrypoint: "flows.py:hello".to_owned(),
    };
    job.environment
        .0
        .insert("PATH".to_owned(), empty.path().display().to_string());
    let error = scene
        .submit(&scene.plan(&job))
        .await
        .expect_err("there is none");
    let message = format!(
        "a Python interpreter (python3, python) in PATH {} not found",
        empty.path().display()
    );
    assert_eq!(error.to_string(), message);
    job.environment
        .0
        .insert("VIRTUAL_ENV".to_owned(), "/no/venv".to_owned());
    let error = scene
        .submit(&scene.plan(&job))
        .await
        .expect_err("there is none");
    assert_eq!(error.to_string(), "program /no/venv/bin/python not found");
}

#[tokio::test]
async fn a_job_that_starts_processes_while_it_is_ended_ends() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    // Each generation starts the next in a session of its own and goes, for as long as it is let.
    let script = "trap \"\" TERM; f() { setsid sh -c \"$0\" \"$0\" & }; f; f; sleep 0.01";
    let mut job = job(&scene, "sh -c 'exec sh -c \"$SCRIPT\" \"$SCRIPT\"'");
    job.environment
        .0
        .insert("SCRIPT".to_owned(), script.replace("f; f;", "f;"));
    let plan = scene.plan(&job);
    let handle = scene.submit(&plan).await.expect("it starts").into_handle();
    let outcome = scene.ended(handle.key).await;
    assert_eq!(
        outcome,
        Outcome::Exited {
            code: 0,
            reported: false
        }
    );
    assert_eq!(subject.processes(handle.key).await, 0);
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn a_suspended_job_can_be_stopped() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let job = Pid::from_raw(handle.infrastructure_id.parse().expect("it is a pid"));
    kill(job, Signal::SIGSTOP).expect("it runs");
    scene.stop(&handle, Duration::from_secs(40)).await;
    let outcome = scene.ended(handle.key).await;
    assert_eq!(
        outcome,
        Outcome::Signalled {
            signal: 15,
            by_us: true
        }
    );
    scene.destroy(handle.key).await;
}

#[tokio::test]
async fn shims_that_ended_are_collected() {
    let subject = SubprocessSubject::new();
    let mut scene = Scene::new(&subject).await;
    let handle = scene.start(&Behaviour::Wait).await;
    let shim = shim_of(handle.key);
    scene.stop(&handle, Duration::from_secs(40)).await;
    scene.ended(handle.key).await;
    scene.destroy(handle.key).await;
    assert!(
        !fs::exists(format!("/proc/{shim}")).expect("it can be asked"),
        "a zombie is left"
    );
}
