//! Resolution: from a pool's template and everything people said to the job configuration of one flow run.
//!
//! One pure function behind one seam, [`resolve`], because a server may do this one day (PrefectHQ/prefect#22859). It ends where the
//! reference's `BaseJobConfiguration.prepare_for_flow_run` does (3.8.8); what an engine makes of the result is the drivers' affair, and
//! fetching is the caller's: as long as something is missing, the answer is what to fetch.

use std::collections::BTreeMap;

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde_json::{Map, Value};

use crate::{
    DriverKind,
    template::{BaseJobTemplate, Lookups, References, TemplateError},
};

/// What a flow run's job is made from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The type of the pool.
    pub kind: DriverKind,
    /// The pool's base job template, as the API stores it.
    pub template: &'a Value,
    /// The flow run.
    pub flow_run: FlowRun<'a>,
    /// Its flow.
    pub flow: Flow<'a>,
    /// Its deployment, if it has one.
    pub deployment: Option<Deployment<'a>>,
    /// The pool.
    pub pool: Named<'a>,
    /// This worker. Its id is known where the server gives one, which is Prefect Cloud.
    pub worker: Worker<'a>,
    /// The Prefect settings that somebody set, as environment variables: the lowest layer of the job's environment.
    pub settings: &'a BTreeMap<String, String>,
    /// The release of Prefect that the job is labelled with.
    pub version: &'a str,
    /// Answers for `{{ $NAME }}`; one that always answers `None` switches those off.
    pub environment: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// What resolution needs to know of a flow run.
#[derive(Clone, Copy)]
pub struct FlowRun<'a> {
    /// Its id and name.
    pub named: Named<'a>,
    /// Its job variables.
    pub job_variables: &'a Map<String, Value>,
    /// All of it, for `{{ ctx.flow_run.* }}` in a name.
    pub json: &'a Value,
}

/// What resolution needs to know of a flow.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// Its id and name.
    pub named: Named<'a>,
    /// All of it, for `{{ ctx.flow.* }}` in a name.
    pub json: &'a Value,
}

/// What resolution needs to know of a deployment.
#[derive(Clone, Copy)]
pub struct Deployment<'a> {
    /// Its id and name.
    pub named: Named<'a>,
    /// When it was changed last.
    pub updated: Option<Timestamp>,
    /// Its job variables.
    pub job_variables: &'a Map<String, Value>,
}

/// Something with an id and a name.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// As the API writes it.
    pub id: &'a str,
    /// The name.
    pub name: &'a str,
}

/// Who submits the flow run.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// Its id on the server, where that gives one.
    pub id: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

/// How far resolution has come.
#[derive(Debug, PartialEq)]
pub enum Resolution {
    /// These are to be fetched and added to the lookups; then it goes on.
    Needs(References),
    /// It is done.
    Done(Box<Resolved>),
}

/// A resolved job. Printing shows names only: any value may be a credential.
#[derive(Clone, PartialEq)]
pub struct Resolved {
    /// The command somebody configured. None: the driver's default.
    pub command: Option<String>,
    /// The configured name, else the flow run's.
    pub name: String,
    /// Settings, identity, then what template and job variables ask for.
    pub environment: BTreeMap<String, String>,
    /// Identity, then what template and job variables ask for.
    pub labels: BTreeMap<String, String>,
    /// The template after resolution, for the driver to read its own fields from.
    pub configuration: Map<String, Value>,
    /// Every job variable and its value, for what the worker itself reads from them.
    pub variables: Map<String, Value>,
}

