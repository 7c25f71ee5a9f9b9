//! `worker run`: a flow run of a deployment, now.

use std::process::ExitCode;

use serde_json::{Map, Value};

use worker_api::types::Deployment;

use super::{
    args::RunArgs,
    context::{Api, Context, Usage, about},
    follow,
    out::Out,
};

pub(crate) async fn run(context: Context, out: Out, args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs {
        deployment,
        params,
        job_variables,
        flow_run_name,
        watch,
    } = args;
    let api = context.api(None).await?;
    let deployment = find_deployment(&api, &deployment).await?;
    let job_variables = key_values(&job_variables)?;
    let job_variables = (!job_variables.is_empty()).then_some(job_variables);
    let flow_run = api
        .client
        .create_flow_run(
            deployment.id,
            key_values(&params)?,
            job_variables,
            flow_run_name,
            vec![],
        )
        .await?;
    out.say(&format!(
        "Created flow run '{}' ({}).",
        flow_run.name, flow_run.id
    ));
    if !watch {
        out.json(&flow_run);
        api.end().await;
        return Ok(ExitCode::SUCCESS);
    }
    let ended = follow::follow(&api.client, flow_run.id, api.pace(), out).await?;
    api.end().await;
    Ok(follow::conclude(&ended, out))
}

pub(crate) async fn find_deployment(api: &Api, text: &str) -> anyhow::Result<Deployment> {
    let missing = format!("no deployment is named '{text}'");
    if let Ok(id) = text.parse() {
        let read = api.client.read_deployment(id).await;
        return read.map_err(|error| about(error, &missing));
    }
    let Some((flow, name)) = text.split_once('/') else {
        return Err(Usage(format!(
            "'{text}' names no deployment; give FLOW/DEPLOYMENT or an id"
        ))
        .into());
    };
    let read = api.client.read_deployment_by_name(flow, name).await;
    read.map_err(|error| about(error, &missing))
}

/// Reads `KEY=VALUE`s, values as JSON where they are JSON and as text otherwise, like the reference's `--param`.
pub(crate) fn key_values(texts: &[String]) -> Result<Map<String, Value>, Usage> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Usage(format!("'{text}' is not of the form KEY=VALUE")))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((key.to_owned(), value))
        })
        .collect()
}
