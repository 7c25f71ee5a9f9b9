//! `worker doctor`: everything a flow run needs here, looked at one by one, and what to do where it is not as it should be.

mod api;
mod machine;
mod unit;

use std::process::ExitCode;

use serde_json::Value;

use worker_config::{DriverKind, Secret, settings::Flags};
use worker_drivers::{Examination, Finding, Verdict};

use super::{context::Context, out::Out, pool, start};
use crate::telemetry::chain;

/// What is looked at only when somebody asks for it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// An image, at its registry.
    pub(crate) image: Option<String>,
    /// A systemd unit.
    pub(crate) unit: Option<String>,
}

/// What is known of the pool after a look at the API.
#[derive(Debug, Default)]
struct Pool {
    kind: Option<DriverKind>,
    template: Option<Value>,
}

pub(crate) async fn doctor(mut flags: Flags, out: Out, asked: Asked) -> anyhow::Result<ExitCode> {
    let version = format!("{}, for Prefect 3", env!("CARGO_PKG_VERSION"));
    let mut findings = vec![Finding::ok("worker", version)];
    let unit = asked.unit.as_deref().map(unit::read);
    let mut context = match &unit {
        Some(Ok(unit)) => {
            // What the unit's worker would be told.
            if flags.pools.is_empty() {
                flags.pools.extend(unit.pool());
            }
            Context::load_with(flags, unit.environment())?
        }
        _ => Context::load(flags)?,
    };
    let settings = &context.settings;
    findings.extend(machine::settings(&settings.notices));
    findings.extend(machine::directories(settings));
    findings.extend(machine::paused(&settings.worker.state_dir));
    let known = match context.api(None).await {
        Err(error) => {
            findings.push(Finding::problem("API", chain(error.as_ref())));
            Pool::default()
        }
        Ok(api) => {
            let (found, known) = api::look(&api, settings.worker.pool.as_deref()).await;
            findings.extend(found);
            if let Some(embedded) = &api.embedded {
                let url = embedded.url.as_str().trim_end_matches('/');
                let url = Secret::new(url);
                let environment = &mut context.settings.job_environment;
                environment.insert("PREFECT_API_URL".to_owned(), url);
            }
            api.end().await;
            known
        }
    };
    let guessed = || DriverKind::guess_from_name(context.settings.worker.pool.as_deref()?);
    let kind = known.kind.or(context.settings.worker.kind).or_else(guessed);
    match kind {
        Some(kind) => {
            let template = known
                .template
                .unwrap_or_else(|| pool::default_template(kind));
            findings.extend(engine(&context, kind, &template, asked.image.as_deref()).await);
        }
        None => findings.push(Finding::ok(
            "engine",
            "not looked at; --pool NAME or --type TYPE says which",
        )),
    }
    match unit {
        None => {}
        Some(Ok(unit)) => {
            // They are the unit's affair, and not those of whoever asks.
            findings.retain(|finding| finding.what != "cgroups");
            findings.extend(unit.judge(kind));
        }
        Some(Err(reason)) => findings.push(Finding::problem("unit", reason)),
    }
    Ok(tell(&findings, out))
}

/// Shows the findings, and gives the exit code that says the same.
fn tell(findings: &[Finding], out: Out) -> ExitCode {
    for finding in findings {
        out.json(finding);
        out.finding(finding);
    }
    let worst = findings.iter().map(|finding| finding.verdict).max();
    if worst == Some(Verdict::Problem) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What the driver of the pool's type has to say of its engine.
async fn engine(
    context: &Context,
    kind: DriverKind,
    template: &Value,
    image: Option<&str>,
) -> Vec<Finding> {
    let jobs = std::env::temp_dir().join(format!("worker-doctor-{}", std::process::id()));
    let own = start::own_environment();
    let driver = start::driver(kind, &context.settings, jobs.clone(), own).await;
    let findings = match driver {
        Ok(driver) => driver.examine(Examination { template, image }).await,
        Err(error) => vec![Finding::problem("engine", chain(error.as_ref()))],
    };
    // Only one of them makes it.
    drop(std::fs::remove_dir_all(jobs));
    findings
}
