//! Every transition, against the table that a real Prefect server filled in (`reference/transitions.py`).

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, id, in_seconds};

const TABLE: &str = include_str!("../reference/transitions.tsv");

/// One row: a question, and what was answered.
struct Row<'a> {
    from: &'a str,
    to: &'a str,
    variants: Vec<&'a str>,
    answer: Vec<&'a str>,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    // The first line names the release, the second the columns.
    TABLE.lines().skip(2).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        Row {
            from: cells[0],
            to: cells[1],
            variants: cells[2].split(',').collect(),
            answer: cells[3..].to_vec(),
        }
    })
}

fn state(kind: &str, name: Option<&str>, details: &Value) -> Value {
    json!({ "type": kind, "name": name, "state_details": details })
}

/// How a run gets into the state it leaves: its infrastructure, its retries, and the states it is forced into.
fn way_to(from: &str) -> (Option<&str>, Option<u32>, Vec<Value>) {
    let plain = |kind| state(kind, None, &json!({}));
    let result =
        json!({ "type": "COMPLETED", "data": { "type": "reference", "storage_key": "k" } });
    let late = state("SCHEDULED", Some("Late"), &json!({}));
    let retry = state("SCHEDULED", Some("AwaitingRetry"), &json!({}));
    let resuming = state("SCHEDULED", Some("Resuming"), &json!({}));
    let submitting = state("PENDING", Some("Submitting"), &json!({}));
    let hour = json!({ "scheduled_time": in_seconds(3600) });
    let paused = json!({ "pause_key": "a", "pause_timeout": in_seconds(300) });
    let suspended = json!({ "pause_reschedule": true, "pause_timeout": in_seconds(300) });
    let expired = json!({ "pause_timeout": in_seconds(-300) });
    let running = || plain("RUNNING");
    match from {
        "SCHEDULED" => (None, None, vec![]),
        "SCHEDULED in an hour" => (None, None, vec![state("SCHEDULED", None, &hour)]),
        "SCHEDULED with infrastructure" => (Some("123"), None, vec![]),
        "SCHEDULED AwaitingRetry" => (Some("123"), None, vec![running(), retry]),
        "SCHEDULED Late" => (None, None, vec![late]),
        "SCHEDULED Resuming" => (Some("123"), None, vec![resuming]),
        "PENDING" => (None, None, vec![plain("PENDING")]),
        "PENDING in an hour" => (None, None, vec![state("PENDING", None, &hour)]),
        "PENDING Submitting" => (None, None, vec![plain("PENDING"), submitting]),
        "RUNNING" => (Some("123"), None, vec![plain("PENDING"), running()]),
        "RUNNING with a retry left" => (Some("123"), Some(1), vec![running()]),
        "RUNNING with no retry left" => {
            let steps = vec![running(), plain("SCHEDULED"), running()];
            (Some("123"), Some(1), steps)
        }
        "PAUSED" => (
            Some("123"),
            None,
            vec![running(), state("PAUSED", None, &paused)],
        ),
        "PAUSED Suspended" => {
            let suspended = state("PAUSED", Some("Suspended"), &suspended);
            (Some("123"), None, vec![running(), suspended])
        }
        "PAUSED too long" => (
            Some("123"),
            None,
            vec![running(), state("PAUSED", None, &expired)],
        ),
        "COMPLETED with a result" => (Some("123"), None, vec![running(), result]),
        "CANCELLING" | "COMPLETED" | "FAILED" | "CRASHED" | "CANCELLED" => {
            (Some("123"), None, vec![running(), plain(from)])
        }
        other => panic!("the table has a state that the test cannot make: {other}"),
    }
}

fn target(to: &str) -> Value {
    match to {
        "PAUSED" => state("PAUSED", None, &json!({ "pause_key": "b" })),
        "PAUSED again" => state("PAUSED", None, &json!({ "pause_key": "a" })),
        "PAUSED Suspended" => state(
            "PAUSED",
            Some("Suspended"),
            &json!({ "pause_reschedule": true }),
        ),
        "COMPLETED with a result" => {
            json!({ "type": "COMPLETED", "data": { "type": "reference", "storage_key": "k" } })
        }
        _ => match to.split_once(' ') {
            Some((kind, name)) => state(kind, Some(name), &json!({})),
            None => state(to, None, &json!({})),
        },
    }
}

async fn make_run(api: &Api, flow: &str, deployment: Option<&str>, from: &str) -> String {
    let (infrastructure, retries, steps) = way_to(from);
    let policy = json!({ "retries": retries, "retry_delay": 0 });
    let run = if let Some(deployment) = deployment {
        let path = format!("/deployments/{deployment}/create_flow_run");
        api.post(&path, json!({ "empirical_policy": policy })).await
    } else {
        let body = json!({ "flow_id": flow, "state": { "type": "SCHEDULED" }, "empirical_policy": policy });
        api.post("/flow_runs/", body).await
    };
    let run = id(&run);
    if let Some(pid) = infrastructure {
        api.patch(
            &format!("/flow_runs/{run}"),
            json!({ "infrastructure_pid": pid }),
        )
        .await;
    }
    for step in steps {
        let path = format!("/flow_runs/{run}/set_state");
        api.post(&path, json!({ "state": step, "force": true }))
            .await;
    }
    run
}

