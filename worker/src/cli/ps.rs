//! `worker ps`: flow runs, latest first.

use std::process::ExitCode;

use worker_api::types::{FlowRunFilter, StateType};

use super::{args::PsArgs, context::Context, out::Out};

pub(crate) async fn ps(context: Context, out: Out, args: PsArgs) -> anyhow::Result<ExitCode> {
    let PsArgs { all, in_pool, most } = args;
    let api = context.api(None).await?;
    let filter = FlowRunFilter {
        ids: None,
        state_types: (!all).then(|| {
            vec![
                StateType::Scheduled,
                StateType::Pending,
                StateType::Running,
                StateType::Paused,
                StateType::Cancelling,
            ]
        }),
        work_pool: in_pool,
        limit: Some(most.min(200)),
    };
    let flow_runs = api.client.list_flow_runs(&filter).await?;
    api.end().await;
    if flow_runs.is_empty() {
        out.say(if all {
            "There are no flow runs."
        } else {
            "No flow runs are due or running; --all shows those that are over."
        });
    }
    let rows: Vec<Vec<String>> = flow_runs
        .iter()
        .map(|run| {
            let due = run.start_time.or(run.expected_start_time);
            vec![
                run.id.to_string(),
                run.name.clone(),
                out.state(
                    run.state_type.as_ref(),
                    run.state_name.as_deref().unwrap_or("?"),
                ),
                run.work_pool_name.clone().unwrap_or_default(),
                due.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["ID", "NAME", "STATE", "POOL", "STARTED OR DUE"], rows);
    }
    for run in &flow_runs {
        out.json(run);
    }
    Ok(ExitCode::SUCCESS)
}
