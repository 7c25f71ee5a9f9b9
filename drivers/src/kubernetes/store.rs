//! What is known of an owner's Jobs and pods, and what changes in it mean for jobs. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    connection::Cluster,
    pod::PodSeen,
    state::{self, EndedByUs, JobSeen},
};
use crate::{
    driver::Owned,
    job::{Outcome, Phase, RunKey},
};

/// Everything of one owner that a watch has told of.
#[derive(Debug, Default)]
pub(super) struct Store {
    jobs: HashMap<RunKey, Entry>,
    /// By the uid of their Job, then by their own: they may be told of before it.
    pods: HashMap<String, BTreeMap<String, PodSeen>>,
}

#[derive(Debug)]
struct Entry {
    job: JobSeen,
    cluster: Arc<Cluster>,
    told: Option<Phase>,
    is_gone: bool,
    /// Since when it has ended without a pod that we know of.
    podless: Option<Timestamp>,
}

/// How much later than its Job a pod may be told of: the two come over connections of their own.
const PODS_ARE_LATE: SignedDuration = SignedDuration::from_secs(5);

/// What a look at a job found.
#[derive(Debug, PartialEq)]
pub(super) struct News {
    /// Its phase, where that is another than was told.
    pub(super) phase: Option<Phase>,
    /// How it ended, where the cluster does not have it any more and would not know.
    pub(super) gone: Option<Outcome>,
}

// === impl Store ===

impl Store {
    /// A Job is there.
    pub(super) fn job(&mut self, cluster: &Arc<Cluster>, job: JobSeen) -> RunKey {
        let key = job.key;
        match self.jobs.get_mut(&key) {
            Some(entry) if entry.job.uid == job.uid => entry.job = job,
            _ => {
                let entry = Entry {
                    job,
                    cluster: Arc::clone(cluster),
                    told: None,
                    is_gone: false,
                    podless: None,
                };
                self.jobs.insert(key, entry);
            }
        }
        key
    }

    /// A Job is not there any more.
    pub(super) fn job_gone(&mut self, uid: &str, key: RunKey) {
        match self.jobs.get_mut(&key) {
            Some(entry) if entry.job.uid == uid => entry.is_gone = true,
            _ => {}
        }
    }

    /// A pod is there.
    pub(super) fn pod(&mut self, pod: PodSeen) -> RunKey {
        let key = pod.key;
        let of_job = self.pods.entry(pod.job.clone()).or_default();
        of_job.insert(pod.uid.clone(), pod);
        key
    }

    /// A pod is not there any more. How it was is kept as long as its Job.
    pub(super) fn pod_gone(&mut self, job: &str, uid: &str, key: RunKey) {
        if self.jobs.get(&key).is_none_or(|entry| entry.job.uid != job) {
            self.pods.remove(job);
        } else if let Some(pod) = self.pods.get_mut(job).and_then(|pods| pods.get_mut(uid)) {
            pod.vanish();
        }
    }

    /// The uids and attempts of the Jobs in a place.
    pub(super) fn jobs_in(&self, place: impl Fn(&Cluster, &str) -> bool) -> Vec<(String, RunKey)> {
        let here = self
            .jobs
            .values()
            .filter(|one| place(&one.cluster, &one.job.namespace));
        here.map(|one| (one.job.uid.clone(), one.job.key)).collect()
    }

    /// The uids of pods in a place, with those of their Jobs.
    pub(super) fn pods_in(
        &self,
        place: impl Fn(&Cluster, &str) -> bool,
    ) -> Vec<(String, String, RunKey)> {
        let jobs = self
            .jobs
            .values()
            .filter(|one| place(&one.cluster, &one.job.namespace));
        let pods = jobs.flat_map(|one| self.pods.get(&one.job.uid).into_iter().flatten());
        pods.map(|(uid, pod)| (pod.job.clone(), uid.clone(), pod.key))
            .collect()
    }

