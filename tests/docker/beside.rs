//! Our worker beside the Python one, on one engine and one Prefect server: the same flow runs, the same containers, the same to see.

mod differences;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::{
    http::Api,
    prefect::{PrefectServer, Python},
    program::{Program, Running},
    stage::FINAL,
    wait,
};

use self::differences::DIFFERENCES;
use crate::{
    PROGRAM,
    compare::gaps,
    expected::Expected,
    flow_image,
    stage::{containers_of, create_pool, docker, run, text, worker_of},
    story::{Names, Reader, Story, find_events},
};

/// How long a cold Python in a container may take on a busy machine.
const BOUND: Duration = Duration::from_mins(5);

/// How long the word that a container has ended may take; a Python worker does not always give it.
const NOTICE: Duration = Duration::from_secs(10);

/// What each container and each deployment has of its own.
const OWN: [&str; 2] = [
    "Config.Hostname ",
    "Config.Labels.io.prefect.deployment-updated ",
];

/// Whose worker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Python,
    Ours,
}

/// A flow run and what happens to it.
struct Scenario {
    name: &'static str,
    flow: &'static str,
    parameters: Value,
    variables: Value,
    /// What is done while its container runs.
    meanwhile: Meanwhile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Cancel,
    Inspect,
}

fn scenarios() -> Vec<Scenario> {
    let scenario = |name, flow, meanwhile| Scenario {
        name,
        flow,
        parameters: json!({}),
        variables: json!({}),
        meanwhile,
    };
    let mut inspected = scenario("what its container is", "sleeps", Meanwhile::Inspect);
    inspected.parameters = json!({"seconds": 6});
    inspected.variables = json!({
        "labels": {"my.org/team": "a"},
        "mem_limit": "512m",
        "env": {"GREETING": "hello"},
        "container_create_kwargs": {"shm_size": "64m", "ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]},
    });
    let mut nowhere = scenario("image missing", "hello", Meanwhile::Nothing);
    nowhere.variables = json!({"image": "worker-test/nowhere:1"});
    vec![
        // It runs for a few seconds only.
        inspected,
        scenario("completes", "hello", Meanwhile::Nothing),
        scenario("fails", "fails", Meanwhile::Nothing),
        scenario("dies", "exits", Meanwhile::Nothing),
        scenario("cancelled", "sleeps", Meanwhile::Cancel),
        nowhere,
    ]
}

#[test]
fn the_python_worker_and_ours_make_the_same_containers_and_tell_the_same_of_them() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let theirs = play(server.api(), &python, Kind::Python);
    let ours = play(server.api(), &python, Kind::Ours);
    let mut expected = Expected::of(DIFFERENCES);
    let mut findings = Vec::new();
    for (scenario, story) in &theirs {
        for gap in gaps(story, &ours[scenario]) {
            let gap = expected.take(scenario, gap);
            let lines = gap.theirs.iter().map(|line| format!("\n  - {line}"));
            let lines = lines.chain(gap.ours.iter().map(|line| format!("\n  + {line}")));
            let lines: String = lines.collect();
            if !lines.is_empty() {
                findings.push(format!("{scenario}, {}:{lines}", gap.aspect));
            }
        }
    }
    findings.extend(expected.unseen());
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// All scenarios with one worker, as they could be seen.
fn play(api: Api, python: &Python, kind: Kind) -> BTreeMap<&'static str, Story> {
    let (pool, name) = match kind {
        Kind::Python => ("pool-python", "Taker python"),
        Kind::Ours => ("pool-ours", "Taker ours"),
    };
    create_pool(&api, pool, &flow_image::defaults(python));
    let mut names = Names::default();
    let id = api.get(&format!("/work_pools/{pool}"))["id"].clone();
    for (name, placeholder) in [
        (pool, "POOL"),
        (id.as_str().expect("it has an id"), "POOL-ID"),
        (name, "WORKER"),
        (&name.to_lowercase().replace(' ', "-"), "WORKER-SLUG"),
        (&api.url(), "API-URL"),
    ] {
        names.hide(name, placeholder);
    }
    let program = match kind {
        Kind::Python => worker_of(
            Program::new(&python.bin().join("prefect").display().to_string()),
            &api,
        )
        .with("VIRTUAL_ENV", python.root().display().to_string())
        .with("PATH", python.path()),
        Kind::Ours => worker_of(Program::new(PROGRAM), &api),
    };
    let mut arguments = vec!["--pool", pool, "--type", "docker", "--name", name];
    if kind == Kind::Python {
        arguments.splice(..0, ["worker", "start"]);
    }
    let running = program.start(&arguments);
    let played = scenarios();
    // All at once: most of the time they only wait.
    let ids: Vec<String> = played
        .iter()
        .map(|scenario| begin(&api, pool, scenario))
        .collect();
    let runs: Vec<_> = played
        .iter()
        .zip(ids)
        .map(|(scenario, id)| {
            let container = follow(&api, scenario, &id, &running);
            (scenario, (id, container))
        })
        .collect();
    let reader = Reader::when_settled(api);
    runs.into_iter()
        .map(|(scenario, (run, container))| {
            let mut names = names.clone();
            let seen = api.get(&format!("/flow_runs/{run}"));
            if let Some((_, id)) = text(&seen["infrastructure_pid"]).rsplit_once(':') {
                names.hide(id, "CONTAINER");
            }
            let deployment = text(&seen["deployment_id"]);
            let deployed = api.get(&format!("/deployments/{deployment}"));
            names.hide(deployment, "DEPLOYMENT-ID");
            names.hide(text(&deployed["name"]), "DEPLOYMENT");
            let mut story = reader.read(&run, &names);
            names.hide(&run, "RUN-ID");
            names.hide(text(&seen["name"]), "RUN");
            if let Some(container) = container {
                story.insert("container".to_owned(), container);
            }
            let lines = story.values_mut().flatten();
            lines.for_each(|line| *line = names.hidden(line));
            (scenario.name, story)
        })
        .collect()
}

