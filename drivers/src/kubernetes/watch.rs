//! What happens in clusters, as events of jobs: one watch of Jobs and one of pods for each place where jobs are, and the limits of what is waited for.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::stream::{self, AbortHandle, BoxStream, SelectAll, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    core::NamespaceResourceScope,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch as watch_channel, time::Instant};

use super::{
    Shared,
    act::{self, Place, bounded},
    connection::{Cluster, WATCH_TURN},
    error, lock,
    plan::{OWNER_LABEL, owner_value},
    pod::PodSeen,
    pod_events::{Sighting, Told},
    sight::Refusal,
    state::{JobSeen, key_of},
    stop,
    view::{View, Watched},
};
use crate::{
    driver::{Health, JobEvent},
    job::{Owner, Phase, RunKey},
};

/// How often the cluster is asked how it is, when it was well and when it was not.
const PULSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// How long to wait before a watch that failed is begun again.
const RETRY: Duration = Duration::from_secs(1);

/// How often limits are looked at. None is shorter than this.
const TICK: Duration = Duration::from_secs(1);

/// How long a place is watched until it is sure that we may: what we may not watch we may still be able to list.
const SURE: Duration = Duration::from_secs(5);

/// How many objects come in one page of a list.
const PAGE: u32 = 500;

/// Asks the cluster how it is, for as long as the driver lives.
pub(super) async fn keep_looking(shared: Arc<Shared>) {
    loop {
        let is_up = *shared.health.borrow() == Health::Up;
        tokio::time::sleep(if is_up { PULSE.0 } else { PULSE.1 }).await;
        look_once(&shared).await;
    }
}

/// Asks the cluster once how it is.
pub(super) async fn look_once(shared: &Shared) {
    let was_up = *shared.health.borrow() == Health::Up;
    let home = shared.clusters.home();
    let health = match bounded(home.control.apiserver_version()).await {
        // What nobody sees is not to become more.
        Ok(_) => home
            .sight()
            .find_blindness()
            .map_or(Health::Up, |reason| Health::Down { reason }),
        Err(error) => Health::Down {
            reason: format!(
                "the Kubernetes API at {} does not answer as it should: {}",
                home.id,
                error::advice(&error)
            ),
        },
    };
    match &health {
        Health::Down { reason } if was_up => tracing::warn!(reason, "the cluster takes no work"),
        Health::Up if !was_up => tracing::info!("the cluster takes work again"),
        _ => {}
    }
    shared.health.send_if_modified(|known| {
        let changed = *known != health;
        *known = health;
        changed
    });
}

/// The events of one owner, as the contract of [`crate::Driver::events`] has them.
pub(super) fn events(shared: Arc<Shared>, owner: &Owner) -> BoxStream<'static, JobEvent> {
    let events = Events {
        selector: format!("{OWNER_LABEL}={}", owner_value(owner)),
        places_rx: shared.places.subscribe(),
        view: shared.views.open(),
        shared,
        pods_told: Told::default(),
        heard: SelectAll::new(),
        scopes: Vec::new(),
        next_scope: 0,
        queue: VecDeque::new(),
        early: Vec::new(),
        is_lost: true,
        has_begun: false,
        tick_at: Instant::now(),
        told: HashSet::new(),
    };
    stream::unfold(events, |mut events| async move {
        let event = events.next().await;
        Some((event, events))
    })
    .boxed()
}

/// An event stream.
struct Events {
    shared: Arc<Shared>,
    selector: String,
    places_rx: watch_channel::Receiver<u64>,
    view: Arc<Mutex<View>>,
    pods_told: Told,
    heard: SelectAll<BoxStream<'static, (u64, Heard)>>,
    scopes: Vec<Scope>,
    next_scope: u64,
    queue: VecDeque<JobEvent>,
    /// Ends of jobs that were gone before there was a snapshot, and what happened to pods: it has them not, and nothing is told before it.
    early: Vec<JobEvent>,
    /// Whether events may have been missed since the last snapshot.
    is_lost: bool,
    /// Whether there has been one.
    has_begun: bool,
    tick_at: Instant,
    /// The ends that were told of jobs that are gone.
    told: HashSet<RunKey>,
}

/// A place that is watched.
struct Scope {
    id: u64,
    cluster: Arc<Cluster>,
    /// None: all of the cluster.
    namespace: Option<String>,
    jobs: Listing,
    pods: Listing,
    aborts: [AbortHandle; 2],
    opened_at: Instant,
    /// When to begin again, if it failed.
    again_at: Option<Instant>,
}

