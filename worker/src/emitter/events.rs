//! What the events of a worker say, in the shape the reference gives them (`BaseWorker`, 3.8.8). Pure.

use std::{collections::BTreeSet, fmt::Display};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use worker_api::{
    REFERENCE_VERSION,
    types::{Deployment, Event, Flow, FlowRun, Resource},
};
use worker_config::{
    DriverKind,
    slug::{self, slug},
};
use worker_drivers::{Happening, Outcome};

/// Who speaks.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// Its name.
    pub(crate) name: String,
    /// Its type, such as `process`.
    pub(crate) kind: String,
    /// The name of its pool.
    pub(crate) pool: String,
}

/// What an event about a flow run has to do with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    related: Vec<Resource>,
}

/// How a job ended, for an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended<'a> {
    pub(super) infrastructure: &'a str,
    pub(super) outcome: &'a Outcome,
}

/// A container, for an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    /// As engines say it: `created`, `running`, `exited`.
    pub(super) status: &'a str,
}

/// A pull step that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    /// Its place in the list, from zero.
    pub(crate) index: usize,
    /// Its name and inputs, as they were written.
    pub(crate) written: &'a Map<String, Value>,
    /// Whether it did what it should.
    pub(crate) well: bool,
}

/// How far apart two events may be for one to follow the other (3.8.8): the server holds back what comes too early for no longer.
const TIGHT: SignedDuration = SignedDuration::from_mins(5);

/// What a process worker calls its runner (3.8.8).
const RUNNER: &str = "standalone";

/// A name as it stands in a resource's id.
const IN_ID: slug::Rules = slug::Rules {
    longest: usize::MAX,
    lowercase: true,
    keep: &[],
};

// === impl Worker ===

impl Worker {
    pub(super) fn started(&self, pool: Uuid, now: Timestamp) -> Event {
        let pool = vec![thing("work-pool", pool, Some(&self.pool))];
        self.event("prefect.worker.started", pool, now)
    }

    pub(super) fn stopped(&self, started: &Event, now: Timestamp) -> Event {
        let mut event = self.event("prefect.worker.stopped", started.related.clone(), now);
        event.follows = follows((started.id, started.occurred), now);
        event
    }

    pub(super) fn submitted(&self, about: &About, now: Timestamp) -> Event {
        self.event(
            "prefect.worker.submitted-flow-run",
            about.related.clone(),
            now,
        )
    }

    pub(super) fn executed(
        &self,
        about: &About,
        ended: &Ended<'_>,
        submitted: Option<(Uuid, Timestamp)>,
        now: Timestamp,
    ) -> Event {
        let mut related = about.related.clone();
        let labels = [
            ("identifier", Some(ended.infrastructure.to_owned())),
            ("status-code", status_code(&self.kind, ended.outcome)),
        ];
        if let Some(flow_run) = related.iter_mut().find(|one| is(one, "flow-run")) {
            for (label, value) in labels {
                if let Some(value) = value {
                    flow_run.insert(format!("prefect.infrastructure.{label}"), value);
                }
            }
        }
        let mut event = self.event("prefect.worker.executed-flow-run", related, now);
        event.follows = submitted.and_then(|submitted| follows(submitted, now));
        event
    }

    /// A flow run's container has come to a status, as Docker workers tell it (prefect-docker 0.7.4).
    pub(super) fn container(
        &self,
        about: &About,
        container: &Container<'_>,
        earlier: Option<(Uuid, Timestamp)>,
        now: Timestamp,
    ) -> Event {
        let Container { id, name, status } = container;
        let resource = labels([
            (
                "prefect.resource.id",
                format!("prefect.docker.container.{id}"),
            ),
            ("prefect.resource.name", (*name).to_owned()),
        ]);
        let mut worker = self.resource();
        worker.insert("prefect.resource.role".to_owned(), "worker".to_owned());
        let mut related = about.related.clone();
        related.push(worker);
        let name = format!("prefect.docker.container.{status}");
        let mut event = event(&name, resource, related, now);
        event.follows = earlier.and_then(|earlier| follows(earlier, now));
        event
    }

    pub(super) fn creation_failed(&self, about: &About, now: Timestamp) -> Event {
        let name = "prefect.docker.container.creation-failed";
        self.event(name, about.related.clone(), now)
    }

    /// What an engine told of infrastructure, with what its labels say that it has to do with, in the order of the reference's observer
    /// (prefect-kubernetes 0.8.0). Tags are not among them.
    pub(super) fn happened(&self, happening: Happening) -> Event {
        let Happening {
            key: _,
            id,
            name,
            occurred,
            resource,
            labels: said,
            follows,
            told_since: _,
        } = happening;
        let label = |label: &str| said.get(&format!("prefect.io/{label}"));
        let related = ["flow-run", "deployment", "flow", "work-pool"];
        let related = related.into_iter().filter_map(|kind| {
            let id = label(&format!("{kind}-id"))?;
            let name = label(&format!("{kind}-name")).map(String::as_str);
            Some(thing(kind, id, name))
        });
        let worker = label("worker-name").map(|name| {
            let named = Self {
                name: name.clone(),
                ..self.clone()
            };
            let mut worker = named.resource();
            worker.insert("prefect.resource.role".to_owned(), "worker".to_owned());
            worker
        });
        Event {
            id,
            occurred,
            name,
            resource,
            related: related.chain(worker).collect(),
            payload: Map::new(),
            follows,
        }
    }