    /// What is new about a job.
    pub(super) fn look(
        &mut self,
        key: RunKey,
        by_us: Option<&EndedByUs>,
        now: Timestamp,
    ) -> Option<News> {
        let entry = self.jobs.get_mut(&key)?;
        let of_job = self.pods.get(&entry.job.uid);
        let pods: Vec<PodSeen> = of_job
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        let had_ended = matches!(entry.told, Some(Phase::Exited(_)));
        if entry.is_gone {
            if !pods.iter().all(PodSeen::has_ended) {
                return None;
            }
            let outcome = match entry.told.take() {
                Some(Phase::Exited(told)) => told,
                _ => state::gone(&pods, by_us, had_ended),
            };
            if let Some(entry) = self.jobs.remove(&key) {
                self.pods.remove(&entry.job.uid);
            }
            return Some(News {
                phase: (!had_ended).then(|| Phase::Exited(outcome.clone())),
                gone: Some(outcome),
            });
        }
        if entry.job.has_ended() && pods.is_empty() {
            let since = *entry.podless.get_or_insert(now);
            if now.duration_since(since) < PODS_ARE_LATE {
                return None;
            }
        }
        let phase = state::phase(&entry.job, &pods, by_us);
        if had_ended || entry.told.as_ref() == Some(&phase) {
            return None;
        }
        entry.told = Some(phase.clone());
        Some(News {
            phase: Some(phase),
            gone: None,
        })
    }

    /// Forgets what is in no place that is looked at.
    pub(super) fn keep(&mut self, is_looked_at: impl Fn(&str, &str) -> bool) {
        let pods = &mut self.pods;
        self.jobs.retain(|_, entry| {
            let keeps = is_looked_at(&entry.cluster.id, &entry.job.namespace);
            if !keeps {
                pods.remove(&entry.job.uid);
            }
            keeps
        });
    }

    /// Forgets a job that is being removed, once it is gone.
    pub(super) fn forget_gone(&mut self, key: RunKey) {
        if self.jobs.get(&key).is_some_and(|entry| entry.is_gone)
            && let Some(entry) = self.jobs.remove(&key)
        {
            self.pods.remove(&entry.job.uid);
        }
    }

    /// An attempt's Job and its pods, as far as they are there.
    pub(super) fn find(&self, key: RunKey) -> Option<(JobSeen, Vec<PodSeen>)> {
        let entry = self.jobs.get(&key).filter(|entry| !entry.is_gone)?;
        let of_job = self.pods.get(&entry.job.uid);
        let pods = of_job.into_iter().flat_map(BTreeMap::values);
        let pods = pods.filter(|pod| !pod.is_gone()).cloned().collect();
        Some((entry.job.clone(), pods))
    }

    /// Whether an attempt is among them.
    pub(super) fn has(&self, key: RunKey) -> bool {
        self.jobs.contains_key(&key)
    }

    /// All attempts.
    pub(super) fn keys(&self) -> Vec<RunKey> {
        self.jobs.keys().copied().collect()
    }

    /// The attempts that may have ended without a word about their pods.
    pub(super) fn podless(&self) -> Vec<RunKey> {
        let entries = self.jobs.iter().filter(|(_, one)| one.podless.is_some());
        let open = entries.filter(|(_, one)| !matches!(one.told, Some(Phase::Exited(_))));
        open.map(|(key, _)| *key).collect()
    }

    /// Everything there is, but for these, as it was told.
    pub(super) fn owned(&self, without: &HashSet<RunKey>) -> Vec<Owned> {
        let mut owned = Vec::with_capacity(self.jobs.len());
        for (key, entry) in &self.jobs {
            if !without.contains(key) {
                owned.push(Owned {
                    handle: entry.job.handle(&entry.cluster.id),
                    phase: entry.told.clone().unwrap_or(Phase::Pending(None)),
                });
            }
        }
        owned
    }

    /// The jobs on which to give up now.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<(Arc<Cluster>, JobSeen)> {
        let entries = self.jobs.values();
        let open =
            entries.filter(|one| !one.is_gone && !matches!(one.told, Some(Phase::Exited(_))));
        open.filter_map(|entry| {
            let of_job = self.pods.get(&entry.job.uid);
            let pods: Vec<PodSeen> = of_job
                .into_iter()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect();
            let (at, _) = state::limit(&entry.job, &pods)?;
            (at <= now).then(|| (Arc::clone(&entry.cluster), entry.job.clone()))
        })
        .collect()
    }
}
