//! The same job that Prefect's own worker would run: resolution held against a corpus that the reference made.
//!
//! `tests/golden/README.md` says how the corpus is made, and how it is compared with another release.

mod corpus;
mod deliberate;
mod difference;

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use worker_config::{
    DriverKind,
    resolution::{self, Inputs, Resolution, Resolved},
    template::Lookups,
};
use worker_drivers::{
    Environment, Job, Owner, Program,
    docker::{self, DockerSettings},
    kubernetes::{self, KubernetesSettings},
    subprocess,
};

use crate::{
    corpus::{Case, Common, object},
    deliberate::DELIBERATE,
    difference::{canonical, lines},
};

#[test]
fn a_process_job_is_the_one_the_reference_runs() {
    hold(DriverKind::Process, |case, resolved, _| {
        let options = subprocess::Options::read(&resolved.configuration).map_err(text)?;
        // A process also gets what its worker's own environment has.
        let mut environment = case.texts("environment");
        environment.extend(resolved.environment);
        Ok(json!({
            "command": resolved.command,
            "env": environment,
            "labels": resolved.labels,
            "name": resolved.name,
            "stream_output": options.stream_output,
            "working_dir": options.working_dir.as_deref().map(as_python_writes_it),
        }))
    });
}

#[test]
fn a_docker_job_is_the_one_the_reference_runs() {
    hold(DriverKind::Docker, |case, resolved, common| {
        let settings = DockerSettings {
            version: corpus::RELEASE.to_owned(),
            default_image: common.default_image().to_owned(),
            api_url: case.get("settings")["PREFECT_API_URL"]
                .as_str()
                .map(str::to_owned),
            current_dir: corpus::text_of(case.get("directory")).into(),
        };
        let job = job(case, resolved);
        let stream_output = docker::Options::read(&job.configuration)
            .map_err(text)?
            .stream_output;
        let docker::Prepared {
            image,
            pull_policy,
            registry_credentials,
            name,
            arguments,
            environment,
            labels,
            networks,
            network_mode,
            extra_hosts,
            volumes,
            mem_limit,
            memswap_limit,
            privileged,
            auto_remove,
            create_kwargs,
        } = docker::prepare(&job, &settings).map_err(text)?;
        Ok(json!({
            "image": image,
            "pull_policy": pull_policy.as_str(),
            "registry_credentials": registry_credentials.map(|one| json!({
                "username": one.username,
                "password": one.password.expose(),
                "registry_url": one.registry_url,
                "reauth": one.reauth,
            })),
            "name": name,
            "command": arguments,
            "environment": environment.0,
            "labels": labels,
            "network": networks.first(),
            "networks": networks,
            "network_mode": network_mode,
            "extra_hosts": extra_hosts,
            "volumes": volumes,
            "mem_limit": mem_limit,
            "memswap_limit": memswap_limit,
            "privileged": privileged,
            "auto_remove": auto_remove,
            "stream_output": stream_output,
            "create_kwargs": create_kwargs.0,
        }))
    });
}

#[test]
fn a_kubernetes_job_is_the_one_the_reference_runs() {
    hold(DriverKind::Kubernetes, |case, resolved, common| {
        let settings = KubernetesSettings {
            default_image: common.default_image().to_owned(),
            ..KubernetesSettings::default()
        };
        let job = job(case, resolved);
        let options = kubernetes::Options::read(&job.configuration).map_err(text)?;
        let kubernetes::Prepared {
            manifest,
            namespace,
            cluster,
        } = kubernetes::prepare(&job, &settings).map_err(text)?;
        Ok(json!({
            "job_manifest": manifest,
            "namespace": namespace,
            "name": job.name,
            "cluster_config": cluster.map(|one| json!({
                "config": one.config,
                "context_name": one.context_name,
            })),
            "job_watch_timeout_seconds": options.job_watch_timeout_seconds,
            "pod_watch_timeout_seconds": options.pod_watch_timeout_seconds,
            "stream_output": options.stream_output,
        }))
    });
}

/// The job that the worker makes of what was resolved, where it leaves the pull steps to the job.
fn job(case: &Case, resolved: Resolved) -> Job {
    let Resolved {
        command,
        name,
        environment,
        labels,
        configuration,
        variables: _,
    } = resolved;
    let flow_run = case.get("flow_run")["id"].as_str().expect("it has an id");
    Job {
        key: format!("{flow_run}.1")
            .parse()
            .expect("it is the key of an attempt"),
        owner: Owner("owner".to_owned()),
        name,
        program: command.map_or(Program::Execute, |line| Program::Command {
            line,
            engine: true,
        }),
        environment: Environment(environment),
        labels,
        configuration,
        workspace: None,
    }
}