    fn event(&self, name: &str, related: Vec<Resource>, now: Timestamp) -> Event {
        event(name, self.resource(), related, now)
    }

    fn resource(&self) -> Resource {
        let id = format!("prefect.worker.{}.{}", self.kind, slug(&self.name, IN_ID));
        labels([
            ("prefect.resource.id", id),
            ("prefect.resource.name", self.name.clone()),
            ("prefect.version", REFERENCE_VERSION.to_owned()),
            ("prefect.worker-type", self.kind.clone()),
        ])
    }
}

// === impl About ===

impl About {
    /// What a flow run was made from, in the reference's order: deployment, flow, flow run, tags, work pool.
    pub(crate) fn new(
        (flow_run, flow): (&FlowRun, &Flow),
        deployment: Option<&Deployment>,
        (pool, pool_name): (Uuid, &str),
    ) -> Self {
        let deployed = deployment.map(|one| thing("deployment", one.id.0, Some(&one.name)));
        let deployment_tags = deployment.map(|one| &one.tags);
        let tags: BTreeSet<&String> = [Some(&flow.tags), Some(&flow_run.tags), deployment_tags]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let tags = tags.into_iter().map(|tag| {
            labels([
                ("prefect.resource.id", format!("prefect.tag.{tag}")),
                ("prefect.resource.role", "tag".to_owned()),
            ])
        });
        let related = deployed
            .into_iter()
            .chain([
                thing("flow", flow.id.0, Some(&flow.name)),
                thing("flow-run", flow_run.id.0, Some(&flow_run.name)),
            ])
            .chain(tags)
            .chain([thing("work-pool", pool, Some(pool_name))])
            .collect();
        Self { related }
    }

    /// What is known of a flow run without asking.
    pub(super) fn flow_run(id: Uuid, name: &str) -> Self {
        Self {
            related: vec![thing("flow-run", id, Some(name))],
        }
    }
}

/// In the name of the runner, the part of the reference's worker that executes flow runs.
pub(super) fn cancelled(about: &About, now: Timestamp) -> Event {
    let runner = labels([
        ("prefect.resource.id", format!("prefect.runner.{RUNNER}")),
        ("prefect.resource.name", RUNNER.to_owned()),
        ("prefect.version", REFERENCE_VERSION.to_owned()),
    ]);
    let mut related = about.related.clone();
    related.retain(|one| !is(one, "work-pool"));
    event("prefect.runner.cancelled-flow-run", runner, related, now)
}

/// What is told of a pull step. The reference names the deployment here by its id alone.
pub(super) fn pulled(flow_run: Uuid, deployment: Uuid, step: &Taken<'_>, now: Timestamp) -> Event {
    let name = if step.well {
        "prefect.flow-run.pull-step.executed"
    } else {
        "prefect.flow-run.pull-step.failed"
    };
    let resource = labels([(
        "prefect.resource.id",
        format!("prefect.flow-run.{flow_run}"),
    )]);
    let related = vec![thing("deployment", deployment, None)];
    let mut event = event(name, resource, related, now);
    // The last key is the step, should there be several.
    if let Some((qualified, inputs)) = step.written.iter().next_back() {
        let payload = json!({
            "index": step.index,
            "qualified_name": qualified,
            "step_name": qualified.rsplit('.').next(),
            "id": inputs.get("id"),
            "inputs": inputs,
        });
        if let Value::Object(payload) = payload {
            event.payload = payload;
        }
    }
    event
}

fn event(name: &str, resource: Resource, related: Vec<Resource>, now: Timestamp) -> Event {
    Event {
        id: Uuid::now_v7(),
        occurred: now,
        name: name.to_owned(),
        resource,
        related,
        payload: Map::new(),
        follows: None,
    }
}

/// A related thing, with its kind as its role.
fn thing(kind: &str, id: impl Display, name: Option<&str>) -> Resource {
    let mut resource = labels([
        ("prefect.resource.id", format!("prefect.{kind}.{id}")),
        ("prefect.resource.role", kind.to_owned()),
    ]);
    if let Some(name) = name {
        resource.insert("prefect.resource.name".to_owned(), name.to_owned());
    }
    resource
}

fn is(resource: &Resource, role: &str) -> bool {
    resource
        .get("prefect.resource.role")
        .is_some_and(|its| its == role)
}

fn labels<const N: usize>(pairs: [(&str, String); N]) -> Resource {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn follows((earlier, then): (Uuid, Timestamp), now: Timestamp) -> Option<Uuid> {
    (now.duration_since(then).abs() < TIGHT).then_some(earlier)
}

/// The code the reference would have seen: a signal is its number below zero to a process's parent, and as a shell would say it of anything else. An engine that
/// reported its end has no other code than 0.
fn status_code(kind: &str, outcome: &Outcome) -> Option<String> {
    let by_signal = |signal: i32| {
        if kind == DriverKind::Process.as_str() {
            format!("-{signal}")
        } else {
            (128 + signal).to_string()
        }
    };
    match outcome {
        Outcome::Exited { reported: true, .. } => Some("0".to_owned()),
        Outcome::Exited { code, .. } => Some(code.to_string()),
        Outcome::Signalled { signal, .. } => Some(by_signal(*signal)),
        Outcome::OutOfMemory { .. } => Some(by_signal(9)),
        Outcome::NeverStarted { .. } | Outcome::Lost { .. } => None,
    }
}

#[cfg(test)]
mod tests;
