//! `worker logs`: what a flow run's log has.

use std::process::ExitCode;

use super::{
    args::LogsArgs,
    context::Context,
    follow::{self, Shown},
    out::Out,
};

pub(crate) async fn logs(context: Context, out: Out, args: LogsArgs) -> anyhow::Result<ExitCode> {
    let api = context.api(None).await?;
    let flow_run = api.flow_run(&args.flow_run).await?;
    if args.follow {
        let ended = follow::follow(&api.client, flow_run.id, api.pace(), out).await?;
        api.end().await;
        return Ok(follow::conclude(&ended, out));
    }
    let mut shown = Shown::default();
    shown.go_on(&api.client, flow_run.id, out).await?;
    api.end().await;
    Ok(ExitCode::SUCCESS)
}