/// Makes the flow run of a scenario; its id.
fn begin(api: &Api, pool: &str, scenario: &Scenario) -> String {
    let fields = json!({
        "flow": scenario.flow,
        "work_pool_name": pool,
        "entrypoint": format!("flows.py:{}", scenario.flow),
        "parameters": scenario.parameters,
        "pull_steps": flow_image::baked_in(),
        "job_variables": scenario.variables,
        "tags": ["seen"],
    });
    run(api, &fields)
}

/// Plays a scenario to its end; what its container was, where that is asked.
fn follow(api: &Api, scenario: &Scenario, id: &str, worker: &Running) -> Option<Vec<String>> {
    let state = || text(&api.get(&format!("/flow_runs/{id}"))["state"]["name"]);
    let until = |what: &str, is_so: &dyn Fn(&str) -> bool| {
        wait::until(what, BOUND, || {
            let state = state();
            if is_so(&state) {
                return Ok(());
            }
            Err(format!("{state}; {} {}", worker.stdout(), worker.stderr()))
        });
    };
    let mut container = None;
    match scenario.meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Inspect => {
            let running = wait::until("the container runs", BOUND, || {
                let there = containers_of(id, false).pop();
                there.ok_or_else(|| format!("{} {}", worker.stdout(), worker.stderr()))
            });
            container = Some(inspect(&running));
        }
        Meanwhile::Cancel => {
            wait::until("the flow has begun", BOUND, || {
                let filter = json!({"logs": {"flow_run_id": {"any_": [id]}}});
                let log = api.post("/logs/filter", &filter).to_string();
                if log.contains("sleeping") {
                    Ok(())
                } else {
                    Err(log)
                }
            });
            let state =
                json!({"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": false});
            api.post(&format!("/flow_runs/{id}/set_state"), &state);
        }
    }
    until("it has ended", &|state| FINAL.contains(&state));
    wait::until("its container has ended", BOUND, || {
        let left = containers_of(id, false);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.concat())
        }
    });
    wait::holds(NOTICE, || {
        let events = find_events(*api, &format!("prefect.flow-run.{id}")).unwrap_or_default();
        events
            .iter()
            .any(|event| event["event"] == "prefect.worker.executed-flow-run")
    });
    // The Python worker leaves it.
    for left in containers_of(id, true) {
        docker(&["rm", "--force", &left]);
    }
    container
}

/// What an engine shows of a container, without what is each one's own.
fn inspect(container: &str) -> Vec<String> {
    let shown: Value = serde_json::from_str(&docker(&["inspect", container])).expect("it is JSON");
    let mut lines = Vec::new();
    for part in ["Config", "HostConfig"] {
        flatten(part, &shown[0][part], &mut lines);
    }
    lines.push(format!("Name {}", shown[0]["Name"]));
    lines.retain(|line| !OWN.iter().any(|own| line.starts_with(own)));
    lines.sort();
    lines
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                flatten(&format!("{path}[]"), item, lines);
            }
        }
        plain => lines.push(format!("{path} {plain}")),
    }
}
