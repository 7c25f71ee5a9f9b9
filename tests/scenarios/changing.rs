//! What an operator changes while a worker runs.

use std::{
    os::unix::net::{UnixDatagram, UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;
use worker_tests::{program::Program, wait};

use crate::{
    scene::{BOUND, Scene, script, text, wait_for_status, wait_to_hear},
    stage::POOL,
};

#[test]
fn settings_that_were_changed_hold_from_a_sighup_on_and_running_jobs_go_on() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    let (file, program) = with_file(&scene);
    std::fs::write(&file, "[worker]\nlimit = 1\n").expect("writable");
    let held = scene.deploy_command(&held(&directory));
    let runs = scene.runs(2, &held);
    let worker = program.start(&["--pool", POOL]);
    let running = || {
        let states = runs.iter().map(|run| scene.state(run));
        states.filter(|state| state == "Running").count()
    };
    wait::until("one of the runs is running", BOUND, || match running() {
        1 => Ok(()),
        other => Err(format!("{other} run: {}", worker.stderr())),
    });

    std::fs::write(
        &file,
        "[worker]\nlimit = 2\nquery_interval = 7\n[status]\nport = 9\n[policy]\nallow_command = false\n",
    )
    .expect("writable");
    worker.signal(Signal::SIGHUP);
    wait_to_hear(&worker, "worker.limit 1 -> 2");
    wait::until("the other run has its slot", BOUND, || {
        let state = runs.iter().map(|run| scene.state(run));
        let states: Vec<String> = state.collect();
        if states.contains(&"Crashed".to_owned()) && running() == 1 {
            Ok(())
        } else {
            Err(format!("{states:?}: {}", worker.stderr()))
        }
    });
    let said = worker.stderr();
    let line = said
        .lines()
        .find(|line| line.contains("settings read again"))
        .expect("it was heard");
    // The interval is set by the environment, which is above the file.
    assert!(
        line.contains("changed=\"policy.allow_command true -> false, worker.limit 1 -> 2\""),
        "{line}"
    );
    assert!(
        line.contains("needs_restart=\"status.port 8080 -> 9\""),
        "{line}"
    );

    let refused = runs.iter().find(|run| scene.state(run) == "Crashed");
    let message = scene.message(refused.expect("it was seen"));
    assert!(message.contains("policy"), "{message}");
    std::fs::write(directory.join("go"), "").expect("writable");
    let kept = runs.iter().find(|run| Some(*run) != refused);
    scene.wait_for(kept.expect("there are two"), "Completed", &worker);
}

#[test]
fn settings_that_change_while_a_worker_is_assembled_hold_for_it() {
    let scene = Scene::without_pool();
    scene.create_pool("boxes", "docker");
    let (file, program) = with_file(&scene);
    std::fs::write(&file, "[worker]\nlimit = 1\n").expect("writable");
    // A worker asks its engine before it begins, and this one is slow to answer.
    let socket = scene.directory("engine").join("socket");
    let engine = UnixListener::bind(&socket).expect("a socket can be made");
    let program = program.with("DOCKER_HOST", format!("unix://{}", socket.display()));
    let arguments = [
        "--pool",
        "boxes",
        "--with-healthcheck",
        "--status-port",
        "0",
    ];
    let worker = program.start(&arguments);
    let (asked, _) = engine.accept().expect("it asks");
    std::fs::write(&file, "[worker]\nlimit = 3\n").expect("writable");
    worker.signal(Signal::SIGHUP);
    wait_to_hear(&worker, "worker.limit 1 -> 3");
    drop((asked, engine));
    let status = wait_for_status(&worker);
    wait::until("the worker has its limit", BOUND, || {
        let metrics = text(&status.get("/metrics"));
        let limit = metrics
            .lines()
            .find(|line| line.starts_with("worker_slots_limit{"));
        match limit {
            Some(line) if line.ends_with(" 3") => Ok(()),
            other => Err(format!("{other:?}: {}", worker.stderr())),
        }
    });
}

#[test]
fn a_file_that_is_wrong_keeps_the_settings_as_they_were() {
    let scene = Scene::set();
    let (file, program) = with_file(&scene);
    std::fs::write(&file, "[logging]\nlevel = \"info\"\n").expect("writable");
    let worker = program.start(&["--pool", POOL]);
    wait_to_hear(&worker, "started!");
    std::fs::write(&file, "[worker]\nlimit = 'many'\n").expect("writable");
    worker.signal(Signal::SIGHUP);
    wait_to_hear(&worker, "cannot be read again and stay as they were");
    wait_to_hear(&worker, "worker.limit");
    std::fs::write(&file, "[logging]\nlevel = \"debug\"\n").expect("writable");
    worker.signal(Signal::SIGHUP);
    wait_to_hear(&worker, "logging.level info -> debug");
    wait_to_hear(&worker, "DEBUG");
    let run = scene.run(&scene.deploy_command("true"));
    scene.wait_for(&run, "Completed", &worker);
}

#[test]
fn a_supervisor_hears_when_settings_are_read_again() {
    let scene = Scene::set();
    let socket = scene.directory("notify").join("socket");
    let ear = UnixDatagram::bind(&socket).expect("a socket can be made");
    ear.set_read_timeout(Some(Duration::from_secs(1)))
        .expect("a time is a time");
    let program = scene
        .worker()
        .with("NOTIFY_SOCKET", socket.display().to_string());
    let worker = program.start(&["--pool", POOL]);
    hear(&ear, &["READY=1"]);
    worker.signal(Signal::SIGHUP);
    hear(&ear, &["RELOADING=1", "MONOTONIC_USEC=", "READY=1"]);
    wait_to_hear(&worker, "settings read again; nothing has changed");
}

#[test]
fn a_paused_worker_claims_nothing_across_a_restart_until_it_is_resumed() {
    let scene = Scene::set();
    let directory = scene.directory("jobs");
    // Its heartbeats are requests then, which can be counted.
    let program = scene.worker().with("WORKER_API_WEBSOCKETS", "false");
    let none = program.run(&["pause"]).expect_code(1);
    assert!(none.stderr.contains("no such worker"), "{none}");
    let arguments = ["--pool", POOL, "--with-healthcheck", "--status-port", "0"];
    let worker = program.start(&arguments);
    let deployment = scene.deploy_command(&held(&directory));
    let running = scene.run(&deployment);
    scene.wait_for(&running, "Running", &worker);

    let paused = program.run(&["pause", "--pool", POOL]).expect_code(0);
    assert!(
        paused
            .stdout
            .contains("of work pool 'demo' is paused: it claims nothing"),
        "{paused}"
    );
    wait_to_hear(&worker, "claiming nothing; what runs goes on");
    let examined = program.run(&["doctor"]);
    assert!(
        examined.stdout.contains("this worker is paused since"),
        "{examined}"
    );
    let waiting = scene.run(&deployment);
    std::fs::write(directory.join("go"), "").expect("writable");
    scene.wait_for(&running, "Completed", &worker);
    let status = wait_for_status(&worker);
    let because = text(&status.get("/status")["claims_nothing_because"]);
    assert!(because.contains("this worker is paused since"), "{because}");
    let page = text(&status.get("/"));
    assert!(page.contains("this worker is paused since"), "{page}");
    let metrics = text(&status.get("/metrics"));
    for series in ["worker_paused{", "worker_takes_work{"] {
        let line = metrics.lines().find(|line| line.starts_with(series));
        let expected = if series.contains("paused") {
            " 1"
        } else {
            " 0"
        };
        assert!(
            line.is_some_and(|line| line.ends_with(expected)),
            "{metrics}"
        );
    }
    assert_eq!(scene.state(&waiting), "Scheduled");
    worker.signal(Signal::SIGTERM);
    drop(worker.finish().expect_code(0));

    let worker = program.start(&arguments);
    wait_to_hear(&worker, "claiming nothing; what runs goes on");
    wait_to_hear(&worker, "started!");
    // It shows the server that it is there, and asks for nothing.
    let asked = || scene.requests().total();
    let before = asked();
    wait::until("the worker sends heartbeats", BOUND, || {
        if asked() > before + 3 {
            Ok(())
        } else {
            Err(asked())
        }
    });
    assert_eq!(scene.state(&waiting), "Scheduled", "{}", worker.stderr());
    let resumed = program.run(&["--json", "resume"]).expect_code(0);
    assert_eq!(resumed.json()[0]["paused"], false);
    scene.wait_for(&waiting, "Completed", &worker);
    let again = program.run(&["resume"]).expect_code(0);
    assert!(again.stdout.contains("was not paused"), "{again}");
}

#[test]
fn a_paused_worker_that_polls_once_ends_and_claims_nothing() {
    let scene = Scene::set();
    let program = scene.worker();
    let arguments = ["--pool", POOL, "--run-once"];
    drop(program.run(&arguments).expect_code(0));
    drop(program.run(&["pause", "--pool", POOL]).expect_code(0));
    let run = scene.run(&scene.deploy_command("true"));
    for _ in 0..2 {
        let ended = program.run(&arguments).expect_code(0);
        let said = "ending without a poll (--run-once) reason=\"this worker is paused since";
        assert!(ended.stderr.contains(said), "{ended}");
    }
    assert_eq!(scene.state(&run), "Scheduled");
    drop(program.run(&["resume"]).expect_code(0));
    drop(program.run(&arguments).expect_code(0));
    assert_eq!(scene.state(&run), "Completed");
}

#[test]
fn a_name_with_line_ends_in_it_forges_no_line_of_the_log() {
    let scene = Scene::set();
    let deployment = scene.deploy_command("true");
    let path = format!("/deployments/{deployment}/create_flow_run");
    let name = "x\n2026-01-01T00:00:00.000000Z ERROR forged\r\ny";
    let made = scene.api().post(&path, &json!({ "name": name }));
    let ended = scene.worker().run(&["--pool", POOL, "--run-once"]);
    let ended = ended.expect_code(0);
    assert_eq!(scene.state(&text(&made["id"])), "Completed", "{ended}");
    let told = |line: &&str| line.contains("forged");
    let lines: Vec<&str> = ended.stderr.lines().filter(told).collect();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("submitted to infrastructure")),
        "{ended}"
    );
    for line in lines {
        assert!(!line.starts_with("2026-01-01"), "{line}");
    }
}

