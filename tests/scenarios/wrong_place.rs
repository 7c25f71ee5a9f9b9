//! Machines on which a worker cannot be what it was told to be: its directory, its name, its port, its API.

use std::fs;

use crate::{
    scene::{Scene, wait_to_hear},
    stage::POOL,
};

/// A worker that never comes so far as to ask for its type.
const ARGUMENTS: [&str; 4] = ["--pool", POOL, "--type", "process"];

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let scene = Scene::set();
    let file = scene.directory("place").join("file");
    fs::write(&file, "").expect("the directory is writable");
    let program = scene
        .worker()
        .with("WORKER_STATE_DIR", file.display().to_string());
    let finished = program.run(&ARGUMENTS).expect_code(78);
    let said = last_line(&finished.stderr);
    let begins = format!("error: the state directory {}/", file.display());
    assert!(said.starts_with(&begins), "{finished}");
    assert!(
        said.ends_with(": Not a directory (os error 20)"),
        "{finished}"
    );
}

#[test]
fn a_second_worker_of_one_name_is_told_that_there_is_one() {
    let scene = Scene::set();
    let program = scene.worker();
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--name", "twin"]);
    let first = program.start(&arguments);
    wait_to_hear(&first, "Worker 'twin' started!");
    let second = program.run(&arguments).expect_code(78);
    assert_eq!(
        last_line(&second.stderr),
        "error: a worker named 'twin' for work pool 'demo' runs on this machine already; give this one another --name or --state-dir",
        "{second}"
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let scene = Scene::set();
    let taken = scene.api().url();
    let taken = taken.trim_start_matches("http://").trim_end_matches("/api");
    let port = taken.rsplit(':').next().unwrap_or_default();
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--with-healthcheck", "--status-port", port]);
    let finished = scene.worker().run(&arguments).expect_code(78);
    assert_eq!(
        last_line(&finished.stderr),
        format!(
            "error: the status server cannot listen on {taken}; give it another --status-port: Address already in use (os error 98)"
        ),
        "{finished}"
    );
}

#[test]
fn an_api_url_that_leads_beside_the_api_is_told_apart_from_a_missing_pool() {
    let scene = Scene::set();
    let beside = scene.api().url().replace("/api", "");
    let program = scene.worker().with("PREFECT_API_URL", beside);
    let worker = program.start(&ARGUMENTS);
    wait_to_hear(
        &worker,
        "environment variable PREFECT_API_URL: the URL of an API usually ends in /api",
    );
    wait_to_hear(
        &worker,
        "there is no such route; check that PREFECT_API_URL ends in /api",
    );
}

#[test]
fn a_journal_that_is_none_is_named_and_left_as_it_is() {
    let scene = Scene::set();
    let program = scene.worker();
    let directory = program.state_dir().join("workers/demo/one");
    fs::create_dir_all(&directory).expect("the state directory is the test's own");
    let journal = directory.join("journal.db");
    let garbage = "no database ".repeat(100);
    fs::write(&journal, &garbage).expect("the state directory is the test's own");
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--name", "one"]);
    let finished = program.run(&arguments);
    assert_ne!(finished.code(), 0, "{finished}");
    let begins = format!("error: journal {}", journal.display());
    let said = last_line(&finished.stderr);
    assert!(said.starts_with(&begins), "{finished}");
    assert!(said.contains("file is not a database"), "{finished}");
    let after = fs::read_to_string(&journal).expect("the journal is there");
    assert_eq!(after, garbage);
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}
