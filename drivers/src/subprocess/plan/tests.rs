use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;

use worker_config::policy::Policy;

use super::{DEFAULT_PATH, Directory, Launch, Plan, plan};
use crate::{
    conformance::fresh_key,
    driver::DriverError,
    job::{Environment, Job, Owner, Program},
    subprocess::SubprocessOptions,
};

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment(
        variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

fn job(program: Program) -> Job {
    Job {
        key: fresh_key(),
        owner: Owner("me".to_owned()),
        name: "hello".to_owned(),
        program,
        environment: environment(&[("PREFECT__FLOW_RUN_ID", "r")]),
        labels: BTreeMap::new(),
        configuration: serde_json::Map::new(),
        workspace: None,
    }
}

fn engine() -> Program {
    Program::Engine {
        entrypoint: "flows.py:hello".to_owned(),
    }
}

fn command(line: &str) -> Program {
    Program::Command {
        line: line.to_owned(),
        engine: false,
    }
}

fn settings() -> SubprocessOptions {
    let mut settings =
        SubprocessOptions::new("/jobs", environment(&[("PATH", "/bin"), ("TOKEN", "t")]));
    settings.current_dir = PathBuf::from("/worker");
    settings
}

fn planned(job: &Job) -> Result<Plan, DriverError> {
    plan(
        job,
        &Policy::default(),
        &settings(),
        PathBuf::from("/jobs/mine"),
    )
}

#[test]
fn a_flow_runs_the_engine_where_its_code_is() {
    let mut job = job(engine());
    job.workspace = Some(PathBuf::from("/pulled/repo"));
    job.configuration
        .insert("working_dir".to_owned(), json!("/base"));
    let key = job.key;
    assert_eq!(
        planned(&job).expect("it can be planned"),
        Plan {
            key,
            owner: Owner("me".to_owned()),
            name: "hello".to_owned(),
            launch: Launch::Python {
                interpreter: None,
                arguments: vec!["-m".to_owned(), "prefect.engine".to_owned()],
            },
            directory: Directory::Given {
                path: PathBuf::from("/pulled/repo"),
                field: "workspace"
            },
            environment: environment(&[
                ("PATH", "/bin"),
                ("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true"),
                ("PREFECT__FLOW_ENTRYPOINT", "flows.py:hello"),
                ("PREFECT__FLOW_RUN_ID", "r"),
                ("PYTHONPATH", "/pulled/repo"),
                ("TOKEN", "t"),
            ]),
            control_session: true,
            hooks: true,
        }
    );
}

#[test]
fn a_command_runs_where_it_was_configured_to() {
    let mut job = job(command("make 'all of it'"));
    job.workspace = Some(PathBuf::from("/pulled/repo"));
    let in_workspace = planned(&job).expect("it can be planned");
    assert_eq!(in_workspace.directory.path(), PathBuf::from("/pulled/repo"));
    job.configuration
        .insert("working_dir".to_owned(), json!("flows"));
    let plan = planned(&job).expect("it can be planned");
    assert_eq!(
        plan.launch,
        Launch::Command(vec!["make".to_owned(), "all of it".to_owned()])
    );
    assert_eq!(
        plan.directory,
        Directory::Given {
            path: PathBuf::from("/worker/flows"),
            field: "working_dir"
        }
    );
    assert!(!plan.control_session);
    let names: Vec<_> = plan.environment.0.keys().map(String::as_str).collect();
    assert_eq!(names, ["PATH", "PREFECT__FLOW_RUN_ID", "TOKEN"]);
}

#[test]
fn without_a_directory_a_job_gets_its_own() {
    for program in [engine(), command("true"), Program::Execute] {
        let plan = planned(&job(program)).expect("it can be planned");
        assert_eq!(
            plan.directory,
            Directory::Private(PathBuf::from("/jobs/mine"))
        );
    }
}

#[test]
fn a_command_that_runs_the_engine_is_offered_a_control_session() {
    let program = Program::Command {
        line: "uv run engine".to_owned(),
        engine: true,
    };
    let plan = planned(&job(program)).expect("it can be planned");
    assert!(plan.control_session);
    assert!(
        plan.environment
            .0
            .contains_key("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS")
    );
    assert!(!plan.environment.0.contains_key("PYTHONPATH"));
}

#[test]
fn the_interpreter_is_the_workers_else_that_of_the_virtual_environment() {
    let mut job = job(Program::Execute);
    job.environment
        .0
        .insert("VIRTUAL_ENV".to_owned(), "/venv".to_owned());
    let interpreter = |settings: &SubprocessOptions| {
        let plan = plan(
            &job,
            &Policy::default(),
            settings,
            PathBuf::from("/jobs/mine"),
        );
        match plan.expect("it can be planned").launch {
            Launch::Python {
                interpreter,
                arguments,
            } => {
                assert_eq!(arguments, ["-m", "prefect", "flow-run", "execute"]);
                interpreter
            }
            Launch::Command(_) => panic!("it is not a command"),
        }
    };
    let mut settings = settings();
    assert_eq!(
        interpreter(&settings),
        Some(PathBuf::from("/venv/bin/python"))
    );
    settings.python = Some(PathBuf::from("/opt/python"));
    assert_eq!(interpreter(&settings), Some(PathBuf::from("/opt/python")));
}

#[test]
fn the_job_has_the_last_word_on_its_environment() {
    let mut job = job(engine());
    job.environment.0.extend(
        [("TOKEN", "mine"), ("PYTHONPATH", "/lib")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let plan = planned(&job).expect("it can be planned");
    assert_eq!(plan.environment.0["TOKEN"], "mine");
    assert_eq!(plan.environment.0["PYTHONPATH"], "/jobs/mine:/lib");
}

#[test]
fn what_belongs_to_the_service_is_not_handed_on() {
    let mut settings = settings();
    settings
        .inherit
        .0
        .insert("NOTIFY_SOCKET".to_owned(), "/run/notify".to_owned());
    let plan = plan(
        &job(command("true")),
        &Policy::default(),
        &settings,
        PathBuf::from("/jobs/mine"),
    );
    assert!(
        !plan
            .expect("it can be planned")
            .environment
            .0
            .contains_key("NOTIFY_SOCKET")
    );
}

#[test]
fn policy_can_keep_the_workers_environment_and_commands_away() {
    let policy = Policy {
        inherit_environment: false,
        allow_command: false,
        ..Policy::default()
    };
    let with = |program| {
        plan(
            &job(program),
            &policy,
            &settings(),
            PathBuf::from("/jobs/mine"),
        )
    };
    let names: Vec<_> = with(Program::Execute)
        .expect("it can be planned")
        .environment
        .0
        .into_keys()
        .collect();
    assert_eq!(names, ["PATH", "PREFECT__FLOW_RUN_ID"]);
    assert!(
        matches!(with(command("true")), Err(DriverError::Denied { what, .. }) if what == "command")
    );
}

#[test]
fn a_job_always_has_a_path() {
    let mut settings = settings();
    settings.inherit.0.clear();
    let plan = plan(
        &job(command("true")),
        &Policy::default(),
        &settings,
        PathBuf::from("/jobs/mine"),
    );
    assert_eq!(
        plan.expect("it can be planned").environment.0["PATH"],
        DEFAULT_PATH
    );
}

#[test]
fn a_command_that_cannot_be_split_is_invalid() {
    for (line, reason) in [
        ("a 'b", "command: a quote is not closed"),
        ("  ", "command: it is blank"),
        ("a\0b", "command: it holds a null character"),
    ] {
        let error = planned(&job(command(line))).expect_err("it cannot be planned");
        assert!(matches!(error, DriverError::Invalid { .. }));
        assert_eq!(error.to_string(), reason);
    }
}

#[test]
fn printing_a_plan_tells_no_value() {
    let plan = planned(&job(engine())).expect("it can be planned");
    let printed = format!("{plan:?}");
    assert!(
        printed.contains("TOKEN") && !printed.contains("\"t\""),
        "{printed}"
    );
}

#[test]
fn printing_a_job_or_its_plan_tells_no_resolved_value() {
    const CANARY: &str = "canary-51c0";
    let mut job = job(command(&format!("run --token {CANARY}")));
    job.environment
        .0
        .insert("TOKEN".to_owned(), CANARY.to_owned());
    job.labels.insert("label".to_owned(), CANARY.to_owned());
    job.configuration
        .insert("command".to_owned(), CANARY.into());
    let plan = planned(&job).expect("it can be planned");
    let printed = format!("{job:?} {:#?} {plan:?}", job.program);
    assert!(!printed.contains(CANARY), "{printed}");
    for name in ["TOKEN", "label", "command"] {
        assert!(printed.contains(&format!("\"{name}\"")), "{printed}");
    }
}
