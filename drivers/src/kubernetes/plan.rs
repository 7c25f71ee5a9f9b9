//! From a job to the Job that the cluster will be asked for. Pure.
//!
//! [`prepare()`] says what the reference would submit. What is different here, and why, is said once, in [`plan`].

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};
use worker_config::policy::Policy;

use super::{
    KubernetesSettings,
    manifest::{main_container, metadata, pod_template},
    names,
    options::{ClusterConfig, Options},
    prepare::{Prepared, prepare},
    pull_image, pull_secret,
    secret::SecretValues,
};
use crate::{
    driver::DriverError,
    fields::{invalid, refused},
    job::{Job, Owner, Program, RunKey},
};

/// What will be asked for, for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: RunKey,
    /// Whose it is.
    pub owner: Owner,
    /// The cluster, where it is not the worker's own.
    pub cluster: Option<ClusterConfig>,
    /// Where in it.
    pub namespace: String,
    /// The Job's name.
    pub name: String,
    /// The Job.
    pub manifest: Manifest,
    /// The Secrets of its own.
    pub secrets: Vec<OwnSecret>,
}

/// A Secret that goes with its Job. Printing shows the names of its values only.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnSecret {
    /// Its name.
    pub name: String,
    /// Its type, as the cluster calls it.
    pub kind: &'static str,
    /// What it holds.
    pub values: SecretValues,
}

/// A manifest. Printing shows nothing that may be a credential.
#[derive(Clone, PartialEq)]
pub struct Manifest(pub Map<String, Value>);

/// The label that says whose a Job, a pod or a Secret is.
pub(super) const OWNER_LABEL: &str = "prefect-worker.io/owner";
/// The label that says for which attempt it is.
pub(super) const JOB_LABEL: &str = "prefect-worker.io/job";
/// The annotation that says which container runs the flow: others may be put before it.
pub(super) const CONTAINER: &str = "prefect-worker.io/container";
/// The annotation that says how long the pod may take to start, in seconds.
pub(super) const POD_LIMIT: &str = "prefect-worker.io/pod-watch-timeout-seconds";
/// The annotation that says how long the Job may take, in seconds.
pub(super) const JOB_LIMIT: &str = "prefect-worker.io/job-watch-timeout-seconds";
/// The annotation that says what runs in it, as far as it matters to how it is stopped.
pub(super) const PROGRAM: &str = "prefect-worker.io/program";
/// The annotation with the labels that could not be said whole, as JSON.
pub(super) const LABELS: &str = "prefect-worker.io/labels";
/// The annotation with the annotations whose keys could not be said, as JSON.
const ANNOTATIONS: &str = "prefect-worker.io/annotations";

/// Prefect's own runner: it sees by itself that a flow run is to be cancelled, and runs its hooks.
pub(super) const RUNNER: &str = "runner";

/// Changes to the manifest, as a JSON patch: what Prefect's Kubernetes blocks called so before there were templates.
const CUSTOMIZATIONS: &str = "customizations";