/// The answer in the words of the table.
async fn ask(api: &Api, run: &str, to: &str, force: bool) -> Vec<String> {
    let path = format!("/flow_runs/{run}/set_state");
    let body = json!({ "state": target(to), "force": force });
    let answer = api.send(Method::POST, &path, Some(&body)).await;
    let (status, answer) = (answer.status, answer.json());
    let after = api.get(&format!("/flow_runs/{run}")).await;
    let (kept, policy) = (&answer["state"], &after["empirical_policy"]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let flags = [
        ("due", !kept["state_details"]["scheduled_time"].is_null()),
        ("started", !after["start_time"].is_null()),
        ("ended", !after["end_time"].is_null()),
        ("next", !after["next_scheduled_start_time"].is_null()),
        ("resuming", policy["resuming"] == true),
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .filter_map(|(flag, is_set)| is_set.then_some(flag))
        .collect();
    let flags = if flags.is_empty() {
        "-".to_owned()
    } else {
        flags.join(",")
    };
    vec![
        status.to_string(),
        text(&answer["status"]),
        format!("{} {}", text(&kept["type"]), text(&kept["name"])),
        format!(
            "{} {}",
            text(&after["state_type"]),
            text(&after["state_name"])
        ),
        after["run_count"].to_string(),
        flags,
        text(&policy["retry_type"]),
        policy["pause_keys"]
            .as_array()
            .map_or(0, Vec::len)
            .to_string(),
        text(&kept["message"]),
        text(&answer["details"]["reason"]),
    ]
}

#[tokio::test]
async fn every_transition_is_answered_as_the_reference_answers_it() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let flow = api.get("/flows/name/f").await;
    let flow = id(&flow);
    let mut differences = Vec::new();
    let mut asked = 0;
    for row in rows() {
        for variant in row.variants {
            let from_deployment = (variant != "alone").then_some(deployment.as_str());
            let run = make_run(&api, &flow, from_deployment, row.from).await;
            let found = ask(&api, &run, row.to, variant == "force").await;
            asked += 1;
            if found != row.answer {
                let question = format!("{} -> {} ({variant})", row.from, row.to);
                differences.push(format!(
                    "{question}\n  expected {:?}\n  found    {found:?}",
                    row.answer
                ));
            }
        }
    }
    assert_eq!(asked, 945, "the table is complete");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test]
async fn a_repeated_transition_id_is_rejected_with_the_state_it_made() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    let path = format!("/flow_runs/{run}/set_state");
    let transition = "1c0eaf8f-c553-4949-b864-a470fbd1cdc4";
    let body =
        json!({ "state": { "type": "PENDING", "state_details": { "transition_id": transition } } });
    let first = api.post(&path, body.clone()).await;
    let second = api.send(Method::POST, &path, Some(&body)).await;
    assert_eq!(second.status, 200);
    let second = second.json();
    assert_eq!(second["status"], "REJECT");
    assert_eq!(
        second["details"]["reason"],
        "This run has already made this state transition."
    );
    assert_eq!(second["state"]["id"], first["state"]["id"]);
    let states = api
        .get(&format!("/flow_run_states/?flow_run_id={run}"))
        .await;
    assert_eq!(states.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_run_claimed_early_is_told_to_wait() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let due = json!({ "type": "SCHEDULED", "state_details": { "scheduled_time": in_seconds(30) } });
    let path = format!("/deployments/{deployment}/create_flow_run");
    let run = id(&api.post(&path, json!({ "state": due })).await);
    assert_eq!(api.propose(&run, "PENDING").await["status"], "ACCEPT");
    let answer = api.propose(&run, "RUNNING").await;
    assert_eq!(answer["status"], "WAIT");
    assert_eq!(answer["details"]["type"], "wait_details");
    let delay = answer["details"]["delay_seconds"]
        .as_f64()
        .expect("a delay");
    assert!((25.0..=30.0).contains(&delay), "{delay}");
    assert_eq!(answer["state"]["type"], "PENDING");
}

#[tokio::test]
async fn what_a_state_may_not_have_is_refused_with_its_place() {
    let api = Api::start().await;
    api.pool().await;
    let deployment = api.deployment(json!({})).await;
    let run = api.run(&deployment).await;
    let path = format!("/flow_runs/{run}/set_state");
    let cases = [
        (
            json!({ "state": { "type": "PENDING", "x": 1 } }),
            json!(["body", "state", "x"]),
            "extra_forbidden",
        ),
        (
            json!({ "state": { "type": "WHAT" } }),
            json!(["body", "state", "type"]),
            "value_error",
        ),
        (json!({}), json!(["body", "state"]), "missing"),
    ];
    for (body, place, kind) in cases {
        let answer = api.send(Method::POST, &path, Some(&body)).await;
        assert_eq!(answer.status, 422, "{body}");
        let detail = &answer.json()["exception_detail"][0];
        assert_eq!(
            (&detail["loc"], &detail["type"]),
            (&place, &json!(kind)),
            "{body}"
        );
    }
    let nobody = "/flow_runs/00000000-0000-0000-0000-000000000000/set_state";
    let answer = api
        .send(
            Method::POST,
            nobody,
            Some(&json!({ "state": { "type": "PENDING" } })),
        )
        .await;
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("exception_message"), "{}", answer.text);
}
