//! What operators watch a worker by, on a real Prometheus: the numbers, the alerts, the dashboard, and the words about them.
//!
//! `tests/monitoring/set-up` gets Prometheus; `tests/run` calls it.

mod scrape;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use worker_tests::{files::root, wait};

use scrape::{Prometheus, Watched};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-under-test");

/// How long anything may take that a loaded machine does in a second.
const BOUND: Duration = Duration::from_mins(1);

#[test]
fn prometheus_has_nothing_to_say_against_the_numbers() {
    let watched = Watched::start();
    watched.run("true", "Completed");
    let numbers = watched.numbers();
    let mut checking = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be started");
    let mut stdin = checking.stdin.take().expect("it was piped");
    std::io::Write::write_all(&mut stdin, numbers.as_bytes()).expect("promtool reads");
    drop(stdin);
    let checked = checking.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn each_alert_says_what_its_test_wants_of_it() {
    let directory = root().join("deploy/helm/worker/files");
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ] {
        let checked = Command::new(tool("promtool"))
            .args(arguments)
            .current_dir(&directory)
            .output()
            .expect("promtool can be started");
        assert!(checked.status.success(), "{checked:?}");
    }
    let tests = read("deploy/helm/worker/files/alerts_test.yaml");
    for alert in alerts() {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
    }
}

#[test]
fn each_picture_of_the_dashboard_shows_something_and_no_alert_cries_for_nothing() {
    let watched = Watched::start();
    let prometheus = Prometheus::scraping(watched.address());
    let mut empty: BTreeSet<String> = queries().into_iter().collect();
    wait::until("each picture shows something", 2 * BOUND, || {
        watched.run("true", "Completed");
        watched.run("false", "Crashed");
        empty.retain(|query| !prometheus.has_data(query));
        if empty.is_empty() {
            Ok(())
        } else {
            Err(format!("{empty:#?}"))
        }
    });
    for alert in prometheus.alerts() {
        assert!(alerts().contains(&alert.name), "{alert:?}");
        assert_ne!(alert.state, "firing", "{alert:?}");
    }
}

#[test]
fn each_number_is_explained_and_each_that_is_explained_or_used_exists() {
    let watched = Watched::start();
    watched.run("true", "Completed");
    let exposed = watched.names();
    let explained = names_in(&read("docs/operations.md"));
    let unexplained: Vec<&String> = exposed.difference(&explained).collect();
    assert!(
        unexplained.is_empty(),
        "not in docs/operations.md: {unexplained:?}"
    );
    for file in [
        "docs/operations.md",
        "deploy/helm/worker/files/alerts.yaml",
        "deploy/helm/worker/files/dashboard.json",
    ] {
        let named = names_in(&read(file));
        let unknown: Vec<&String> = named.difference(&exposed).collect();
        assert!(
            unknown.is_empty(),
            "{file} names what no worker exposes: {unknown:?}"
        );
    }
}

// === functions ===

fn tool(name: &str) -> PathBuf {
    root().join("tests/.cache/prometheus").join(name)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn alerts() -> Vec<String> {
    read("deploy/helm/worker/files/alerts.yaml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect()
}

/// The queries of the dashboard, with its variables at "all" and its interval at what a scrape every second makes of it.
fn queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/helm/worker/files/dashboard.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            let query = target["expr"].as_str().expect("a target has a query");
            query
                .replace("$pool", ".*")
                .replace("$instance", ".*")
                .replace("$__rate_interval", "30s")
        })
        .collect()
}

/// The series that a text names; those of a histogram by its name.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("worker_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}