/// Runs every case of a kind, and shows each that differs without being meant to, or is meant to and does not.
fn hold(kind: DriverKind, finish: impl Fn(&Case, Resolved, &Common) -> Result<Value, String>) {
    let common = Common::read();
    let cases = common.cases(kind);
    let mut failures = Vec::new();
    for case in &cases {
        let got = resolve(kind, case).and_then(|resolved| finish(case, resolved, &common));
        let meant = DELIBERATE.iter().find(|one| one.is_about(kind, &case.name));
        let problem = match (agrees(&case.expected, &got), meant) {
            (true, None) | (false, Some(_)) => continue,
            (true, Some(meant)) => format!("is as the reference's, although: {}", meant.reason),
            (false, None) => report(&case.expected, &got),
        };
        failures.push(format!(
            "{kind} {}\ngiven {}\n{problem}\n",
            case.name,
            canonical(&case.said)
        ));
    }
    let shown: Vec<&str> = failures.iter().take(20).map(String::as_str).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail\n\n{}",
        failures.len(),
        cases.len(),
        shown.join("\n")
    );
}

fn agrees(expected: &Result<Value, String>, got: &Result<Value, String>) -> bool {
    match (expected, got) {
        (Ok(expected), Ok(got)) => canonical(expected) == canonical(got),
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

fn report(expected: &Result<Value, String>, got: &Result<Value, String>) -> String {
    match (expected, got) {
        (Ok(expected), Ok(got)) => lines(expected, got).join("\n"),
        (Ok(expected), Err(got)) => {
            format!("expected {}\n     got an error: {got}", canonical(expected))
        }
        (Err(expected), Ok(got)) => {
            format!("expected an error: {expected}\n     got {}", canonical(got))
        }
        (Err(_), Err(_)) => String::new(),
    }
}

/// Resolves a case as the worker does, asking for what is missing until nothing is.
fn resolve(kind: DriverKind, case: &Case) -> Result<Resolved, String> {
    let environment = case.texts("environment");
    let settings: BTreeMap<String, String> = case.texts("settings");
    let read = |name: &str| environment.get(name).cloned();
    let variables = |key: &str| object(case.get(key)).clone();
    let (deployed, given) = (
        variables("deployment_variables"),
        variables("flow_run_variables"),
    );
    let deployment = case.get("deployment");
    let inputs = Inputs {
        kind,
        template: case.get("template"),
        flow_run: resolution::FlowRun {
            named: named(case.get("flow_run")),
            job_variables: &given,
            json: case.get("flow_run"),
        },
        flow: resolution::Flow {
            named: named(case.get("flow")),
            json: case.get("flow"),
        },
        deployment: (!deployment.is_null()).then(|| resolution::Deployment {
            named: named(deployment),
            updated: deployment["updated"]
                .as_str()
                .map(|time| time.parse().expect("the corpus has real times")),
            job_variables: &deployed,
        }),
        pool: named(case.get("pool")),
        worker: resolution::Worker {
            id: case.get("worker")["id"].as_str(),
            name: named_only(case.get("worker")),
        },
        settings: &settings,
        version: corpus::RELEASE,
        environment: &read,
    };
    let mut lookups = Lookups::default();
    loop {
        match resolution::resolve(&inputs, &lookups).map_err(text)? {
            Resolution::Done(resolved) => return Ok(*resolved),
            Resolution::Needs(references) => {
                let before = canonical_lookups(&lookups);
                lookups.extend(case.look_up(&references));
                assert_ne!(
                    before,
                    canonical_lookups(&lookups),
                    "{}: asks twice",
                    case.name
                );
            }
        }
    }
}

fn canonical_lookups(lookups: &Lookups) -> String {
    format!("{lookups:?}")
}

fn named(value: &Value) -> resolution::Named<'_> {
    resolution::Named {
        id: value["id"].as_str().expect("it has an id"),
        name: named_only(value),
    }
}

fn named_only(value: &Value) -> &str {
    value["name"].as_str().expect("it has a name")
}

/// `pathlib` leaves out what leads nowhere, and has a name for the place where one is.
fn as_python_writes_it(path: &Path) -> String {
    let components = path.components();
    let kept: std::path::PathBuf = components
        .filter(|part| *part != std::path::Component::CurDir)
        .collect();
    let kept = kept.to_string_lossy().into_owned();
    if kept.is_empty() {
        ".".to_owned()
    } else {
        kept
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}
