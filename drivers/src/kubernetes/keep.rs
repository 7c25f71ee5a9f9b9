//! The Secrets that hold what a manifest may not show: made before their Jobs, tied to them, and removed where that was not possible.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    Shared,
    act::{ask, bounded, pages, selector_of},
    connection::Cluster,
    error,
    plan::{OwnSecret, Plan},
    pull_secret,
    state::JobSeen,
};
use crate::{driver::DriverError, job::RunKey};

/// Makes the Secrets of an attempt before its Job, so that no pod waits for them. Those that an earlier try left are brought up to date.
pub(super) async fn keep(cluster: &Cluster, plan: &Plan) -> Result<(), DriverError> {
    for own in &plan.secrets {
        keep_one(cluster, plan, own).await?;
    }
    Ok(())
}

async fn keep_one(cluster: &Cluster, plan: &Plan, own: &OwnSecret) -> Result<(), DriverError> {
    let OwnSecret { name, kind, values } = own;
    let what = format!("the secret '{name}' in namespace '{}'", plan.namespace);
    let secrets: Api<Secret> = Api::namespaced(cluster.control.clone(), &plan.namespace);
    let mut secret = Secret {
        string_data: Some(values.0.clone()),
        type_: Some((*kind).to_owned()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.clone());
    secret.metadata.labels = Some(plan.own_labels());
    let created = bounded(secrets.create(&PostParams::default(), &secret)).await;
    match created {
        Ok(_) => Ok(()),
        Err(error) if error::is_taken(&error) => {
            let found = ask(secrets.get_opt(name)).await?;
            let metadata = found.map(|found| found.metadata).unwrap_or_default();
            let is_ours = metadata.labels == Some(plan.own_labels());
            if !is_ours {
                return Err(DriverError::Conflict { what });
            }
            secret.metadata.owner_references = metadata.owner_references;
            let replaced = bounded(secrets.replace(name, &PostParams::default(), &secret)).await;
            replaced
                .map(drop)
                .map_err(|error| error::refused(&error, &what))
        }
        Err(error) if error::is_forbidden(&error) => Err(DriverError::Denied {
            what: format!("to keep the credentials of a job in {what}"),
            reason: format!(
                "{}; give the worker's service account the permission to create secrets, or name a secret that has them ({})",
                error::message(&error),
                if *kind == pull_secret::TYPE {
                    "imagePullSecrets in the pod of the job manifest"
                } else {
                    "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET_NAME"
                }
            ),
        }),
        Err(error) => Err(error::refused(&error, &what)),
    }
}

/// Has the Secrets go with their Job. False: they cannot, and go when the job is removed by us.
pub(super) async fn tie(shared: &Shared, cluster: &Cluster, plan: &Plan, job: &JobSeen) -> bool {
    let secrets: Api<Secret> = Api::namespaced(cluster.control.clone(), &plan.namespace);
    let owner = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job.name,
        "uid": job.uid,
        "blockOwnerDeletion": false,
    });
    let patch = json!({"metadata": {"ownerReferences": [owner]}});
    let patch = Patch::Merge(patch);
    let mut is_tied = true;
    for OwnSecret { name, .. } in &plan.secrets {
        let given = bounded(secrets.patch(name, &PatchParams::default(), &patch)).await;
        match given {
            Ok(_) => continue,
            Err(error) if error::is_forbidden(&error) => shared.complain_once(
                "secrets/patch",
                "this worker may not patch secrets, so those of its jobs do not go with them by themselves; it deletes them",
            ),
            Err(error) => tracing::warn!(
                job = %plan.key,
                error = error::message(&error),
                "cannot tie the secret of a job to it; it is removed with the job by this worker"
            ),
        }
        is_tied = false;
    }
    is_tied
}

/// Removes the Secrets of an attempt whose Job could not be made.
pub(super) async fn drop_all(shared: &Shared, cluster: &Cluster, plan: &Plan) {
    let secrets: Api<Secret> = Api::namespaced(cluster.control.clone(), &plan.namespace);
    for OwnSecret { name, .. } in &plan.secrets {
        let deleted = bounded(secrets.delete(name, &DeleteParams::default())).await;
        match deleted {
            Err(error) if error::is_forbidden(&error) => may_not_delete_secrets(shared),
            Err(error) if !error::is_missing(&error) => {
                tracing::warn!(job = %plan.key, error = error::message(&error), "a secret is left that no job uses");
            }
            _ => {}
        }
    }
}

fn may_not_delete_secrets(shared: &Shared) {
    shared.complain_once(
        "secrets/delete",
        "this worker may not delete secrets, so those are left whose jobs could not be made",
    );
}

/// Removes the Secrets of an attempt that has no Job.
pub(super) async fn remove_all(shared: &Shared, key: RunKey) -> Result<(), DriverError> {
    let selector = selector_of(shared, key);
    for cluster in shared.clusters.of(key) {
        let namespaces = cluster.sight().namespaces();
        for namespace in namespaces {
            let api: Api<Secret> = Api::namespaced(cluster.control.clone(), &namespace);
            let secrets = match pages(&api, &selector).await {
                Ok(secrets) => secrets,
                // Who may not see secrets has made none.
                Err(error) if error::is_forbidden(&error) || error::is_missing(&error) => continue,
                Err(error) => return Err(error::unavailable(&error)),
            };
            for name in secrets.into_iter().filter_map(|one| one.metadata.name) {
                let deleted = bounded(api.delete(&name, &DeleteParams::default())).await;
                match deleted {
                    Err(error) if error::is_forbidden(&error) => may_not_delete_secrets(shared),
                    Err(error) if !error::is_missing(&error) => {
                        return Err(error::unavailable(&error));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
