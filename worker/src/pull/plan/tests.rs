use serde_json::json;

use super::*;

fn variables(value: Value) -> Map<String, Value> {
    Map::from_iter([(VARIABLE.to_owned(), value)])
}

fn wish(mode: PullMode) -> Wish {
    Wish::of(mode, &Map::new()).expect("a mode")
}

fn outlook(steps: &Value, inside: bool) -> Outlook {
    let deployment = json!({
        "id": uuid::Uuid::nil(), "name": "d", "flow_id": uuid::Uuid::nil(), "pull_steps": steps,
    });
    let deployment: Deployment = serde_json::from_value(deployment).expect("a deployment");
    Outlook::of(&deployment, inside, false)
}

fn clone() -> Value {
    json!({"prefect.deployments.steps.git_clone": {"repository": "r"}})
}

fn go(directory: &str) -> Value {
    json!({"prefect.deployments.steps.set_working_directory": {"directory": directory}})
}

#[test]
fn a_job_variable_wins_over_the_settings() {
    let wish = Wish::of(PullMode::Job, &variables(json!("worker"))).expect("a mode");
    assert_eq!(wish.mode, PullMode::Worker);
    assert_eq!(wish.to_string(), "the job variable 'pull_mode' is 'worker'");
    let unset = Wish::of(PullMode::Job, &variables(Value::Null)).expect("a mode");
    assert_eq!(unset.to_string(), "pull.mode of this worker is 'job'");
}

#[test]
fn a_mode_that_is_none_is_refused() {
    for wrong in [json!("Worker"), json!(true), json!("")] {
        let error = Wish::of(PullMode::Auto, &variables(wrong)).expect_err("no mode");
        assert_eq!(
            error,
            "the job variable 'pull_mode' must be worker, job or auto"
        );
    }
}

#[test]
fn without_steps_there_is_nothing_to_run_in_any_mode() {
    for mode in [PullMode::Worker, PullMode::Job, PullMode::Auto] {
        for steps in [Value::Null, json!([]), json!([{}])] {
            assert_eq!(outlook(&steps, true).judge(wish(mode)), Verdict::Nothing);
        }
    }
}

#[test]
fn the_worker_runs_steps_unless_it_is_told_otherwise() {
    let outlook = outlook(&json!([clone(), go("sub")]), true);
    assert_eq!(outlook.judge(wish(PullMode::Auto)), Verdict::Worker);
    assert_eq!(outlook.judge(wish(PullMode::Worker)), Verdict::Worker);
    assert_eq!(
        outlook.judge(wish(PullMode::Job)),
        Verdict::Job("pull.mode of this worker is 'job'".to_owned())
    );
}

#[test]
fn directories_of_the_job_are_left_to_it_or_refused() {
    let mixed = outlook(&json!([clone(), go("/opt/prefect")]), true);
    assert!(matches!(mixed.judge(wish(PullMode::Auto)), Verdict::Job(_)));
    let Verdict::Refused(why) = mixed.judge(wish(PullMode::Worker)) else {
        panic!("it must be refused");
    };
    assert!(
        why.starts_with("pull.mode of this worker is 'worker', and"),
        "{why}"
    );
    let baked = outlook(&json!([go("/opt/prefect")]), true);
    assert_eq!(baked.judge(wish(PullMode::Worker)), Verdict::Nothing);
    let here = outlook(&json!([clone(), go("/opt/prefect")]), false);
    assert_eq!(here.judge(wish(PullMode::Worker)), Verdict::Worker);
}

#[test]
fn a_command_that_pulls_for_itself_is_left_to_or_refused() {
    let delegated = Outlook {
        delegated: true,
        ..outlook(&json!([clone()]), false)
    };
    assert!(matches!(
        delegated.judge(wish(PullMode::Auto)),
        Verdict::Job(_)
    ));
    assert!(matches!(
        delegated.judge(wish(PullMode::Worker)),
        Verdict::Refused(_)
    ));
}
