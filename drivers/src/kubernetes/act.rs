//! Finds and removes Jobs.

use std::{sync::Arc, time::Duration};

use futures::future;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    ENGINE, Shared,
    connection::{CONTROL_LIMIT, Cluster},
    error, keep, lock,
    plan::{JOB_LABEL, OWNER_LABEL, owner_value},
    pod::PodSeen,
    sight::Refusal,
    state::{self, EndedByUs, JobSeen},
    view::Glance,
};
use crate::{
    driver::{DriverError, Owned, Recovered},
    job::{Handle, Outcome, Owner, Phase, RunKey},
};

/// How many objects come in one page of a list.
const PAGE: u32 = 500;

/// How long to wait for a Job to be gone. What takes longer waits for a node that may never answer.
const GONE_LIMIT: Duration = Duration::from_secs(50);

/// How long the cluster may take to notice that a Job has ended whose pod has.
const NOTICE_LIMIT: Duration = Duration::from_secs(10);

/// The time between two looks whether it is, at first and at last.
pub(super) const LOOK_AGAIN: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(2));

/// The same where a watch would tell.
const UNHEARD: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(5));

/// How long to wait for a snapshot before the cluster is asked about one attempt.
const SETTLED_LIMIT: Duration = Duration::from_secs(5);

/// The grace of what is removed without being asked to end.
const NO_GRACE: Duration = Duration::from_secs(1);

/// Where a Job is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster: Arc<Cluster>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

// === impl Place ===

impl Place {
    /// Of a handle. None: its cluster is not one that this worker knows.
    pub(super) fn of(shared: &Shared, handle: &Handle) -> Option<Self> {
        let text = |name: &str| handle.state.get(name).and_then(Value::as_str);
        let cluster = shared.clusters.find(text("cluster")?)?;
        Some(Self {
            cluster,
            namespace: text("namespace")?.to_owned(),
            name: text("name")?.to_owned(),
            uid: text("uid")?.to_owned(),
        })
    }

    pub(super) fn of_job(cluster: &Arc<Cluster>, job: &JobSeen) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            namespace: job.namespace.clone(),
            name: job.name.clone(),
            uid: job.uid.clone(),
        }
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.cluster.control.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.control.clone(), &self.namespace)
    }

    /// The Job, if it is there and is this one.
    pub(super) async fn look(&self, key: RunKey) -> Result<Option<JobSeen>, DriverError> {
        let found = ask(self.jobs().get_opt(&self.name)).await?;
        let job = found.as_ref().and_then(JobSeen::of);
        Ok(job.filter(|job| job.uid == self.uid && job.key == key))
    }

    /// What is seen of an attempt here.
    pub(super) fn glance(&self, shared: &Shared, key: RunKey) -> Glance {
        shared.views.glance(key, &self.cluster.id, &self.namespace)
    }

    /// Its pods, as they were seen last if they were.
    pub(super) async fn pods_of(
        &self,
        shared: &Shared,
        key: RunKey,
    ) -> Result<Vec<PodSeen>, DriverError> {
        match self.glance(shared, key) {
            Glance::Seen(job, pods) if job.uid == self.uid => Ok(pods),
            _ => self.look_at_pods(shared, key).await,
        }
    }

    /// Its pods, as the cluster says now.
    pub(super) async fn look_at_pods(
        &self,
        shared: &Shared,
        key: RunKey,
    ) -> Result<Vec<PodSeen>, DriverError> {
        let _turn = shared.listing.acquire().await;
        let selector = format!("{JOB_LABEL}={key}");
        let pods = list(&self.pods(), &selector).await?;
        let seen = pods.iter().filter_map(PodSeen::of);
        Ok(seen.filter(|pod| pod.job == self.uid).collect())
    }
}