/// Plans one attempt.
///
/// It is what the reference would submit, but for this:
/// the name is one of the attempt's own instead of a beginning that the cluster ends, so that making it twice makes one;
/// credentials are references to a Secret, so that nobody reads them in the manifest;
/// a login for a registry, of which the reference knows nothing, is in a Secret that the pod names;
/// two labels say whose it is and for which attempt, and annotations what a successor of this worker has to know;
/// labels that would be cut are told apart by a hash, and their originals are in an annotation;
/// labels and annotations that the cluster would refuse do not keep the job from running.
///
/// # Errors
/// [`DriverError::Invalid`] and [`DriverError::Denied`].
pub fn plan(
    job: &Job,
    policy: &Policy,
    settings: &KubernetesSettings,
) -> Result<Plan, DriverError> {
    if matches!(job.program, Program::Command { .. }) && !policy.allow_command {
        return Err(DriverError::Denied {
            what: "command".to_owned(),
            reason: "the operator of this worker lets no job bring a command of its own".to_owned(),
        });
    }
    let Prepared {
        mut manifest,
        namespace,
        cluster,
    } = prepare(job, settings)?;
    customize(&mut manifest, job.configuration.get(CUSTOMIZATIONS))?;
    let name = name(&mut manifest, job)?;
    let container = main_container(&mut manifest)?;
    let main = container.get("name").and_then(Value::as_str);
    let main = main.unwrap_or("prefect-job").to_owned();
    if let Program::Engine { entrypoint } = &job.program {
        pull_image::run_engine(&mut manifest, entrypoint)?;
    }
    let env = format!("{name}-env");
    let hidden = hide(&mut manifest, settings, &env)?;
    let mut secrets: Vec<OwnSecret> = hidden
        .map(|values| OwnSecret {
            name: env,
            kind: "Opaque",
            values,
        })
        .into_iter()
        .collect();
    if job.configuration.get(pull_image::FIELD) == Some(&Value::Bool(true)) {
        let image = settings.pull_image.as_ref().ok_or_else(|| {
            refused(
                "pull",
                "no image is configured that brings code to Kubernetes jobs",
            )
        })?;
        pull_image::bring_code(&mut manifest, image)?;
    }
    let options = Options::read(&job.configuration)?;
    if let Some(credentials) = &options.registry_credentials {
        let name = format!("{name}-registry");
        pull_secret::name_in(&mut manifest, &name)?;
        secrets.push(OwnSecret {
            name,
            kind: pull_secret::TYPE,
            values: pull_secret::values(credentials),
        });
    }
    legalize(&mut manifest, job)?;
    sign(&mut manifest, job, &options, &main)?;
    Ok(Plan {
        key: job.key,
        owner: job.owner.clone(),
        cluster,
        namespace,
        name,
        manifest: Manifest(manifest),
        secrets,
    })
}

// === impl Plan ===

impl Plan {
    /// The labels by which everything of this attempt is found.
    pub fn own_labels(&self) -> BTreeMap<String, String> {
        own_labels(&self.owner, self.key)
    }
}

// === impl Manifest ===

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Manifest")
            .field(&self.0.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The value of the label that says whose something is.
pub(super) fn owner_value(owner: &Owner) -> String {
    names::whole_label_value(&owner.0).0
}

fn own_labels(owner: &Owner, key: RunKey) -> BTreeMap<String, String> {
    [
        (OWNER_LABEL.to_owned(), owner_value(owner)),
        (JOB_LABEL.to_owned(), key.to_string()),
    ]
    .into()
}

fn customize(manifest: &mut Map<String, Value>, patch: Option<&Value>) -> Result<(), DriverError> {
    let Some(patch) = patch.filter(|patch| !patch.is_null()) else {
        return Ok(());
    };
    // Errors of the patch quote it, and it may hold a credential.
    let operations: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|_| {
        invalid(
            CUSTOMIZATIONS,
            "a JSON patch: a list of operations (RFC 6902)",
            patch,
        )
    })?;
    let mut whole = Value::Object(std::mem::take(manifest));
    json_patch::patch(&mut whole, &operations).map_err(|error| {
        let reason = format!(
            "operation {} cannot be applied to the manifest",
            error.operation
        );
        refused(CUSTOMIZATIONS, reason)
    })?;
    let Value::Object(patched) = whole else {
        return Err(refused(
            CUSTOMIZATIONS,
            "leave no object of the job manifest",
        ));
    };
    *manifest = patched;
    Ok(())
}

/// Names the Job: as the template does, else by its attempt.
fn name(manifest: &mut Map<String, Value>, job: &Job) -> Result<String, DriverError> {
    let metadata = metadata(manifest)?;
    let beginning = metadata.remove("generateName");
    let name = match metadata.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => {
            let beginning = beginning.as_ref().and_then(Value::as_str);
            let beginning = beginning.unwrap_or_default().trim_end_matches('-');
            names::job_name(beginning, &job.owner, job.key)
        }
    };
    metadata.insert("name".to_owned(), name.as_str().into());
    Ok(name)
}