#[test]
fn with_a_log_of_json_each_line_on_standard_error_is() {
    let scene = Scene::set();
    let program = scene.worker().with("WORKER_STATSU_PORT", "1");
    let worker = program.start(&["--pool", POOL, "--log-json"]);
    wait_to_hear(&worker, "started!");
    worker.signal(Signal::SIGTERM);
    let mut said = worker.finish().expect_code(0).stderr;
    assert!(said.contains("did you mean"), "{said}");
    let refused = program.run(&["--pool", POOL, "--log-json", "--type", "docker"]);
    said.push_str(&refused.expect_code(78).stderr);
    for line in said.lines() {
        let json: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(json.is_ok(), "{line}");
    }
}

#[test]
fn whoever_watches_a_run_hears_that_its_pool_is_paused() {
    let scene = Scene::set();
    scene.deploy_command("true");
    let program = scene.worker();
    drop(program.run(&["pool", "pause", POOL]).expect_code(0));
    let watching = program.start(&["run", "scene/command", "--watch"]);
    wait_to_hear(
        &watching,
        "Waiting: work pool 'demo' is paused, until `worker pool resume demo`.",
    );
    drop(program.run(&["pool", "resume", POOL]).expect_code(0));
    let worker = program.start(&["--pool", POOL]);
    let watched = watching.finish().expect_code(0);
    assert!(
        watched.stdout.contains("Completed"),
        "{watched}\n{}",
        worker.stderr()
    );
}

// === functions ===

/// A worker with a file of settings that can be changed.
fn with_file(scene: &Scene) -> (PathBuf, Program) {
    let file = scene.directory("settings").join("worker.toml");
    let program = scene
        .worker()
        .with("WORKER_CONFIG", file.display().to_string());
    (file, program)
}

/// A command that lasts until there is a file `go`, but not for ever.
fn held(directory: &Path) -> String {
    let lines = format!(
        "for n in $(seq 600); do [ -e {}/go ] && exit 0; sleep 0.1; done; exit 1",
        directory.display()
    );
    script(directory, "held.sh", &lines)
}

/// Waits until a supervisor has been told each of these, in this order.
#[track_caller]
fn hear(ear: &UnixDatagram, words: &[&str]) {
    let mut wanted = words.iter();
    let mut next = wanted.next();
    let mut heard = String::new();
    wait::until(&format!("{words:?} is heard"), BOUND, || {
        let mut buffer = [0; 4096];
        if let Ok(length) = ear.recv(&mut buffer) {
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            heard.push('\n');
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                if next.is_some_and(|word| line.starts_with(word)) {
                    next = wanted.next();
                }
            }
        }
        if next.is_none() {
            Ok(())
        } else {
            Err(heard.clone())
        }
    });
}
