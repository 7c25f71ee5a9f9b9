//! Our worker beside the Python one, on one cluster and one Prefect server: the same flow runs, the same Jobs, the same to see.

mod differences;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::{
    files::root,
    http::Api,
    prefect::{PrefectServer, Python},
    program::{Program, Running},
    stage::{FINAL, merge},
    wait,
};

use self::differences::DIFFERENCES;
use crate::{
    PROGRAM,
    cluster_api::ClusterApi,
    compare::gaps,
    expected::Expected,
    stage::{NAMESPACE, create_pool, kubectl, make_namespace, pod_template, text, worker_of},
    story::{Names, Reader, Story, find_events},
};

/// How long a cold Python in a pod may take on a busy machine.
const BOUND: Duration = Duration::from_mins(5);

/// How long the word about the last pod may take; a Python worker does not always give it.
const NOTICE: Duration = Duration::from_secs(15);

/// What each Job has of its own, from the cluster or by its name.
const OWN: [&str; 11] = [
    "metadata.creationTimestamp ",
    "metadata.generation ",
    "metadata.labels.prefect.io/deployment-updated ",
    "metadata.managedFields",
    "metadata.name ",
    "metadata.resourceVersion ",
    "metadata.uid ",
    "spec.selector.",
    "spec.template.metadata.labels.controller-uid ",
    "spec.template.metadata.labels.job-name ",
    "spec.template.metadata.labels.prefect.io/deployment-updated ",
];

/// Where the flows are in a pod.
const FLOWS: &str = "/opt/prefect/flows";

/// What the names of events about pods begin with.
const POD_EVENT: &str = "prefect.kubernetes.pod.";

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
    fields: Value,
    /// Whether it is cancelled while it runs.
    is_cancelled: bool,
}

// === impl Kind ===

impl Kind {
    /// The names of its pool and of its worker.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Python => ("pool-python", "Taker python"),
            Self::Ours => ("pool-ours", "Taker ours"),
        }
    }

    /// Its program, which has to be there as long as it runs.
    fn program(self, api: &Api, python: &Python) -> Program {
        match self {
            Self::Python => {
                let program = Program::new(&python.bin().join("prefect").display().to_string());
                worker_of(program, api)
                    .with("VIRTUAL_ENV", python.root().display().to_string())
                    .with("PATH", python.path())
                    .with(
                        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES",
                        format!("[\"{NAMESPACE}\"]"),
                    )
            }
            Self::Ours => worker_of(Program::new(PROGRAM), api),
        }
    }

    fn start(self, program: &Program) -> Running {
        let (pool, name) = self.names();
        let mut arguments = vec!["--pool", pool, "--type", "kubernetes", "--name", name];
        if self == Self::Python {
            arguments.splice(..0, ["worker", "start"]);
        }
        program.start(&arguments)
    }
}

// === functions ===

fn scenarios() -> Vec<Scenario> {
    let scenario = |name, flow| Scenario {
        name,
        flow,
        fields: json!({}),
        is_cancelled: false,
    };
    let mut configured = scenario("completes, with job variables", "hello");
    configured.fields = json!({"parameters": {"name": "you"}, "job_variables": {
        "labels": {"my.org/team": "Größe & Co"},
        "annotations": {"note/of": "what it is for"},
        "env": {"GREETING": "hello"},
        "name": "my-name",
        "memory_limit": "2Gi",
        "cpu_request": "50m",
        "finished_job_ttl": 600,
    }});
    let mut cancelled = scenario("cancelled", "sleeps");
    cancelled.is_cancelled = true;
    vec![configured, scenario("dies", "exits"), cancelled]
}

