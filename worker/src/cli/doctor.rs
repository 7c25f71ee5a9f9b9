//! `worker doctor`: everything a flow run needs here, looked at one by one, and what to do where it is not as it should be.

mod api;
mod machine;
mod unit;

use std::process::ExitCode;

use serde_json::Value;

use worker_config::{
    DriverKind,
    settings::{Flags, Settings, WorkerSettings},
};
use worker_drivers::{Environment, Examination, Finding, Verdict};

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

/// A pool, and what the API knows of it.
#[derive(Debug, Default)]
struct Pool {
    /// Empty where nobody named one.
    name: String,
    kind: Option<DriverKind>,
    template: Option<Value>,
}

pub(crate) async fn doctor(flags: Flags, out: Out, asked: Asked) -> anyhow::Result<ExitCode> {
    let version = format!("{}, for Prefect 3", env!("CARGO_PKG_VERSION"));
    let mut findings = vec![Finding::ok("worker", version)];
    let unit = asked.unit.as_deref().map(unit::read);
    let mut environment = start::own_environment();
    let mut context = match &unit {
        Some(Ok(unit)) => {
            // What the unit's worker is told, and nothing of whoever asks.
            environment = Environment(unit.environment());
            let place = (environment.clone(), unit.directory());
            Context::load_at(of_unit(unit, flags), place, out)?
        }
        _ => Context::load(flags, out)?,
    };
    let settings = &context.settings;
    findings.extend(machine::settings(&settings.notices));
    findings.extend(machine::directories(settings));
    findings.extend(machine::paused(&settings.worker.state_dir));
    let mut pools: Vec<Pool> = settings.pools.iter().filter_map(Pool::of).collect();
    match context.api(None).await {
        Err(error) => findings.push(Finding::problem("API", chain(error.as_ref()))),
        Ok(api) => {
            findings.extend(api::look(&api, &mut pools).await);
            start::use_api(&mut context.settings, &api);
            api.end().await;
        }
    }
    if pools.is_empty() {
        pools.push(Pool::default());
    }
    for pool in &pools {
        let image = asked.image.as_deref();
        findings.extend(engine(&context.settings, &environment, pool, image).await);
    }
    let kinds = pools.iter().filter_map(|pool| pool.kind(&context.settings));
    match unit {
        None => {}
        Some(Ok(unit)) => {
            // They are the unit's affair, and not those of whoever asks.
            findings.retain(|finding| finding.what != "cgroups");
            findings.extend(unit.judge(&kinds.collect::<Vec<_>>()));
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

// === impl Pool ===

impl Pool {
    fn of(settings: &WorkerSettings) -> Option<Self> {
        Some(Self {
            name: settings.pool.clone()?,
            ..Self::default()
        })
    }

    /// Its type: as the API has it, as somebody says, or as its name says.
    fn kind(&self, settings: &Settings) -> Option<DriverKind> {
        let said = settings.of_pool(&self.name).worker.kind;
        let guessed = || DriverKind::guess_from_name(&self.name);
        self.kind.or(said).or_else(guessed)
    }
}

// === functions ===

/// The command line of a unit, but for what whoever asks says himself.
fn of_unit(unit: &unit::Unit, asked: Flags) -> Flags {
    let told = unit.flags().unwrap_or_default();
    let either = |asked: Vec<String>, told| if asked.is_empty() { told } else { asked };
    // Each is named, so that a new one has to be thought of. What doctor has no flag for is the unit's.
    Flags {
        pools: either(asked.pools, told.pools),
        kinds: either(asked.kinds, told.kinds),
        python: asked.python.or(told.python),
        profile: asked.profile.or(told.profile),
        config: asked.config.or(told.config),
        api_url: asked.api_url.or(told.api_url),
        state_dir: asked.state_dir.or(told.state_dir),
        name: told.name,
        work_queues: told.work_queues,
        prefetch_seconds: told.prefetch_seconds,
        run_once: told.run_once,
        limits: told.limits,
        with_healthcheck: told.with_healthcheck,
        base_job_template: told.base_job_template,
        create_pool_if_not_found: told.create_pool_if_not_found,
        query_interval: told.query_interval,
        start_concurrency: told.start_concurrency,
        drain_timeout: told.drain_timeout,
        stop_grace: told.stop_grace,
        status_host: told.status_host,
        status_port: told.status_port,
        log_level: told.log_level,
        log_json: told.log_json,
        pull_mode: told.pull_mode,
        workspaces: told.workspaces,
        disk_floor: told.disk_floor,
        server_host: told.server_host,
        server_port: told.server_port,
        serve: told.serve,
    }
}

/// What the driver of a pool's type has to say of its engine.
async fn engine(
    settings: &Settings,
    environment: &Environment,
    pool: &Pool,
    image: Option<&str>,
) -> Vec<Finding> {
    let Some(kind) = pool.kind(settings) else {
        let detail = "not looked at; --pool NAME or --type TYPE says which";
        return vec![Finding::ok("engine", detail)];
    };
    let known = pool.template.clone();
    let template = &known.unwrap_or_else(|| pool::default_template(kind));
    let jobs = std::env::temp_dir().join(format!("worker-doctor-{}", std::process::id()));
    let settings = settings.of_pool(&pool.name);
    let driver = start::driver(kind, &settings, jobs.clone(), environment.clone()).await;
    let findings = match driver {
        Ok(driver) => driver.examine(Examination { template, image }).await,
        Err(error) => vec![Finding::problem("engine", chain(error.as_ref()))],
    };
    // Only one of them makes it.
    drop(std::fs::remove_dir_all(jobs));
    findings
}
