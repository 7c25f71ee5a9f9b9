use serde_json::json;

use super::*;

fn flow_run(job_variables: &Value) -> FlowRun {
    let id = uuid::Uuid::new_v4();
    serde_json::from_value(json!({
        "id": id, "name": "quiet-owl", "flow_id": id, "job_variables": job_variables,
    }))
    .unwrap()
}

fn deployment(entrypoint: Option<&str>, job_variables: &Value) -> Deployment {
    let id = uuid::Uuid::new_v4();
    serde_json::from_value(json!({
        "id": id, "name": "nightly", "flow_id": id, "entrypoint": entrypoint, "job_variables": job_variables,
    }))
    .unwrap()
}

#[test]
fn a_job_that_was_left_is_a_plain_command_or_not_as_it_was_written() {
    let nothing = json!({});
    let plain = json!({"plain_command": true});
    let failing = json!({"plain_command": true, "exit_state": "failed"});
    let by_default = json!({"variables": {"properties": {"plain_command": {"default": true}}}});
    let engine = Reporter::Engine;
    let worker = |failed| Reporter::Worker { failed };
    for (of_flow_run, entrypoint, of_deployment, template, wanted) in [
        (&nothing, Some("flow.py:main"), &nothing, &nothing, engine),
        (&nothing, None, &nothing, &nothing, worker(false)),
        (
            &nothing,
            Some("flow.py:main"),
            &plain,
            &nothing,
            worker(false),
        ),
        (
            &failing,
            Some("flow.py:main"),
            &plain,
            &nothing,
            worker(true),
        ),
        (
            &json!({"plain_command": false}),
            Some("flow.py:main"),
            &plain,
            &nothing,
            engine,
        ),
        (
            &nothing,
            Some("flow.py:main"),
            &nothing,
            &by_default,
            worker(false),
        ),
    ] {
        let flow_run = flow_run(of_flow_run);
        let deployment = deployment(entrypoint, of_deployment);
        assert_eq!(
            manner(&flow_run, Some(&deployment), template),
            (wanted, wanted != engine),
            "{of_flow_run} {entrypoint:?} {of_deployment} {template}"
        );
    }
}

#[test]
fn a_flow_run_without_a_deployment_is_a_plain_command() {
    let flow_run = flow_run(&Value::Null);
    let wanted = Reporter::Worker { failed: false };
    assert_eq!(manner(&flow_run, None, &Value::Null), (wanted, true));
}

#[test]
fn output_that_was_turned_off_stays_off() {
    let flow_run = flow_run(&json!({"stream_output": false}));
    let deployment = deployment(None, &json!({"stream_output": true}));
    let (_, shown) = manner(&flow_run, Some(&deployment), &Value::Null);
    assert!(!shown);
}
