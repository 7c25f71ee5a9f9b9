//! Looks at a cluster as an operator would: whether it answers, which it is, and what this worker may do in the namespaces of its jobs.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;

use super::{
    Shared, error,
    secret::{Credentials, Keep},
};
use crate::examination::{Examination, Finding};

/// What is looked at, in findings.
const WHAT: &str = "Kubernetes";

/// What a worker does in the namespace of a job: group, resource, verbs, and what goes wrong without.
const NEEDED: [(&str, &str, &[&str], Need); 8] = [
    (
        "batch",
        "jobs",
        &["create", "get", "list", "watch", "delete"],
        Need::Always,
    ),
    (
        "batch",
        "jobs",
        &["patch"],
        Need::For("jobs that have ended are not left to their finished_job_ttl"),
    ),
    ("", "pods", &["get", "list", "watch"], Need::Always),
    (
        "",
        "pods",
        &["delete"],
        Need::For("pods end within their own grace instead of the one that was asked for"),
    ),
    (
        "",
        "pods/log",
        &["get"],
        Need::For("what jobs write is not seen"),
    ),
    (
        "",
        "events",
        &["list"],
        Need::For("what a pod waits for is not seen"),
    ),
    (
        "",
        "secrets",
        &["create", "get", "list", "update"],
        Need::ForSecrets,
    ),
    (
        "",
        "secrets",
        &["patch", "delete"],
        Need::ForTidiness("a secret may outlive its job"),
    ),
];

/// How much a permission is needed.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// No job without it.
    Always,
    /// Jobs run, but.
    For(&'static str),
    /// No job without it where something of jobs is kept in secrets.
    ForSecrets,
    /// The same, but jobs run.
    ForTidiness(&'static str),
}

pub(super) async fn examine(shared: &Shared, examination: Examination<'_>) -> Vec<Finding> {
    let cluster = shared.clusters.home();
    let version = match cluster.control.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            let said = error::message(&error);
            let detail = format!(
                "the API at {} does not answer as it should: {said}; see KUBECONFIG, or the service account of the worker's pod",
                cluster.id
            );
            return vec![Finding::problem(WHAT, detail)];
        }
    };
    let detail = format!("{} answers: {}", cluster.id, version.git_version);
    let mut findings = vec![Finding::ok(WHAT, detail)];
    let mut namespaces: BTreeSet<String> = cluster.sight().namespaces().into_iter().collect();
    if let Some(namespace) = examination.variable("namespace") {
        // Jobs go there, so the one of the kubeconfig does not matter.
        namespaces = shared.options.namespaces.iter().cloned().collect();
        namespaces.insert(namespace.to_owned());
    }
    let ways_out = ways_out(&shared.options.settings.credentials, examination.template);
    for namespace in namespaces {
        findings.extend(rights(&cluster.control, &namespace, &ways_out).await);
    }
    if let Some(image) = examination.image {
        let detail = format!("{image} is pulled by nodes, which nobody can ask beforehand");
        findings.push(Finding::warning("image", detail));
    }
    findings
}

/// What would have to be so that jobs whose runs say nothing else need no secret. None: they need none.
fn ways_out(credentials: &Credentials, template: &Value) -> Vec<&'static str> {
    let mut ways_out = Vec::new();
    if credentials.rest != Keep::Nowhere {
        ways_out
            .push("set kubernetes.pass_credentials = false and give jobs their own credentials");
    }
    if credentials.whole_environment {
        ways_out.push("unset PREFECT_INTEGRATIONS_KUBERNETES_WORKER_STORE_ENV_AS_SECRET");
    }
    if logs_in(template) {
        ways_out.push(
            "have nodes log in at the registry by themselves and take registry_credentials out of the pool's base job template",
        );
    }
    ways_out
}

/// Whether a pool gives its jobs a login for a registry.
fn logs_in(template: &Value) -> bool {
    let login = match template.pointer("/job_configuration/registry_credentials") {
        Some(Value::String(text)) => match variable(text) {
            Some(name) => template.pointer(&format!("/variables/properties/{name}/default")),
            // A block, for example.
            None => return true,
        },
        login => login,
    };
    login.is_some_and(|login| !login.is_null())
}

/// The job variable for which alone this text has a place.
fn variable(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let fits = |one: char| one.is_alphanumeric() || "_-".contains(one);
    name.chars().all(fits).then_some(name)
}

/// What this worker may not do in a namespace, or one finding that it may do everything.
async fn rights(client: &Client, namespace: &str, ways_out: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (group, resource, verbs, need) in NEEDED {
        if matches!(need, Need::ForSecrets | Need::ForTidiness(_)) && ways_out.is_empty() {
            continue;
        }
        let mut missing = Vec::new();
        for &verb in verbs {
            match may(client, namespace, (group, resource, verb)).await {
                Ok(true) => {}
                Ok(false) => missing.push(verb),
                Err(error) => {
                    let said = error::message(&error);
                    let detail =
                        format!("cannot ask what this worker may do in '{namespace}': {said}");
                    return vec![Finding::warning(WHAT, detail)];
                }
            }
        }
        if !missing.is_empty() {
            let what = format!(
                "namespace '{namespace}': this worker may not {} {resource}",
                missing.join(", ")
            );
            findings.push(lacking(&what, need, ways_out));
        }
    }
    if findings.is_empty() {
        let detail = format!("this worker may do what it needs in namespace '{namespace}'");
        findings.push(Finding::ok(WHAT, detail));
    }
    findings
}

fn lacking(what: &str, need: Need, ways_out: &[&str]) -> Finding {
    let grant = "the Role of deploy/helm/worker grants it";
    match need {
        Need::Always => Finding::problem(WHAT, format!("{what}; {grant}")),
        Need::For(loss) | Need::ForTidiness(loss) => {
            Finding::warning(WHAT, format!("{what}, so {loss}; {grant}"))
        }
        Need::ForSecrets => {
            let instead = ways_out.join(", and ");
            Finding::problem(WHAT, format!("{what}; {grant}, or {instead}"))
        }
    }
}

async fn may(
    client: &Client,
    namespace: &str,
    (group, resource, verb): (&str, &str, &str),
) -> Result<bool, kube::Error> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, below)) => (resource, Some(below.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                namespace: Some(namespace.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests;