/// What became of an attempt.
pub(super) async fn recover(shared: &Shared, handle: &Handle) -> Result<Recovered, DriverError> {
    let Some(place) = Place::of(shared, handle) else {
        let cluster = handle.state.get("cluster").and_then(Value::as_str);
        let reason = format!(
            "it is on the cluster at {}, and this worker knows no way there (it knows {})",
            cluster.unwrap_or("?"),
            shared.clusters.names()
        );
        return Ok(Recovered::Unreachable { reason });
    };
    if place.cluster.sight().learn_again(&place.namespace) {
        shared.places.send_modify(|count| *count += 1);
    }
    let (job, pods) = match settled(shared, &place, handle.key).await {
        Glance::Expected => return Ok(Recovered::Running),
        Glance::Seen(job, pods) if job.uid == place.uid => (*job, pods),
        _ => {
            let Some(job) = place.look(handle.key).await? else {
                let end = end_of_gone(shared, handle.key);
                return Ok(end.map_or(Recovered::Missing, Recovered::Exited));
            };
            (job, place.look_at_pods(shared, handle.key).await?)
        }
    };
    lock(&shared.known).insert(handle.key, handle.clone());
    let by_us = shared.ended_by_us(handle.key);
    Ok(match state::phase(&job, &pods, by_us.as_ref()) {
        Phase::Exited(outcome) => Recovered::Exited(outcome),
        Phase::Pending(_) | Phase::Running => Recovered::Running,
    })
}

/// What is seen of an attempt, once all is that there is; what there is to know soon, if that takes long. A worker that comes back asks for all its jobs at
/// once, and a cluster is not to go through all pods for each.
async fn settled(shared: &Shared, place: &Place, key: RunKey) -> Glance {
    let until = Instant::now() + SETTLED_LIMIT;
    loop {
        let glance = place.glance(shared, key);
        if !matches!(glance, Glance::Behind) || Instant::now() > until {
            return glance;
        }
        tokio::time::sleep(LOOK_AGAIN.0).await;
    }
}

/// How a job ended that the cluster does not have any more, if we know: we saw it go, or it was we who ended it.
fn end_of_gone(shared: &Shared, key: RunKey) -> Option<Outcome> {
    let seen = lock(&shared.ends).get(&key).cloned();
    seen.or_else(|| {
        let by_us = shared.ended_by_us(key)?;
        Some(state::gone(&[], Some(&by_us), false))
    })
}

/// Finds out whether a job that we end is gone already, and remembers its end if it is.
pub(super) async fn look_for_end(shared: Arc<Shared>, key: RunKey) {
    let handle = lock(&shared.known).get(&key).cloned();
    let Some(place) = handle.and_then(|handle| Place::of(&shared, &handle)) else {
        return;
    };
    // What cannot be asked now is asked again.
    if let Ok(None) = place.look(key).await
        && let Some(outcome) = end_of_gone(&shared, key)
    {
        lock(&shared.ends).entry(key).or_insert(outcome);
    }
}

/// Undoes the submission of an attempt.
pub(super) async fn destroy(shared: &Shared, key: RunKey) -> Result<(), DriverError> {
    let _guard = shared.lock_of(key).await;
    lock(&shared.removed).insert(key);
    let known = lock(&shared.known).get(&key).cloned();
    let places = match known.and_then(|handle| Place::of(shared, &handle)) {
        Some(place) => vec![place],
        None => search(shared, key).await?,
    };
    let removed = remove_all(shared, &places, key).await;
    if removed.is_err() || places.is_empty() {
        // It is news again what becomes of it; or nothing will.
        lock(&shared.removed).remove(&key);
    }
    removed?;
    shared.forget(key);
    Ok(())
}

async fn remove_all(shared: &Shared, places: &[Place], key: RunKey) -> Result<(), DriverError> {
    let mut removed = Ok(());
    for place in places {
        removed = removed.and(remove(shared, place, key).await);
    }
    // Who made the Job may have died before it tied a Secret to it. It goes even where the Job takes its time: without one, nothing would lead to it.
    if !lock(&shared.tidy).contains(&key) {
        keep::remove_all(shared, key).await?;
    }
    removed
}

/// What finds an attempt of the owners that we know; of any, while we know none.
pub(super) fn selector_of(shared: &Shared, key: RunKey) -> String {
    let owners: Vec<String> = lock(&shared.owners).iter().map(owner_value).collect();
    if owners.is_empty() {
        return format!("{JOB_LABEL}={key},{OWNER_LABEL}");
    }
    format!("{JOB_LABEL}={key},{OWNER_LABEL} in ({})", owners.join(","))
}