/// One of the two watches of a place.
#[derive(Default)]
struct Listing {
    /// The uids that the list on its way had so far.
    fresh: HashSet<String>,
    is_done: bool,
}

enum Heard {
    Job(Box<watcher::Result<Event<Job>>>),
    Pod(Box<watcher::Result<Event<Pod>>>),
}

// === impl Events ===

impl Drop for Scope {
    fn drop(&mut self) {
        for abort in &self.aborts {
            abort.abort();
        }
    }
}

impl Scope {
    fn is_listed(&self) -> bool {
        self.jobs.is_done && self.pods.is_done && self.again_at.is_none()
    }

    fn has(&self, cluster: &str, namespace: &str) -> bool {
        let here = self.namespace.as_deref();
        cluster == self.cluster.id && here.is_none_or(|here| here == namespace)
    }
}

impl Events {
    async fn next(&mut self) -> JobEvent {
        loop {
            self.publish();
            if let Some(event) = self.queue.pop_front() {
                return event;
            }
            self.open_places();
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(wake) => self.tick(),
                Some((scope, heard)) = self.heard.next(), if !self.heard.is_empty() => self.take(scope, heard),
                changed = self.places_rx.changed() => {
                    // The sender is as old as we are.
                    changed.ok();
                }
            }
        }
    }

    /// Lets others know where this looks.
    fn publish(&self) {
        let places = self.scopes.iter().map(|scope| Watched {
            cluster: scope.cluster.id.clone(),
            namespace: scope.namespace.clone(),
            is_listed: scope.is_listed(),
            since: scope.opened_at,
        });
        let places = places.collect();
        let mut view = self.view();
        view.looks_at(places);
        view.looked();
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    fn wake_at(&self) -> Instant {
        let again = self.scopes.iter().filter_map(|scope| scope.again_at).min();
        again.map_or(self.tick_at, |again| again.min(self.tick_at))
    }

    /// Begins to watch where nobody does, and ends it where there is nothing to see.
    fn open_places(&mut self) {
        let mut wanted = Vec::new();
        for cluster in self.shared.clusters.all() {
            let scopes = cluster.sight().scopes();
            wanted.extend(
                scopes
                    .into_iter()
                    .map(|scope| (Arc::clone(&cluster), scope)),
            );
        }
        let is_wanted = |scope: &Scope| {
            wanted
                .iter()
                .any(|(cluster, name)| cluster.id == scope.cluster.id && *name == scope.namespace)
        };
        let open = self.scopes.len();
        self.scopes.retain(is_wanted);
        if self.scopes.len() < open {
            let is_looked_at = |id: &str, namespace: &str| {
                let mut wanted = wanted.iter();
                wanted.any(|(cluster, name)| {
                    cluster.id == id && name.as_deref().is_none_or(|name| name == namespace)
                })
            };
            self.view().store.keep(is_looked_at);
        }
        let now = Instant::now();
        self.scopes
            .retain(|scope| scope.again_at.is_none_or(|again| again > now));
        for (cluster, namespace) in wanted {
            let is_open = self
                .scopes
                .iter()
                .any(|scope| scope.cluster.id == cluster.id && scope.namespace == namespace);
            if !is_open {
                self.open(cluster, namespace);
            }
        }
    }

    fn open(&mut self, cluster: Arc<Cluster>, namespace: Option<String>) {
        let id = self.next_scope;
        self.next_scope += 1;
        let config = || {
            watcher::Config::default()
                .labels(&self.selector)
                .timeout(u32::try_from(WATCH_TURN.as_secs()).unwrap_or(u32::MAX))
                .page_size(PAGE)
        };
        let name = namespace.as_deref();
        let jobs = watcher(api::<Job>(&cluster, name), config());
        let pods = watcher(api::<Pod>(&cluster, name), config());
        let (jobs, jobs_abort) = stream::abortable(jobs);
        let (pods, pods_abort) = stream::abortable(pods);
        self.heard.push(
            jobs.map(move |event| (id, Heard::Job(Box::new(event))))
                .boxed(),
        );
        self.heard.push(
            pods.map(move |event| (id, Heard::Pod(Box::new(event))))
                .boxed(),
        );
        self.scopes.push(Scope {
            id,
            cluster,
            namespace,
            jobs: Listing::default(),
            pods: Listing::default(),
            aborts: [jobs_abort, pods_abort],
            opened_at: Instant::now(),
            again_at: None,
        });
    }

    fn take(&mut self, id: u64, heard: Heard) {
        let Some(index) = self.scopes.iter().position(|scope| scope.id == id) else {
            return;
        };
        if self.scopes[index].again_at.is_some() {
            return;
        }
        let error = match heard {
            Heard::Job(told) => match *told {
                Ok(event) => return self.take_job(index, event),
                Err(error) => error,
            },
            Heard::Pod(told) => match *told {
                Ok(event) => return self.take_pod(index, event),
                Err(error) => error,
            },
        };
        self.fail(index, &error);
    }

    fn fail(&mut self, index: usize, error: &watcher::Error) {
        let scope = &mut self.scopes[index];
        let was_listed = scope.is_listed();
        let reason = error::watch_reason(error);
        if error::watch_is_forbidden(error) {
            let refusal = scope.cluster.forbid(scope.namespace.as_deref(), &reason);
            if refusal != Refusal::Surprise {
                // What takes its place, if anything, is opened at once.
                return;
            }
        }
        tracing::debug!(reason, "a watch failed; beginning again");
        scope.again_at = Some(Instant::now() + RETRY);
        for abort in &scope.aborts {
            abort.abort();
        }
        if was_listed {
            tracing::warn!(
                cluster = scope.cluster.id,
                namespace = scope.namespace,
                reason,
                "jobs cannot be watched; trying again"
            );
        }
        if was_listed && !self.is_lost {
            self.is_lost = true;
            self.queue.push_back(JobEvent::WatchLost { reason });
        }
    }

    fn take_job(&mut self, index: usize, event: Event<Job>) {
        let scope = &mut self.scopes[index];
        match event {
            Event::Init => scope.jobs = Listing::default(),
            Event::Apply(job) | Event::InitApply(job) => {
                let Some(job) = JobSeen::of(&job) else { return };
                if !scope.jobs.is_done {
                    scope.jobs.fresh.insert(job.uid.clone());
                }
                let is_whole = scope.is_listed();
                let mut view = lock(&self.view);
                let key = view.store.job(&scope.cluster, job);
                view.saw(key);
                drop(view);
                if is_whole {
                    self.look(key);
                }
            }
            Event::Delete(job) => {
                let key = key_of(&job.metadata);
                if let (Some(key), Some(uid)) = (key, job.metadata.uid) {
                    self.view().store.job_gone(&uid, key);
                    self.look(key);
                    // Nothing more is heard of what we have removed. Who removes it waits for this.
                    if lock(&self.shared.removed).remove(&key) {
                        self.shared.notify(key);
                    }
                }
            }
            Event::InitDone => {
                scope.jobs.is_done = true;
                let fresh = std::mem::take(&mut scope.jobs.fresh);
                let here = lock(&self.view)
                    .store
                    .jobs_in(|cluster, name| scope.has(&cluster.id, name));
                for (uid, key) in here {
                    if !fresh.contains(&uid) {
                        self.view().store.job_gone(&uid, key);
                    }
                }
                self.settle(index);
            }
        }
    }

    /// Tells what is new about a pod beyond what it means for its job.
    fn tell_of_pod(&mut self, index: usize, event: &Event<Pod>) {
        let (pod, sighting) = match event {
            Event::InitApply(pod) => (pod, Sighting::Listed),
            Event::Apply(pod) => (pod, Sighting::Watched),
            Event::Delete(pod) => (pod, Sighting::Deleted),
            Event::Init | Event::InitDone => return,
        };
        let cluster = &self.scopes[index].cluster.id;
        let now = Timestamp::now();
        if let Some(happening) = self.pods_told.hear(cluster, pod, sighting, now) {
            let event = JobEvent::Happened(Box::new(happening));
            if self.has_begun {
                self.queue.push_back(event);
            } else {
                self.early.push(event);
            }
        }
    }

    fn take_pod(&mut self, index: usize, event: Event<Pod>) {
        if self.shared.options.pod_events {
            self.tell_of_pod(index, &event);
        }
        let scope = &mut self.scopes[index];
        match event {
            Event::Init => scope.pods = Listing::default(),
            Event::Apply(pod) | Event::InitApply(pod) => {
                let Some(pod) = PodSeen::of(&pod) else { return };
                if !scope.pods.is_done {
                    scope.pods.fresh.insert(pod.uid.clone());
                }
                let is_whole = scope.is_listed();
                let key = self.view().store.pod(pod);
                if is_whole {
                    self.look(key);
                }
            }
            Event::Delete(pod) => {
                // How it was when it went says how it ended.
                if let Some(pod) = PodSeen::of(&pod) {
                    let (job, uid) = (pod.job.clone(), pod.uid.clone());
                    let key = self.view().store.pod(pod);
                    self.view().store.pod_gone(&job, &uid, key);
                    self.look(key);
                }
            }
            Event::InitDone => {
                scope.pods.is_done = true;
                let fresh = std::mem::take(&mut scope.pods.fresh);
                self.pods_told
                    .keep(&fresh, |cluster, name| scope.has(cluster, name));
                let here = lock(&self.view)
                    .store
                    .pods_in(|cluster, name| scope.has(&cluster.id, name));
                for (job, uid, key) in here {
                    if !fresh.contains(&uid) {
                        self.view().store.pod_gone(&job, &uid, key);
                    }
                }
                self.settle(index);
            }
        }
    }

    /// Tells of everything, once a place is wholly listed and no other is about to be.
    fn settle(&mut self, index: usize) {
        let is_settled = |scope: &Scope| scope.is_listed() || scope.again_at.is_some();
        if self.scopes[index].is_listed() && self.scopes.iter().all(is_settled) {
            self.tell_all();
        }
    }

    fn tell_all(&mut self) {
        // What was not looked at while only one of the two lists was there.
        let keys = self.view().store.keys();
        for key in keys {
            self.look(key);
        }
        self.is_lost = false;
        self.has_begun = true;
        let shared = &self.shared;
        let removed = lock(&shared.removed).clone();
        let owned = self.view().store.owned(&removed);
        let mut known = lock(&shared.known);
        for one in &owned {
            known.insert(one.handle.key, one.handle.clone());
        }
        drop(known);
        // What changed on the way is told by the snapshot, but for what is gone.
        self.queue.push_back(JobEvent::Snapshot(owned));
        self.queue.extend(self.early.drain(..));
    }

    /// Tells what is new about a job.
    fn look(&mut self, key: RunKey) {
        if lock(&self.shared.removed).contains(&key) {
            self.view().store.forget_gone(key);
            return;
        }
        let by_us = self.shared.ended_by_us(key);
        let Some(news) = self
            .view()
            .store
            .look(key, by_us.as_ref(), Timestamp::now())
        else {
            return;
        };
        let is_gone = news.gone.is_some();
        if let Some(outcome) = news.gone {
            lock(&self.shared.ends).insert(key, outcome);
            self.told.insert(key);
        }
        // Who reads its output may be waiting for this.
        self.shared.notify(key);
        if let Some(phase) = news.phase {
            let has_ended = matches!(phase, Phase::Exited(_));
            let event = JobEvent::Changed { key, phase };
            // What the next snapshot has need not be told before it, but ends may not be in it.
            if !self.is_lost || (self.has_begun && has_ended) {
                self.queue.push_back(event);
            } else if is_gone {
                self.early.push(event);
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.tick_at > now {
            return;
        }
        self.tick_at = now + TICK;
        for scope in &self.scopes {
            if scope.is_listed() && scope.opened_at + SURE < now {
                scope.cluster.sight().see(scope.namespace.as_deref());
            }
        }
        let keys = self.view().store.podless();
        for key in keys {
            self.look(key);
        }
        let is_whole = !self.scopes.is_empty() && self.scopes.iter().all(Scope::is_listed);
        if self.is_lost && is_whole {
            // The place that was not seen is not looked into any more.
            self.tell_all();
        }
        self.tell_unseen();
        if self.is_lost {
            // What is known of pods may be old, or not there yet.
            return;
        }
        let overdue = self.view().store.overdue(Timestamp::now());
        for (cluster, job) in overdue {
            if lock(&self.shared.removed).contains(&job.key) {
                continue;
            }
            let place = Place::of_job(&cluster, &job);
            stop::give_up(&self.shared, place, job);
        }
    }
}

impl Events {
    /// Tells of the ends of jobs that we ended so soon that no list and no watch ever had them.
    fn tell_unseen(&mut self) {
        if self.is_lost {
            return;
        }
        let ended: HashSet<RunKey> = lock(&self.shared.stops).keys().copied().collect();
        self.told.retain(|key| ended.contains(key));
        for key in ended {
            if self.told.contains(&key) || self.view().store.has(key) {
                continue;
            }
            let end = lock(&self.shared.ends).get(&key).cloned();
            if let Some(outcome) = end {
                self.told.insert(key);
                let phase = Phase::Exited(outcome);
                self.queue.push_back(JobEvent::Changed { key, phase });
            } else {
                let looking = act::look_for_end(Arc::clone(&self.shared), key);
                self.shared.spawn(looking);
            }
        }
    }
}

fn api<K>(cluster: &Cluster, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
{
    let client = cluster.watches.clone();
    match namespace {
        None => Api::all(client),
        Some(namespace) => Api::namespaced(client, namespace),
    }
}