#[test]
fn the_python_worker_and_ours_make_the_same_jobs_and_tell_the_same_of_them() {
    let python = Python::installed();
    let server = PrefectServer::start(&python);
    let cluster = ClusterApi::open();
    make_namespace(NAMESPACE);
    let theirs = play(server.api(), &cluster, &python, Kind::Python);
    let ours = play(server.api(), &cluster, &python, Kind::Ours);
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
    findings.extend(play_both(server.api(), &python));
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// All scenarios with one worker, as they could be seen.
fn play(
    api: Api,
    cluster: &ClusterApi,
    python: &Python,
    kind: Kind,
) -> BTreeMap<&'static str, Story> {
    let (pool, name) = kind.names();
    create_pool(&api, pool, &template(python));
    let mut names = Names::default();
    let id = api.get(&format!("/work_pools/{pool}"))["id"].clone();
    for (name, placeholder) in [
        (pool, "POOL"),
        (id.as_str().expect("it has an id"), "POOL-ID"),
        (name, "WORKER"),
        (&name.replace(' ', "-"), "WORKER-LABEL"),
        (&name.to_lowercase().replace(' ', "-"), "WORKER-SLUG"),
        (&api.url(), "API-URL"),
    ] {
        names.hide(name, placeholder);
    }
    let program = kind.program(&api, python);
    let running = kind.start(&program);
    let played = scenarios();
    // All at once: most of the time they only wait.
    let runs: Vec<String> = played
        .iter()
        .map(|scenario| begin(&api, pool, scenario))
        .collect();
    // Ours removes a Job when its end is known.
    let jobs: Vec<Value> = runs
        .iter()
        .map(|run| wait_for_job(cluster, run, &running))
        .collect();
    for ((scenario, run), job) in played.iter().zip(&runs).zip(&jobs) {
        follow(&api, scenario, run, &running);
        // The Python worker leaves it.
        let name = text(&job["metadata"]["name"]);
        kubectl(&["delete", "job", &name, "--ignore-not-found", "--wait=false"]);
    }
    let reader = Reader::when_settled(api);
    let seen = played.iter().zip(runs).zip(jobs);
    seen.map(|((scenario, run), job)| (scenario.name, tell(&api, &reader, &names, &run, &job)))
        .collect()
}

/// With both workers at work each of them sees the pods of the other. What is told twice.
fn play_both(api: Api, python: &Python) -> Vec<String> {
    let programs = [Kind::Python, Kind::Ours].map(|kind| (kind, kind.program(&api, python)));
    let running = programs
        .each_ref()
        .map(|(kind, program)| kind.start(program));
    let scenario = &scenarios()[0];
    let runs = [Kind::Python, Kind::Ours].map(|kind| begin(&api, kind.names().0, scenario));
    for (run, worker) in runs.iter().zip(&running) {
        follow(&api, scenario, run, worker);
    }
    Reader::when_settled(api);
    let mut findings = Vec::new();
    for run in runs {
        let told = pod_events(api, &run);
        let told: Vec<String> = told.iter().map(|event| text(&event["event"])).collect();
        let expected = ["pending", "running", "succeeded"];
        let expected = expected.map(|phase| format!("{POD_EVENT}{phase}"));
        if told != expected {
            findings.push(format!("seen by both: {told:?}"));
        }
    }
    findings
}

/// What was told of the pods of a flow run, each event after the one that it follows.
fn pod_events(api: Api, run: &str) -> Vec<Value> {
    let events = find_events(api, &format!("prefect.flow-run.{run}")).unwrap_or_default();
    let of_pod = |event: &Value| text(&event["event"]).starts_with(POD_EVENT);
    let mut open: Vec<Value> = events.into_iter().filter(of_pod).collect();
    let mut chain: Vec<Value> = Vec::new();
    while let Some(next) = open.iter().position(|event| {
        let leader = &event["follows"];
        leader.is_null() || chain.iter().any(|before| before["id"] == *leader)
    }) {
        chain.push(open.remove(next));
    }
    chain.extend(open);
    chain
}

/// What was told of a pod, with the order in which it was.
fn pod_lines(events: &[Value]) -> Vec<String> {
    let line = |event: &Value| {
        let leader = events.iter().find(|one| one["id"] == event["follows"]);
        let leader = leader.map_or_else(|| event["follows"].to_string(), |one| text(&one["event"]));
        let made = text(&event["id"]).chars().nth(14);
        // A cluster's clock has no parts of a second.
        let is_whole = !text(&event["occurred"]).contains('.');
        format!(
            "{} after {leader}, with an id of kind {made:?}, by the clock of the cluster: {is_whole}",
            text(&event["event"])
        )
    };
    events.iter().map(line).collect()
}

/// What could be seen of a flow run, its Job among it.
fn tell(api: &Api, reader: &Reader, names: &Names, run: &str, job: &Value) -> Story {
    let mut names = names.clone();
    let seen = api.get(&format!("/flow_runs/{run}"));
    if let Some((_, job)) = text(&seen["infrastructure_pid"]).rsplit_once(':') {
        names.hide(job, "JOB");
    }
    let deployment = text(&seen["deployment_id"]);
    let deployed = api.get(&format!("/deployments/{deployment}"));
    names.hide(deployment, "DEPLOYMENT-ID");
    names.hide(text(&deployed["name"]), "DEPLOYMENT");
    let told = pod_events(*api, run);
    for event in &told {
        names.hide(text(&event["resource"]["prefect.resource.name"]), "POD");
    }
    let mut story = reader.read(run, &names);
    story.insert("pod events".to_owned(), pod_lines(&told));
    names.hide(run, "RUN-ID");
    names.hide(text(&seen["name"]), "RUN");
    story.insert("job".to_owned(), manifest(job));
    let lines = story.values_mut().flatten();
    lines.for_each(|line| *line = names.hidden(line));
    story
}

