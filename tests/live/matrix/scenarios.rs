//! What happens in each column: twelve scenarios, played side by side so that the machine has something to do.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use worker_tests::wait;

use crate::{
    column::{Column, PAST, has_ended},
    story::{Reader, Story, text},
};

/// The stories of a column, by scenario.
pub(crate) type Stories = BTreeMap<&'static str, Story>;

/// How long nobody may take a flow run of a paused pool: a few polls.
const HELD: Duration = Duration::from_secs(6);

/// Flow runs to tell about: scenario and id.
type Runs = Vec<(&'static str, String)>;

/// Plays all scenarios and tells what could be seen.
pub(crate) fn play(column: &Column) -> Stories {
    let pool = column.make_pool("shared");
    let single = column.make_pool("single");
    let quick = column.deploy("quick", &pool, "default");
    let mut runs = before_the_worker(column, &pool, &quick);
    let queued = queue_up(column, &single);
    column.start_worker(&single, "single", &["--limit", "1"]);
    column.start_worker(&pool, "shared", &[]);
    runs.extend(side_by_side(column, &pool));
    runs.extend(cancelled(column, &pool));
    runs.push(("paused pool", hold_back(column, &pool, &quick)));
    column.wait_for_ends(&ids(&queued));
    let order = order(column, &ids(&queued));
    runs.extend(queued);
    column.wait_for_rest(&ids(&runs));
    column.stop_worker("single");
    column.stop_worker("shared");

    let reader = Reader::when_settled(column.api);
    let mut stories: Stories = runs
        .iter()
        .map(|(scenario, id)| (*scenario, reader.read(id, &column.names())))
        .collect();
    stories.insert("two queues, limit 1", order);
    let events = reader.events(&column.worker_resource("shared"), &column.names());
    stories.insert("worker", told("events", without_runs(events)));
    stories
}

/// Flow runs that wait when the worker comes.
fn before_the_worker(column: &Column, pool: &str, quick: &str) -> Runs {
    let late = column.make_overdue_run(quick, "late", PAST);
    // Its deployment is deleted while it waits.
    let doomed = column.deploy("again", pool, "default");
    let deleted = column.make_overdue_run(&doomed, "deleted", PAST);
    // This one has failed, and is asked to try again when its deployment is gone.
    let retried = column.make_overdue_run(&doomed, "retried", PAST);
    column.wait_for(&retried, "the flow run is late", is_late);
    column.set_state(&retried, &json!({"type": "FAILED"}));
    column.api.delete(&format!("/deployments/{doomed}"));
    column.set_state(
        &retried,
        &json!({
            "type": "SCHEDULED",
            "name": "AwaitingRetry",
            "state_details": {"scheduled_time": PAST},
        }),
    );
    column.wait_for(&late, "the flow run is late", is_late);
    vec![
        ("late run", late),
        ("deleted deployment", deleted),
        ("deleted deployment, retried run", retried),
    ]
}

/// Three late flow runs for a worker that takes one at a time; the one that was due last is the urgent one.
fn queue_up(column: &Column, pool: &str) -> Runs {
    let mut ids = Vec::new();
    for (queue, priority) in [("urgent", 1), ("calm", 2)] {
        column.api.post(
            &format!("/work_pools/{pool}/queues"),
            &json!({"name": queue, "priority": priority}),
        );
    }
    let calm = column.deploy("quick", pool, "calm");
    let urgent = column.deploy("quick", pool, "urgent");
    for (scenario, deployment, name, time) in [
        ("limit 1", &calm, "calm-first", "2026-01-01T00:00:01Z"),
        (
            "limit 1, second run",
            &calm,
            "calm-second",
            "2026-01-01T00:00:02Z",
        ),
        ("two queues", &urgent, "urgent", "2026-01-01T00:00:03Z"),
    ] {
        ids.push((scenario, column.make_overdue_run(deployment, name, time)));
    }
    for (_, id) in &ids {
        column.wait_for(id, "the flow run is late", is_late);
    }
    ids
}

/// Flow runs that end by themselves.
fn side_by_side(column: &Column, pool: &str) -> Runs {
    let flows = [
        (
            "complete",
            "greet",
            json!({"names": ["Ada", "Grace"], "polite": true}),
        ),
        ("fail", "check", json!({"shelf": "empty"})),
        ("crash before import", "broken", json!({})),
        ("dies in the flow", "dies", json!({})),
        ("retry inside the flow", "again", json!({})),
    ];
    let runs: Runs = flows
        .iter()
        .map(|(scenario, flow, parameters)| {
            let deployment = column.deploy(flow, pool, "default");
            (*scenario, column.make_run(&deployment, flow, parameters))
        })
        .collect();
    column.wait_for_ends(&ids(&runs));
    runs
}

/// Flow runs that are cancelled, before and after their flow has begun.
fn cancelled(column: &Column, pool: &str) -> Runs {
    let none = json!({});
    let slow = column.deploy("slow", pool, "default");
    let pending = column.make_run(&slow, "slow", &none);
    let count = column.deploy("count", pool, "default");
    let running = column.make_run(&count, "count", &none);
    column.wait_for_mark("importing");
    column.wait_for(&pending, "it has a process", |run| {
        run["infrastructure_pid"].is_string()
    });
    column.cancel(&pending);
    column.wait_for_mark("counting");
    column.cancel(&running);
    column.wait_for_ends(&[&pending, &running]);
    vec![
        ("cancel while pending", pending),
        ("cancel while running", running),
    ]
}

/// A flow run that nobody may take for a while.
fn hold_back(column: &Column, pool: &str, quick: &str) -> String {
    let path = format!("/work_pools/{pool}");
    column.api.patch(&path, &json!({"is_paused": true}));
    let held = column.make_overdue_run(quick, "held", PAST);
    column.wait_for(&held, "the flow run is late", is_late);
    let taken = wait::holds(HELD, || {
        let run = column.api.get(&format!("/flow_runs/{held}"));
        text(&run, "state_type") != "SCHEDULED"
    });
    assert!(!taken, "a flow run of a paused pool was taken");
    column.api.patch(&path, &json!({"is_paused": false}));
    column.wait_for_ends(&[&held]);
    held
}

/// In which order flow runs were started, and whether each had ended before the next began.
fn order(column: &Column, ids: &[&str]) -> Story {
    let mut runs: Vec<Value> = ids
        .iter()
        .map(|id| column.api.get(&format!("/flow_runs/{id}")))
        .collect();
    runs.sort_by(|a, b| text(a, "start_time").cmp(text(b, "start_time")));
    let one_by_one = runs
        .windows(2)
        .all(|pair| text(&pair[0], "end_time") <= text(&pair[1], "start_time"));
    let names = runs.iter().map(|run| {
        let name = text(run, "name");
        name.split_once('-')
            .map_or(name, |(_, name)| name)
            .to_owned()
    });
    let lines = names.chain([format!("one by one: {one_by_one}")]);
    told("order", lines.collect())
}

/// The events of a worker that are not about one flow run.
fn without_runs(events: Vec<String>) -> Vec<String> {
    let of_worker = |event: &String| event.contains(" of prefect.worker.");
    let of_run = |event: &String| event.contains("prefect.flow-run.");
    events
        .into_iter()
        .filter(|event| of_worker(event) && !of_run(event))
        .collect()
}

/// A story of one aspect, for what is told of no single flow run.
fn told(aspect: &str, lines: Vec<String>) -> Story {
    Story::from([(aspect.to_owned(), lines)])
}

fn is_late(run: &Value) -> bool {
    text(run, "state_name") == "Late" || has_ended(run)
}

fn ids<'a>(runs: &'a [(&'static str, String)]) -> Vec<&'a str> {
    runs.iter().map(|(_, id)| id.as_str()).collect()
}