/// The Jobs of an attempt, wherever they are.
async fn search(shared: &Shared, key: RunKey) -> Result<Vec<Place>, DriverError> {
    let selector = selector_of(shared, key);
    let mut places = Vec::new();
    for cluster in shared.clusters.of(key) {
        for job in everywhere::<Job>(&cluster, &selector).await? {
            if let Some(job) = JobSeen::of(&job) {
                places.push(Place::of_job(&cluster, &job));
            }
        }
    }
    Ok(places)
}

async fn remove(shared: &Shared, place: &Place, key: RunKey) -> Result<(), DriverError> {
    let Some(job) = place.look(key).await? else {
        return Ok(());
    };
    if job.is_kept && has_ended(shared, place, job).await? && let_go(shared, place).await {
        return Ok(());
    }
    let mut notices_rx = shared.notices_of(key);
    delete(shared, place, key, NO_GRACE).await?;
    let begun = Instant::now();
    let (mut wait, longest) = UNHEARD;
    loop {
        // The watch tells when it is gone.
        drop(tokio::time::timeout(wait, notices_rx.changed()).await);
        wait = longest.min(wait * 2);
        if place.look(key).await?.is_none() {
            return Ok(());
        }
        if begun.elapsed() > GONE_LIMIT {
            return Err(DriverError::Unavailable {
                engine: ENGINE,
                reason: format!("the job '{}' is still being removed", place.name),
            });
        }
    }
}

/// Whether a Job has ended. Its pod has before it, so that the cluster may still have to notice.
async fn has_ended(shared: &Shared, place: &Place, mut job: JobSeen) -> Result<bool, DriverError> {
    let pods = place.pods_of(shared, job.key).await?;
    let by_us = shared.ended_by_us(job.key);
    let phase = state::phase(&job, &pods, by_us.as_ref());
    let begun = Instant::now();
    let (mut wait, longest) = LOOK_AGAIN;
    while matches!(phase, Phase::Exited(_)) && !job.has_ended() && begun.elapsed() < NOTICE_LIMIT {
        tokio::time::sleep(wait).await;
        wait = longest.min(wait * 2);
        match place.look(job.key).await? {
            Some(now) => job = now,
            None => return Ok(false),
        }
    }
    Ok(job.has_ended())
}

/// Leaves a Job that has ended to the cluster, which removes it when its time has come (`finished_job_ttl`): from now on it is nobody's.
async fn let_go(shared: &Shared, place: &Place) -> bool {
    let patch = json!({"metadata": {"labels": {OWNER_LABEL: null}, "uid": place.uid}});
    let (jobs, parameters) = (place.jobs(), PatchParams::default());
    match bounded(jobs.patch(&place.name, &parameters, &Patch::Merge(patch))).await {
        Ok(_) => true,
        Err(error) if error::is_forbidden(&error) => {
            shared.complain_once(
                "jobs/patch",
                "this worker may not patch jobs, so it deletes those that have ended instead of leaving them to their finished_job_ttl",
            );
            false
        }
        Err(error) => {
            let reason = error::message(&error);
            tracing::warn!(
                job = place.name,
                reason,
                "cannot leave a job that has ended to its finished_job_ttl; it is deleted"
            );
            false
        }
    }
}

/// Deletes a Job and has its pods end within this grace. Already gone is success.
pub(super) async fn delete(
    shared: &Shared,
    place: &Place,
    key: RunKey,
    grace: Duration,
) -> Result<(), DriverError> {
    let pods = place.pods_of(shared, key).await?;
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let parameters = parameters.preconditions(kube::api::Preconditions {
        uid: Some(place.uid.clone()),
        resource_version: None,
    });
    // The Job first: one without its pod makes another.
    match bounded(place.jobs().delete(&place.name, &parameters)).await {
        Ok(_) => {}
        Err(error) if error::is_missing(&error) || error::is_conflict(&error) => return Ok(()),
        Err(error) => return Err(error::unavailable(&error)),
    }
    // The pods with nothing between. From here on the cluster deletes them as well, with the grace of their own, and the first grace holds: nobody can
    // make it longer, and a kubelet before 1.22 not even shorter.
    let live = pods.iter().filter(|pod| !pod.has_ended());
    let deletions = live.map(|pod| delete_pod(shared, place, pod, grace));
    future::try_join_all(deletions).await.map(drop)
}

