//! What server and engine say of flow runs, held against what is true of them.

use std::collections::BTreeMap;

use worker_api::{
    Client,
    types::{FlowRun, FlowRunFilter, FlowRunId, StateType},
};
use worker_drivers::fake::{FakeCall, FakeEngine};

use super::fate::{Fate, Subject};

/// What is not as the fate of a flow run would have it.
pub(super) async fn findings(
    Subject { id, fate }: &Subject,
    client: &Client,
    engine: &FakeEngine,
) -> Vec<String> {
    let Fate {
        name,
        ends,
        executions,
        says,
        entrypoint: _,
        script: _,
        affair: _,
    } = fate;
    let mut findings = Vec::new();
    let states = client.list_flow_run_states(*id).await.expect("an answer");
    let states: Vec<_> = states.into_iter().map(|state| state.kind).collect();
    let (last, before) = states.split_last().expect("it was scheduled");
    if last != ends {
        findings.push(format!("ended {last}, not {ends}: {states:?}"));
    }
    if before.iter().any(StateType::is_final) {
        findings.push(format!("went on after its end: {states:?}"));
    }
    let made = made(engine, *id);
    if !executions.contains(&made.values().sum()) {
        findings.push(format!("was executed {made:?}, not {executions:?}"));
    }
    let ran = states
        .iter()
        .filter(|state| **state == StateType::Running)
        .count();
    if ran > made.values().sum() {
        findings.push(format!("was said to run too often: {states:?}"));
    }
    if made.values().any(|&times| times > 1) {
        findings.push(format!("an attempt was made more than once: {made:?}"));
    }
    if let Some(says) = says {
        let log = client.read_logs(*id, 0, 200).await.expect("an answer");
        if !log.iter().any(|line| line.message == *says) {
            findings.push(format!("its log lacks '{says}'"));
        }
    }
    findings
        .iter()
        .map(|what| format!("{name}: {what}"))
        .collect()
}

/// How everything stands, for people.
pub(super) async fn describe(client: &Client, engine: &FakeEngine) -> String {
    let states: Vec<_> = flow_runs(client)
        .await
        .into_iter()
        .map(|flow_run| (flow_run.name, flow_run.state_type, flow_run.state_name))
        .collect();
    let (jobs, violations) = (engine.jobs(), engine.violations());
    format!("flow runs {states:?}, jobs {jobs:?}, violations {violations:?}")
}

/// All flow runs there are.
pub(super) async fn flow_runs(client: &Client) -> Vec<FlowRun> {
    let all = client.list_flow_runs(&FlowRunFilter::default()).await;
    all.expect("an answer")
}

/// How often the infrastructure of each attempt was made.
fn made(engine: &FakeEngine, id: FlowRunId) -> BTreeMap<u32, usize> {
    let calls = engine.calls().into_iter();
    calls
        .filter_map(|call| match call {
            FakeCall::Submit(key) if key.flow_run == id.0 => {
                Some((key.attempt, engine.created(key)))
            }
            _ => None,
        })
        .collect()
}