/// Resolves one flow run's job, as far as the lookups go.
///
/// Call it with no lookups first, then with what it asked for added, until it is done: blocks come before the Prefect variables that
/// they may name, so that is three calls at the most.
///
/// # Errors
/// [`TemplateError`] where the reference raises as well.
pub fn resolve(inputs: &Inputs<'_>, lookups: &Lookups) -> Result<Resolution, TemplateError> {
    let template = BaseJobTemplate::parse(inputs.template)?;
    let none = Map::new();
    let deployed = inputs.deployment.map_or(&none, |one| one.job_variables);
    let given = inputs.flow_run.job_variables;
    let filled = template.fill(deployed, given, inputs.environment)?;
    let needs = lookups.missing(filled.references());
    if !needs.is_empty() {
        return Ok(Resolution::Needs(needs));
    }
    let with_blocks = filled.with_blocks(lookups)?;
    // What a block brought along may name variables of its own.
    let needs = lookups.missing(with_blocks.references());
    if !needs.is_empty() {
        return Ok(Resolution::Needs(needs));
    }
    let configuration = with_blocks.complete(lookups)?;
    let mut environment = inputs.settings.clone();
    environment.extend(identity_environment(inputs));
    let env = if inputs.kind == DriverKind::Kubernetes {
        configuration.env_or_list()?
    } else {
        configuration.env()?
    };
    for (name, value) in env {
        // A null takes away what a lower layer set.
        match value {
            Some(value) => environment.insert(name, value),
            None => environment.remove(&name),
        };
    }
    let mut labels = identity_labels(inputs);
    labels.extend(configuration.labels()?);
    let (flow, flow_run) = (inputs.flow.json, inputs.flow_run.json);
    let name = configuration.name(flow, flow_run, inputs.environment)?;
    Ok(Resolution::Done(Box::new(Resolved {
        command: configuration.command()?,
        name: name.unwrap_or_else(|| inputs.flow_run.named.name.to_owned()),
        environment,
        labels,
        configuration: configuration.into_map(),
        variables: template.merged_variables(deployed, given)?,
    })))
}

// === impl Inputs ===

impl std::fmt::Debug for Inputs<'_> {
    /// Who it is for: all else may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("kind", &self.kind)
            .field("flow_run", &self.flow_run.named)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FlowRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.named.fmt(f)
    }
}

impl std::fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.named.fmt(f)
    }
}

impl std::fmt::Debug for Deployment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.named.fmt(f)
    }
}

// === impl Resolved ===

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolved")
            .field("name", &self.name)
            .field("environment", &self.environment.keys())
            .field("labels", &self.labels.keys())
            .field(
                "configuration",
                &self.configuration.keys().collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

/// The variables that say to whom a job's requests belong; each only when it is known.
fn identity_environment(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let Inputs {
        flow_run,
        flow,
        deployment,
        worker,
        ..
    } = inputs;
    let deployment = deployment.map(|one| one.named);
    let known = [
        ("FLOW_RUN_ID", Some(flow_run.named.id)),
        ("WORKER_ID", worker.id),
        ("WORKER_NAME", Some(worker.name)),
        ("FLOW_ID", Some(flow.named.id)),
        (
            "FLOW_NAME",
            Some(flow.named.name).filter(|name| !name.is_empty()),
        ),
        ("DEPLOYMENT_ID", deployment.map(|one| one.id)),
        (
            "DEPLOYMENT_NAME",
            deployment
                .map(|one| one.name)
                .filter(|name| !name.is_empty()),
        ),
    ];
    known
        .into_iter()
        .filter_map(|(name, value)| Some((format!("PREFECT__{name}"), value?.to_owned())))
        .collect()
}

/// The labels that say whose a job is.
fn identity_labels(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let Inputs {
        kind,
        flow_run,
        flow,
        deployment,
        pool,
        worker,
        version,
        ..
    } = inputs;
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    label("prefect.io/flow-run-id", flow_run.named.id);
    label("prefect.io/flow-run-name", flow_run.named.name);
    label("prefect.io/version", version);
    label("prefect.io/work-pool-name", pool.name);
    label("prefect.io/work-pool-id", pool.id);
    label("prefect.io/worker-name", worker.name);
    label("prefect.io/flow-id", flow.named.id);
    label("prefect.io/flow-name", flow.named.name);
    if let Some(deployment) = deployment {
        label("prefect.io/deployment-id", deployment.named.id);
        label("prefect.io/deployment-name", deployment.named.name);
        if let Some(updated) = deployment.updated {
            label("prefect.io/deployment-updated", &iso(updated));
        }
    }
    if *kind == DriverKind::Kubernetes {
        let name = deployment.map_or(flow.named.name, |one| one.named.name);
        label("app.kubernetes.io/managed-by", "prefect");
        label("app.kubernetes.io/part-of", "prefect");
        label("app.kubernetes.io/version", version);
        label("app.kubernetes.io/name", name);
    }
    labels
}

/// A time as Python's `isoformat` writes it in UTC: six digits of a second, or none.
fn iso(time: Timestamp) -> String {
    let micros = time.as_microsecond().rem_euclid(1_000_000) != 0;
    let printer = DateTimePrinter::new().precision(Some(if micros { 6 } else { 0 }));
    printer.timestamp_to_string(&time).replace('Z', "+00:00")
}

#[cfg(test)]
mod tests;
