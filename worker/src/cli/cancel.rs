//! `worker cancel`: asks for the end of a flow run. Its worker sees to it.

use std::process::ExitCode;

use anyhow::bail;

use worker_api::types::{OrchestrationStatus, ProposedState, StateType};

use super::{args::CancelArgs, context::Context, out::Out};

pub(crate) async fn cancel(
    context: Context,
    out: Out,
    args: CancelArgs,
) -> anyhow::Result<ExitCode> {
    let api = context.api(None).await?;
    let flow_run = api.flow_run(&args.flow_run).await?;
    let answer = api
        .client
        .propose_state(flow_run.id, &ProposedState::new(StateType::Cancelling))
        .await?;
    api.end().await;
    let now = answer.state.as_ref();
    match (answer.status, now.map(|state| &state.kind)) {
        (OrchestrationStatus::Accept, _) => {
            out.say(&format!("Flow run '{}' is being cancelled.", flow_run.name));
        }
        // What had not begun has nothing to end.
        (_, Some(StateType::Cancelled)) => {
            out.say(&format!("Flow run '{}' is cancelled.", flow_run.name));
        }
        _ => bail!(
            "flow run '{}' was not cancelled: {}",
            flow_run.name,
            answer
                .details
                .reason
                .as_deref()
                .unwrap_or("the server gave no reason")
        ),
    }
    out.json(&answer);
    Ok(ExitCode::SUCCESS)
}