async fn delete_pod(
    shared: &Shared,
    place: &Place,
    pod: &PodSeen,
    grace: Duration,
) -> Result<(), DriverError> {
    // Grace of none would have the cluster forget pods that still run.
    let seconds = u32::try_from(grace.as_millis().div_ceil(1000))
        .unwrap_or(u32::MAX)
        .max(1);
    let parameters = DeleteParams {
        grace_period_seconds: Some(seconds),
        ..DeleteParams::default()
    };
    match bounded(place.pods().delete(&pod.name, &parameters)).await {
        Ok(_) => Ok(()),
        Err(error) if error::is_missing(&error) || error::is_conflict(&error) => Ok(()),
        Err(error) if error::is_forbidden(&error) => {
            shared.complain_once(
                "pods/delete",
                "this worker may not delete pods, so they end within their own terminationGracePeriodSeconds",
            );
            Ok(())
        }
        Err(error) => Err(error::unavailable(&error)),
    }
}

/// Everything of an owner.
pub(super) async fn list_owned(shared: &Shared, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
    let selector = format!("{OWNER_LABEL}={}", owner_value(owner));
    let mut found = Vec::new();
    for cluster in shared.clusters.all() {
        let jobs = everywhere::<Job>(&cluster, &selector).await?;
        let pods = everywhere::<Pod>(&cluster, &selector).await?;
        let pods: Vec<_> = pods.iter().filter_map(PodSeen::of).collect();
        for job in jobs.iter().filter_map(JobSeen::of) {
            let of_job = pods.iter().filter(|pod| pod.job == job.uid).cloned();
            let of_job: Vec<PodSeen> = of_job.collect();
            let by_us: Option<EndedByUs> = shared.ended_by_us(job.key);
            let handle = job.handle(&cluster.id);
            lock(&shared.known).insert(job.key, handle.clone());
            found.push(Owned {
                handle,
                phase: state::phase(&job, &of_job, by_us.as_ref()),
            });
        }
    }
    Ok(found)
}

/// What has these labels in a cluster, as far as we may see it.
async fn everywhere<K>(cluster: &Cluster, selector: &str) -> Result<Vec<K>, DriverError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    'again: loop {
        let mut found = Vec::new();
        let scopes = cluster.sight().scopes();
        for scope in scopes {
            let client = cluster.control.clone();
            let api: Api<K> = match &scope {
                None => Api::all(client),
                Some(namespace) => Api::namespaced(client, namespace),
            };
            match pages(&api, selector).await {
                Ok(items) => found.extend(items),
                Err(error) if error::is_forbidden(&error) => {
                    let said = error::advice(&error);
                    if cluster.forbid(scope.as_deref(), &said) == Refusal::Surprise {
                        return Err(error::unavailable(&error));
                    }
                    continue 'again;
                }
                Err(error) => return Err(error::unavailable(&error)),
            }
        }
        return Ok(found);
    }
}

async fn list<K>(api: &Api<K>, selector: &str) -> Result<Vec<K>, DriverError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let listed = pages(api, selector).await;
    listed.map_err(|error| error::unavailable(&error))
}

pub(super) async fn pages<K>(api: &Api<K>, selector: &str) -> Result<Vec<K>, kube::Error>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut parameters = ListParams::default().labels(selector).limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page = bounded(api.list(&parameters)).await?;
        items.extend(page.items);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => parameters = parameters.continue_token(&token),
            _ => return Ok(items),
        }
    }
}

pub(super) async fn ask<T>(
    question: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, DriverError> {
    bounded(question)
        .await
        .map_err(|error| error::unavailable(&error))
}

/// A connection that neither ends nor says anything must not hold anybody up.
pub(super) async fn bounded<T>(
    question: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(CONTROL_LIMIT, question).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(
            "the cluster's API does not answer".into(),
        )),
    }
}
