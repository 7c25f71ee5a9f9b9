//! Makes Jobs, and knows where they were made.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Resource, api::PostParams, core::Request};
use tokio::{sync::oneshot, time::Instant};

use super::{
    ENGINE, Shared,
    act::{LOOK_AGAIN, ask, bounded},
    connection::Cluster,
    error, keep, lock,
    plan::Plan,
    state::JobSeen,
};
use crate::driver::{DriverError, Submitted};

/// How long a refusal of what we want to make is doubted.
const DOUBT: Duration = Duration::from_secs(10);

/// Starts an attempt, or finds it. What is on its way goes on when the future is dropped, under the attempt's lock: whoever then removes the attempt
/// waits for it.
pub(super) async fn submit(shared: &Arc<Shared>, plan: &Plan) -> Result<Submitted, DriverError> {
    shared.know(&plan.owner);
    lock(&shared.removed).remove(&plan.key);
    let (answer_tx, answer_rx) = oneshot::channel();
    let (task_shared, plan) = (Arc::clone(shared), plan.clone());
    shared.spawn(async move {
        let answer = make(&task_shared, &plan).await;
        // Who asked may have gone.
        answer_tx.send(answer).ok();
    });
    answer_rx.await.unwrap_or_else(|_| {
        Err(DriverError::Unavailable {
            engine: ENGINE,
            reason: "the driver is shutting down".to_owned(),
        })
    })
}

/// A refusal is believed when it holds: an API server that has just begun refuses what it allows a moment later, as does a namespace that is new.
async fn make(shared: &Shared, plan: &Plan) -> Result<Submitted, DriverError> {
    let _guard = shared.lock_of(plan.key).await;
    let cluster = shared.cluster_of(plan.cluster.as_ref()).await?;
    shared.clusters.expect(plan.key, &cluster);
    let begun = Instant::now();
    let (mut wait, longest) = LOOK_AGAIN;
    loop {
        let turn = shared.creating.acquire().await;
        let made = make_once(shared, &cluster, plan).await;
        drop(turn);
        if !matches!(made, Err(DriverError::Denied { .. })) || begun.elapsed() > DOUBT {
            return made;
        }
        tokio::time::sleep(wait).await;
        wait = longest.min(wait * 2);
    }
}

/// Knows from now on where the attempt's Job is, if there is one.
pub(super) async fn learn_way(shared: &Shared, plan: &Plan) -> Result<(), DriverError> {
    let cluster = shared.cluster_of(plan.cluster.as_ref()).await?;
    shared.clusters.expect(plan.key, &cluster);
    if cluster.sight().learn(&plan.namespace) {
        shared.places.send_modify(|count| *count += 1);
    }
    Ok(())
}

async fn make_once(
    shared: &Shared,
    cluster: &Arc<Cluster>,
    plan: &Plan,
) -> Result<Submitted, DriverError> {
    let is_new_place = cluster.sight().mention(&plan.namespace);
    let made = make_on(shared, cluster, plan).await;
    // Where nothing of ours is, as after a refusal, we may not even be allowed to look, and need not be.
    let may_be_there = matches!(made, Ok(_) | Err(DriverError::Unavailable { .. }));
    let is_ours = may_be_there && cluster.sight().learn(&plan.namespace);
    if is_new_place || is_ours {
        shared.places.send_modify(|count| *count += 1);
    }
    made
}

async fn make_on(
    shared: &Shared,
    cluster: &Arc<Cluster>,
    plan: &Plan,
) -> Result<Submitted, DriverError> {
    keep::keep(cluster, plan).await?;
    shared.views.expect(plan.key, &cluster.id, &plan.namespace);
    let created = create_job(cluster, plan).await;
    if created.is_err() {
        shared.views.expect_no_more(plan.key);
    }
    let what = || format!("the job '{}' in namespace '{}'", plan.name, plan.namespace);
    let (job, is_new) = match created {
        Ok(job) => (job, true),
        Err(error) if error::is_taken(&error) => {
            let jobs: Api<Job> = Api::namespaced(cluster.control.clone(), &plan.namespace);
            match ask(jobs.get_opt(&plan.name)).await? {
                Some(job) => (job, false),
                // It went away between two questions.
                None => return Err(error::unavailable(&error)),
            }
        }
        Err(error) => {
            let refused = error::refused(&error, &what());
            if !matches!(refused, DriverError::Unavailable { .. }) {
                keep::drop_all(shared, cluster, plan).await;
            }
            return Err(refused);
        }
    };
    let labels = job.metadata.labels.clone().unwrap_or_default();
    let ours = plan.own_labels();
    let is_ours = ours
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value));
    let Some(seen) = JobSeen::of(&job).filter(|_| is_ours) else {
        keep::drop_all(shared, cluster, plan).await;
        return Err(DriverError::Conflict { what: what() });
    };
    let is_tidy = if plan.secrets.is_empty() {
        // Who made it before may have had one to keep.
        is_new
    } else {
        keep::tie(shared, cluster, plan, &seen).await
    };
    if is_tidy {
        lock(&shared.tidy).insert(plan.key);
    }
    let handle = seen.handle(&cluster.id);
    lock(&shared.known).insert(plan.key, handle.clone());
    Ok(if is_new {
        Submitted::Created(handle)
    } else {
        Submitted::Adopted(handle)
    })
}

/// As it was written: a typed Job would lose what it does not know.
async fn create_job(cluster: &Cluster, plan: &Plan) -> Result<Job, kube::Error> {
    let path = Job::url_path(&(), Some(&plan.namespace));
    let body = serde_json::to_vec(&plan.manifest.0).map_err(kube::Error::SerdeError)?;
    let request = Request::new(path)
        .create(&PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    bounded(cluster.control.request(request)).await
}
