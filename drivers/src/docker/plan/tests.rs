use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;
use worker_config::policy::Policy;

use super::{Plan, plan};
use crate::{
    docker::{DockerSettings, EnvironmentMode, PullPolicy},
    driver::DriverError,
    job::{Environment, Job, Owner, Program, RunKey},
};

fn job(configuration: &Value) -> Job {
    Job {
        key: RunKey {
            flow_run: Uuid::nil(),
            attempt: 2,
        },
        owner: Owner("pool/ada".to_owned()),
        name: "Blue Whale".to_owned(),
        program: Program::Execute,
        environment: Environment(BTreeMap::from([
            (
                "PREFECT_API_URL".to_owned(),
                "http://api:4200/api".to_owned(),
            ),
            ("SECRET".to_owned(), "canary".to_owned()),
        ])),
        labels: BTreeMap::from([(
            "prefect.io/flow-run-name".to_owned(),
            "Blue Whale".to_owned(),
        )]),
        configuration: configuration.as_object().expect("an object").clone(),
        workspace: None,
    }
}

fn settings() -> DockerSettings {
    DockerSettings {
        version: "3.8.8".to_owned(),
        default_image: "prefecthq/prefect:3.8.8-python3.12".to_owned(),
        api_url: Some("http://api:4200/api".to_owned()),
        current_dir: PathBuf::from("/srv"),
        bind_workspace: false,
    }
}

fn planned(job: &Job) -> Plan {
    plan(
        job,
        &Policy::default(),
        &settings(),
        EnvironmentMode::Container,
    )
    .unwrap()
}

fn body(plan: &Plan) -> Value {
    serde_json::to_value(&plan.body.0).unwrap()
}

#[test]
fn a_plain_job_is_a_container_with_prefects_runner() {
    let plan = planned(&job(&json!({})));
    assert_eq!(plan.name.as_deref(), Some("Blue-Whale"));
    assert_eq!(plan.pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(
        body(&plan),
        json!({
            "AttachStderr": true, "AttachStdin": false, "AttachStdout": true,
            "Cmd": ["prefect", "flow-run", "execute"],
            "Env": ["PREFECT_API_URL=http://api:4200/api", "SECRET=canary"],
            "HostConfig": {},
            "Image": "prefecthq/prefect:3.8.8-python3.12",
            "Labels": {
                "io.prefect.flow-run-name": "Blue Whale",
                "io.prefect.version": "3.8.8",
                "io.prefect-worker.job": "00000000-0000-0000-0000-000000000000.2",
                "io.prefect-worker.owner": "pool/ada",
                "io.prefect-worker.program": "runner",
            },
            "NetworkDisabled": false, "OpenStdin": false, "StdinOnce": false, "Tty": false,
        })
    );
}

#[test]
fn everything_a_person_asks_for_is_asked_of_the_engine() {
    let plan = planned(&job(&json!({
        "image": "reg:5000/a",
        "networks": ["one", "two"],
        "volumes": ["./data:/data:ro", "/cache"],
        "mem_limit": "64m",
        "memswap_limit": "-1",
        "privileged": true,
        "auto_remove": true,
        "container_create_kwargs": {
            "shm_size": "1g", "init": true, "user": 1000, "platform": "linux/arm64",
            "extra_hosts": {"db": "10.0.0.1"},
        },
    })));
    assert_eq!(plan.image, "reg:5000/a:latest");
    assert_eq!(plan.pull_policy, PullPolicy::Always);
    assert_eq!(plan.platform.as_deref(), Some("linux/arm64"));
    assert_eq!(plan.more_networks, ["two"]);
    let body = body(&plan);
    assert_eq!(
        body["HostConfig"],
        json!({
            "Binds": ["/srv/data:/data:ro", "/cache"],
            "ExtraHosts": ["db:10.0.0.1"],
            "Init": true, "Memory": 64 << 20, "MemorySwap": -1,
            "NetworkMode": "one", "Privileged": true, "ShmSize": 1 << 30,
        })
    );
    assert_eq!(body["Volumes"], json!({"/data": {}, "/cache": {}}));
    assert_eq!(body["User"], "1000");
}

#[test]
fn the_engine_alone_runs_where_the_code_was_put() {
    let mut job = job(&json!({}));
    job.program = Program::Engine {
        entrypoint: "flows.py:hello".to_owned(),
    };
    job.workspace = Some(PathBuf::from("/var/lib/worker/workspaces/x"));
    let plan = planned(&job);
    assert_eq!(plan.workspace, job.workspace);
    let body = body(&plan);
    assert_eq!(
        body["Cmd"],
        json!(["python", "-c", include_str!("../engine.py")])
    );
    assert_eq!(body["WorkingDir"], "/opt/prefect/workspace");
    let env = body["Env"].as_array().unwrap();
    assert!(env.contains(&json!("PREFECT__FLOW_ENTRYPOINT=flows.py:hello")));
    assert!(env.contains(&json!("PYTHONPATH=/opt/prefect/workspace")));
}

#[test]
fn a_hidden_environment_is_no_part_of_the_container() {
    let job = job(&json!({}));
    let plan = plan(&job, &Policy::default(), &settings(), EnvironmentMode::File).unwrap();
    assert_eq!(body(&plan).get("Env"), None);
    assert_eq!(plan.hidden_environment.as_ref(), Some(&job.environment));
    assert!(!format!("{plan:?}").contains("canary"));
}

#[test]
fn printing_a_plan_shows_no_value() {
    let mut job = job(&json!({"container_create_kwargs": {"hostname": "canary"}}));
    job.program = Program::Command {
        line: "echo canary".to_owned(),
        engine: false,
    };
    let text = format!("{:?}", planned(&job));
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("SECRET"), "{text}");
}

#[test]
fn what_cannot_be_is_refused() {
    for (configuration, field) in [
        (json!({"mem_limit": "1GiB"}), "mem_limit"),
        (
            json!({"container_create_kwargs": {"nonsense": 1}}),
            "container_create_kwargs.nonsense",
        ),
    ] {
        let job = job(&configuration);
        let error = plan(
            &job,
            &Policy::default(),
            &settings(),
            EnvironmentMode::Container,
        );
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    let mut job = job(&json!({}));
    job.program = Program::Command {
        line: " ".to_owned(),
        engine: false,
    };
    let error = plan(
        &job,
        &Policy::default(),
        &settings(),
        EnvironmentMode::Container,
    )
    .unwrap_err();
    assert!(matches!(error, DriverError::Invalid { .. }), "{error:?}");
    let policy = Policy {
        allow_command: false,
        ..Policy::default()
    };
    let error = plan(&job, &policy, &settings(), EnvironmentMode::Container).unwrap_err();
    assert!(matches!(error, DriverError::Denied { .. }), "{error:?}");
}