/// Takes credentials out of the job's environment.
fn hide(
    manifest: &mut Map<String, Value>,
    settings: &KubernetesSettings,
    secret: &str,
) -> Result<Option<SecretValues>, DriverError> {
    let container = main_container(manifest)?;
    let Some(Value::Array(variables)) = container.get_mut("env") else {
        return Ok(None);
    };
    Ok(settings.credentials.hide(variables, secret))
}

/// Makes labels and annotations such that the cluster takes them, and keeps what they were.
fn legalize(manifest: &mut Map<String, Value>, job: &Job) -> Result<(), DriverError> {
    let written = job.configuration.get("job_manifest");
    let written = |pointer: &str| {
        let labels = written.and_then(|manifest| manifest.pointer(pointer)?.as_object());
        let labels = labels.into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
    };
    let own: Vec<_> = job.labels.clone().into_iter().collect();
    let jobs: Vec<_> = written("/metadata/labels").chain(own.clone()).collect();
    let pods: Vec<_> = written("/spec/template/metadata/labels")
        .chain(own)
        .collect();
    legalize_metadata(metadata(manifest)?, jobs);
    if let Some(Value::Object(metadata)) = pod_template(manifest)?.get_mut("metadata") {
        legalize_metadata(metadata, pods);
    }
    Ok(())
}

fn legalize_metadata(metadata: &mut Map<String, Value>, originals: Vec<(String, String)>) {
    let mut lost = Map::new();
    if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
        labels.retain(|key, _| names::is_label_key(key));
        for (key, value) in originals {
            let (fitted, is_lost) = names::whole_label_value(&value);
            let legal = names::label_key(&key);
            if is_lost && labels.contains_key(&legal) {
                labels.insert(legal.clone(), fitted.into());
            }
            if is_lost || !labels.contains_key(&legal) {
                lost.insert(key, value.into());
            }
        }
        for (_, value) in labels.iter_mut() {
            let text = value.as_str().unwrap_or_default();
            if !names::is_label_value(text) {
                *value = names::whole_label_value(text).0.into();
            }
        }
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Value::Object(annotations) = annotations {
        let illegal = annotations.keys().filter(|key| !names::is_label_key(key));
        let illegal: Vec<String> = illegal.cloned().collect();
        let unsaid: Map<String, Value> = illegal
            .iter()
            .filter_map(|key| annotations.remove_entry(key))
            .collect();
        for (name, kept) in [(LABELS, lost), (ANNOTATIONS, unsaid)] {
            if !kept.is_empty() {
                annotations.insert(name.to_owned(), Value::Object(kept).to_string().into());
            }
        }
    }
}

/// Says on the Job and its pods whose they are, and what a successor of this worker has to know.
fn sign(
    manifest: &mut Map<String, Value>,
    job: &Job,
    options: &Options,
    main: &str,
) -> Result<(), DriverError> {
    let runs = match job.program {
        Program::Execute | Program::Command { engine: true, .. } => RUNNER,
        Program::Engine { .. } => "engine",
        Program::Command { engine: false, .. } => "command",
    };
    let mut annotations: Vec<(&str, String)> = vec![
        (CONTAINER, main.to_owned()),
        (PROGRAM, runs.to_owned()),
        (POD_LIMIT, options.pod_watch_timeout_seconds.to_string()),
    ];
    if let Some(limit) = options.job_watch_timeout_seconds {
        annotations.push((JOB_LIMIT, limit.to_string()));
    }
    let labels = own_labels(&job.owner, job.key);
    set(
        metadata(manifest)?,
        "annotations",
        annotations
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let labels = || {
        labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    };
    set(metadata(manifest)?, "labels", labels());
    let template = pod_template(manifest)?;
    let pods = template.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(pods) = pods {
        set(pods, "labels", labels());
        set(pods, "annotations", [(CONTAINER, main)].into_iter());
    }
    Ok(())
}

fn set<'a>(
    metadata: &mut Map<String, Value>,
    part: &str,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let part = metadata.entry(part).or_insert_with(|| json!({}));
    if let Value::Object(part) = part {
        part.extend(entries.map(|(name, value)| (name.to_owned(), value.into())));
    }
}

#[cfg(test)]
mod tests;
