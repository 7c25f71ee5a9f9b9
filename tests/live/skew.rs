//! Our worker beside servers of other releases, whose engines run the flows: nothing ends it, and nothing is lost.

use serde_json::{Value, json};
use worker_tests::prefect::{PrefectServer, Python};

use crate::{
    column::{Column, WorkerKind},
    story::{Names, Reader, Story},
};

#[test]
fn flow_runs_of_the_newest_release_come_to_their_ends() {
    assert_served(&Python::newest());
}

#[test]
fn flow_runs_of_a_release_of_a_year_ago_come_to_their_ends() {
    assert_served(&Python::oldest());
}

/// Plays what the worker has to do with every release.
#[track_caller]
fn assert_served(python: &Python) {
    let server = PrefectServer::start(python);
    let column = Column::new(server.api(), WorkerKind::Ours, python);
    let pool = column.make_pool("skew");
    let run = |flow: &str, parameters: Value| {
        let deployment = column.deploy(flow, &pool, "default");
        column.make_run(&deployment, flow, &parameters)
    };
    let greet = run("greet", json!({"names": ["Ada"]}));
    let check = run("check", json!({"shelf": "empty"}));
    let count = run("count", json!({}));
    let command = column.deploy_command("echo said by a command", &pool);
    let command = column.make_run(&command, "command", &json!({}));

    column.start_worker(&pool, "skew", &[]);
    column.wait_for_mark("counting");
    column.cancel(&count);
    let runs = [&*greet, &*check, &*count, &*command];
    column.wait_for_ends(&runs);
    column.wait_for_rest(&runs);
    column.wait_until_shown(&pool, "skew");
    column.stop_worker("skew");

    let reader = Reader::when_settled(server.api());
    let story = |id: &str| reader.read(id, &Names::default());
    assert_told(&story(&greet), "COMPLETED Completed", "Hello Ada!");
    assert_told(
        &story(&check),
        "FAILED Failed",
        "looking at the shelf: empty",
    );
    // An engine of a year ago dies of the signal, and what it had not sent yet with it.
    assert_told(&story(&count), "CANCELLED Cancelled", "");
    assert_told(&story(&command), "COMPLETED Completed", "said by a command");
}

/// How it ended, and what its log has.
#[track_caller]
fn assert_told(story: &Story, end: &str, line: &str) {
    let last = story["states"].last().map_or("", String::as_str);
    assert!(last.starts_with(end), "not {end}: {story:#?}");
    let logs = story
        .iter()
        .filter(|(aspect, _)| aspect.starts_with("log of"));
    let has_line = logs
        .flat_map(|(_, lines)| lines)
        .any(|logged| logged.ends_with(line));
    assert!(has_line, "no line {line:?}: {story:#?}");
}