/// A template whose pods have this machine's Python, and the flows of `flows.py`.
fn template(python: &Python) -> Value {
    let base = std::fs::canonicalize(python.bin().join("python")).expect("there is a Python");
    let base = base.ancestors().nth(2).expect("it is in a bin").to_owned();
    let python_root = std::fs::canonicalize(python.root()).expect("it is there");
    let flows = root().join("tests/docker");
    let mut mounts = vec![
        ("/usr".into(), "/usr".to_owned()),
        (flows, FLOWS.to_owned()),
    ];
    for folder in [&base, &python_root] {
        if !folder.starts_with("/usr") {
            mounts.push((folder.clone(), folder.display().to_string()));
        }
    }
    let mut template = pod_template();
    let variables = &mut template["variables"]["properties"];
    let path = format!(
        "{}/bin:{}",
        python_root.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for (name, value) in [
        ("image", json!("worker-test/python:1")),
        ("image_pull_policy", json!("Never")),
        ("env", json!({ "PATH": path })),
    ] {
        variables[name]["default"] = value;
    }
    let pod = &mut template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"];
    let numbered = || mounts.iter().enumerate();
    pod["volumes"] = numbered()
        .map(|(number, (path, _))| json!({"name": format!("at-{number}"), "hostPath": {"path": path}}))
        .collect();
    pod["containers"][0]["volumeMounts"] = numbered()
        .map(|(number, (_, path))| json!({"name": format!("at-{number}"), "mountPath": path, "readOnly": true}))
        .collect();
    template
}

/// Makes the flow run of a scenario; its id.
fn begin(api: &Api, pool: &str, scenario: &Scenario) -> String {
    let step = json!({"prefect.deployments.steps.set_working_directory": {"directory": FLOWS}});
    let mut fields = json!({
        "flow": scenario.flow,
        "entrypoint": format!("flows.py:{}", scenario.flow),
        "pull_steps": [step],
        "tags": ["seen"],
    });
    merge(&mut fields, &scenario.fields);
    worker_tests::stage::run(api, pool, &fields)
}

/// The Job of a flow run.
fn wait_for_job(cluster: &ClusterApi, run: &str, worker: &Running) -> Value {
    wait::until("it has a Job", BOUND, || {
        let job = cluster.of_run("jobs", run).pop();
        job.ok_or_else(|| format!("{} {}", worker.stdout(), worker.stderr()))
    })
}

/// Plays a scenario to its end.
fn follow(api: &Api, scenario: &Scenario, run: &str, worker: &Running) {
    let state = || text(&api.get(&format!("/flow_runs/{run}"))["state"]["name"]);
    if scenario.is_cancelled {
        wait::until("the flow has begun", BOUND, || {
            let filter = json!({"logs": {"flow_run_id": {"any_": [run]}}});
            let log = api.post("/logs/filter", &filter).to_string();
            if log.contains("sleeping") {
                Ok(())
            } else {
                Err(format!("{log} {}", worker.stderr()))
            }
        });
        let state = json!({"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": false});
        api.post(&format!("/flow_runs/{run}/set_state"), &state);
    }
    wait::until("it has ended", BOUND, || {
        let state = state();
        if FINAL.contains(&state.as_str()) {
            return Ok(());
        }
        Err(format!("{state}; {} {}", worker.stdout(), worker.stderr()))
    });
    wait::holds(NOTICE, || {
        let ends = ["succeeded", "failed", "evicted"];
        pod_events(*api, run).iter().any(|event| {
            let name = text(&event["event"]);
            let end = name.strip_prefix(POD_EVENT);
            end.is_some_and(|end| ends.contains(&end))
        })
    });
}

/// What a Job is, without what is each one's own.
fn manifest(job: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for part in ["apiVersion", "kind", "metadata", "spec"] {
        flatten(part, &job[part], &mut lines);
    }
    lines.retain(|line| !OWN.iter().any(|own| line.starts_with(own)));
    lines.sort();
    lines
}

/// Each plain value with its path. What has a name in a list is known by it.
fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let name = item["name"].as_str().unwrap_or_default();
                flatten(&format!("{path}[{name}]"), item, lines);
            }
        }
        plain => lines.push(format!("{path} {plain}")),
    }
}
