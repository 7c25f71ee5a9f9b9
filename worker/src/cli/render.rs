//! `worker render`: the job that a flow run of a deployment would become here, and how it differs from that of another deployment.

use std::{process::ExitCode, sync::Arc};

use serde_json::{Map, Value, json};
use similar::TextDiff;

use uuid::Uuid;

use worker_api::types::FlowRun;
use worker_config::{DriverKind, resolution::Resolution, template::Lookups};
use worker_drivers::{Driver, Environment, Owner, RunKey};

use super::{
    args::RenderArgs,
    context::{Api, Context, Misconfigured},
    out::Out,
    pull,
    run::{find_deployment, key_values},
    start,
};
use crate::{
    journal::NotStarted, pull::Code, secrets::Secrets, site::Site, sources::Sources,
    telemetry::chain,
};

/// The name of the flow run that never is.
const NAME: &str = "rendered";

/// What is shown of a process' `PATH`, unless the job has one of its own: it is not that of whoever asks.
const INHERITED: &str = "(inherited from the worker)";

pub(crate) async fn render(
    mut context: Context,
    out: Out,
    args: RenderArgs,
) -> anyhow::Result<ExitCode> {
    let RenderArgs {
        deployment,
        against,
        job_variables,
    } = args;
    let job_variables = key_values(&job_variables)?;
    let api = context.api(None).await?;
    start::use_api(&mut context.settings, &api);
    let shown = job_of(&context, &api, &deployment, &job_variables).await;
    let other = match &against {
        Some(other) => Some(job_of(&context, &api, other, &job_variables).await),
        None => None,
    };
    api.end().await;
    let shown = shown?;
    let Some(other) = other.transpose()? else {
        out.json(&shown);
        out.say(yaml(&shown)?.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    out.json(&json!({"one": other, "other": shown}));
    let (from, to) = (yaml(&other)?, yaml(&shown)?);
    let diff = TextDiff::from_lines(&from, &to);
    let mut diff = diff.unified_diff();
    let names = (against.unwrap_or_default(), deployment);
    out.say(diff.header(&names.0, &names.1).to_string().trim_end());
    Ok(if from == to {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the engine would be asked for, with every secret covered.
async fn job_of(
    context: &Context,
    api: &Api,
    deployment: &str,
    job_variables: &Map<String, Value>,
) -> anyhow::Result<Value> {
    let sources = sources(api, deployment, job_variables).await?;
    let pool = &sources.pool;
    let kind: DriverKind =
        pool.kind
            .parse()
            .map_err(|error: worker_config::kind::UnknownKind| {
                Misconfigured(format!("work pool '{}': {error}", pool.name))
            })?;
    let settings = &context.settings;
    let name = settings.worker.name.clone();
    let name = name.unwrap_or_else(|| NAME.to_owned());
    let site = Site::new(
        kind,
        (&name, &api.client),
        (settings.policy.clone(), settings.pull.mode),
        &settings.job_environment,
    );
    let mut lookups = Lookups::default();
    let resolved = loop {
        let resolution = site.resolve(&sources, &lookups);
        let covered = |error| anyhow::anyhow!(Secrets::of(&lookups).covered(chain(&error)));
        match resolution.map_err(covered)? {
            Resolution::Done(resolved) => break *resolved,
            Resolution::Needs(references) => {
                lookups.extend(pull::fetch(&api.client, &references).await?);
            }
        }
    };
    let secrets = Secrets::of(&lookups).with_environment(&resolved.environment);
    let key = RunKey {
        flow_run: sources.flow_run.id.0,
        attempt: 1,
    };
    let owner = Owner(format!("{}/{name}", pool.name));
    let refused = |why| anyhow::anyhow!(in_words(secrets.cover(why)));
    let judged = site.judge(sources.deployment, resolved).map_err(refused)?;
    let code = judged
        .deployment
        .as_ref()
        .map_or(Code::InPlace, |deployment| {
            crate::pull::foresee(deployment, settings, kind, &judged)
        });
    let job = judged.with_code(key, owner, &code).map_err(refused)?;
    let plan = driver(context, kind).await?.plan(&job, &settings.policy);
    let plan = plan.map_err(|error| anyhow::anyhow!(secrets.covered(chain(&error))))?;
    Ok(secrets.cover_all(plan.request()))
}

/// What a life would read, around a flow run that there is not.
async fn sources(
    api: &Api,
    deployment: &str,
    job_variables: &Map<String, Value>,
) -> anyhow::Result<Sources> {
    let deployment = find_deployment(api, deployment).await?;
    let Some(pool) = &deployment.work_pool_name else {
        anyhow::bail!("deployment '{}' has no work pool", deployment.name);
    };
    let pool = api.client.read_work_pool(pool).await?;
    let flow = api.client.read_flow(deployment.flow_id).await?;
    let flow_run: FlowRun = serde_json::from_value(json!({
        // The same each time, so that two jobs differ only in what they are asked for.
        "id": Uuid::nil(),
        "name": NAME,
        "flow_id": flow.id,
        "deployment_id": deployment.id,
        "job_variables": job_variables,
    }))?;
    Ok(Sources {
        flow_run,
        deployment: Some(deployment),
        flow,
        pool,
    })
}

/// A driver that only plans. Nothing of the worker's own environment is in what it shows: that is not the job's. Where an engine is, is its own affair.
async fn driver(context: &Context, kind: DriverKind) -> anyhow::Result<Arc<dyn Driver>> {
    let jobs = std::env::temp_dir().join(format!("worker-render-{}", std::process::id()));
    let environment = match kind {
        DriverKind::Process => Environment([("PATH".to_owned(), INHERITED.to_owned())].into()),
        DriverKind::Docker | DriverKind::Kubernetes => start::own_environment(),
    };
    let made = start::driver(kind, &context.settings, jobs.clone(), environment).await;
    // It may not have been made.
    drop(std::fs::remove_dir_all(jobs));
    made
}

fn in_words(why: NotStarted) -> String {
    match why {
        NotStarted::Failed(reason) | NotStarted::PutBack(reason) => reason,
        other => format!("{other:?}"),
    }
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}
