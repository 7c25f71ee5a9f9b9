//! The engine's events, as events of jobs: one stream for all containers of an owner, with a list of them now and then as its floor.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bollard::{models::EventMessage, query_parameters::EventsOptions};
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    task::AbortHandle,
    time::Instant,
};

use super::{
    Shared, act, error, lock,
    plan::{JOB_LABEL, OWNER_LABEL},
    state::{self, Outage},
};
use crate::{
    driver::{DriverError, Health, JobEvent, Owned},
    job::{Owner, Phase, RunKey},
};

/// How often the engine is asked how it is.
const PULSE: Duration = Duration::from_secs(3);
/// How long it may take to say so.
const PULSE_LIMIT: Duration = Duration::from_secs(5);
/// How often everything is listed although the stream has said nothing: an engine drops events for whom it finds too slow, and a connection may have
/// died without a word.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// How long to wait before an engine that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What Podman calls the event that is "destroy" elsewhere (4.3).
const PODMAN_DESTROY: &str = "remove";

/// How much earlier than its connections an engine may have ended what it ran, by clocks that may differ a little.
const OUTAGE_MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// How many events of the engine may wait for a slow consumer: the ends of as many jobs. More wait in the engine, as long as it keeps them.
const EVENTS: usize = 1024;

/// The oldest API this driver speaks: that of Docker 20.10.
const OLDEST_API: (u32, u32) = (1, 41);

/// What a job waits for before its container is there.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) owner: Owner,
    pub(super) key: RunKey,
    pub(super) waits_for: String,
}

/// Asks the engine how it is, for as long as the driver lives.
pub(super) async fn keep_looking(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PULSE).await;
        look_once(&shared).await;
    }
}

/// Asks the engine once how it is.
pub(super) async fn look_once(shared: &Shared) {
    let was_up = *shared.health.borrow() == Health::Up;
    let asked = tokio::time::timeout(PULSE_LIMIT, ping(shared)).await;
    let health = match asked {
        Ok(Ok(())) => Health::Up,
        Ok(Err(error)) => Health::Down {
            reason: error.to_string(),
        },
        Err(_) => Health::Down {
            reason: "the Docker engine does not answer".to_owned(),
        },
    };
    match &health {
        Health::Down { reason } if was_up => tracing::warn!(reason, "the engine takes no work"),
        Health::Up if !was_up => tracing::info!("the engine takes work again"),
        _ => {}
    }
    shared.health.send_if_modified(|known| {
        let changed = *known != health;
        *known = health;
        changed
    });
}

async fn ping(shared: &Shared) -> Result<(), DriverError> {
    let engine = shared.control()?;
    let version = engine
        .version()
        .await
        .map_err(|error| error::unavailable(&error))?;
    let api = version.api_version.unwrap_or_default();
    match parse_api(&api) {
        Some(spoken) if spoken < OLDEST_API => Err(DriverError::Unsupported {
            what: format!("API {api} of the engine, which is older than Docker 20.10,"),
        }),
        _ => Ok(()),
    }
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The events of one owner, as the contract of [`crate::Driver::events`] has them.
pub(super) fn events(shared: Arc<Shared>, owner: Owner) -> BoxStream<'static, JobEvent> {
    let notices = shared.notices.subscribe();
    let events = Events {
        shared,
        owner,
        notices,
        watch: None,
        ended: HashSet::new(),
        list_at: Instant::now(),
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
    owner: Owner,
    notices: broadcast::Receiver<Notice>,
    /// None: it is to be opened.
    watch: Option<Watch>,
    /// The attempts whose end was told.
    ended: HashSet<RunKey>,
    list_at: Instant,
}

/// The engine's events, taken in by a task of their own: the engine keeps few for whom is slow, and the request is on its way before anybody listens.
struct Watch {
    events_rx: mpsc::Receiver<Said>,
    pump: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

type Said = Result<EventMessage, bollard::errors::Error>;

/// What is heard next.
enum Heard {
    Engine(Option<Said>),
    Notice(Result<Notice, RecvError>),
    TimeToList,
}

// === impl Events ===

impl Events {
    async fn next(&mut self) -> JobEvent {
        loop {
            let Some(watch) = &mut self.watch else {
                return self.open().await;
            };
            let heard = tokio::select! {
                // Late as it may be: a consumer that was away for long gets everything anew.
                biased;
                () = tokio::time::sleep_until(self.list_at) => Heard::TimeToList,
                event = watch.events_rx.recv() => Heard::Engine(event),
                notice = self.notices.recv() => Heard::Notice(notice),
            };
            let told = match heard {
                Heard::TimeToList => match self.list().await {
                    Ok(owned) => Some(self.snapshot(owned)),
                    Err(error) => Some(self.lost(error.to_string())),
                },
                Heard::Engine(Some(Ok(event))) => match self.read(&event).await {
                    Ok(told) => told,
                    Err(error) => Some(self.lost(error.to_string())),
                },
                Heard::Engine(Some(Err(error))) => Some(self.lost(error::message(&error))),
                Heard::Engine(None) => Some(self.lost("the engine ended its events".to_owned())),
                Heard::Notice(Ok(notice)) => self.pending(notice),
                // They are only about progress.
                Heard::Notice(Err(_)) => None,
            };
            if let Some(event) = told {
                return event;
            }
        }
    }

    /// Opens the watch, from a moment before the list that the snapshot is: what happens in between is told twice.
    async fn open(&mut self) -> JobEvent {
        loop {
            match self.try_open().await {
                Ok(event) => return event,
                Err(error) => tracing::debug!(%error, "cannot watch the engine; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_open(&mut self) -> Result<JobEvent, DriverError> {
        let info = self.shared.control()?.info().await;
        let info = info.map_err(|error| error::unavailable(&error))?;
        self.found_again();
        let labels = vec![
            format!("{OWNER_LABEL}={}", self.owner.0),
            JOB_LABEL.to_owned(),
        ];
        let kinds = ["start", "die", "destroy", PODMAN_DESTROY];
        let kinds = kinds.map(str::to_owned).to_vec();
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), labels),
            ("event".to_owned(), kinds),
        ]);
        let options = EventsOptions {
            // By the engine's clock, which is not ours.
            since: info.system_time.as_deref().and_then(unix_time),
            until: None,
            filters: Some(filters),
        };
        let mut events = self.shared.work()?.events(Some(options)).boxed();
        let (events_tx, events_rx) = mpsc::channel(EVENTS);
        let pump = self.shared.spawn(async move {
            while let Some(event) = events.next().await {
                if events_tx.send(event).await.is_err() {
                    return;
                }
            }
        });
        let watch = Watch { events_rx, pump };
        let owned = self.list().await?;
        self.watch = Some(watch);
        Ok(self.snapshot(owned))
    }

    /// Notes that the engine is back.
    fn found_again(&self) {
        if let Some(outage) = lock(&self.shared.outage).as_mut() {
            outage.to.get_or_insert_with(Timestamp::now);
        }
    }

    async fn list(&mut self) -> Result<Vec<Owned>, DriverError> {
        act::list_owned(&self.shared, &self.owner).await
    }

    fn snapshot(&mut self, owned: Vec<Owned>) -> JobEvent {
        self.list_at = Instant::now() + LIST_AGAIN;
        let ended = owned
            .iter()
            .filter(|one| matches!(one.phase, Phase::Exited(_)));
        self.ended = ended.map(|one| one.handle.key).collect();
        let there: HashSet<RunKey> = owned.iter().map(|one| one.handle.key).collect();
        lock(&self.shared.removed).retain(|key| there.contains(key));
        JobEvent::Snapshot(owned)
    }

    fn lost(&mut self, reason: String) -> JobEvent {
        self.watch = None;
        // The engine ends what it runs after it has ended its connections, but clocks have their grain.
        let from = Timestamp::now() - OUTAGE_MARGIN;
        *lock(&self.shared.outage) = Some(Outage { from, to: None });
        JobEvent::WatchLost { reason }
    }

    fn pending(&self, notice: Notice) -> Option<JobEvent> {
        let Notice {
            owner,
            key,
            waits_for,
        } = notice;
        (owner == self.owner).then(|| JobEvent::Changed {
            key,
            phase: Phase::Pending(Some(waits_for)),
        })
    }

    /// What an event of the engine says of a job.
    async fn read(&mut self, event: &EventMessage) -> Result<Option<JobEvent>, DriverError> {
        let Some(actor) = &event.actor else {
            return Ok(None);
        };
        let attributes = actor.attributes.as_ref();
        let Some(key) = state::key_of(attributes) else {
            return Ok(None);
        };
        let container = actor.id.as_deref().unwrap_or_default();
        let action = match event.action.as_deref().unwrap_or_default() {
            PODMAN_DESTROY => "destroy",
            action => action,
        };
        if lock(&self.shared.removed).contains(&key) {
            if action == "destroy" {
                self.ended.remove(&key);
                lock(&self.shared.removed).remove(&key);
            }
            return Ok(None);
        }
        let outcome = match action {
            "start" if !self.ended.contains(&key) => {
                return Ok(Some(JobEvent::Changed {
                    key,
                    phase: Phase::Running,
                }));
            }
            "die" => match act::phase_of(&self.shared, key, container).await? {
                Some(Phase::Exited(outcome)) => Some(outcome),
                // The next list says what became of it.
                Some(_) => return Ok(None),
                None => None,
            },
            "destroy" => None,
            _ => return Ok(None),
        };
        // What is gone may be one that was made in vain, before the one that runs.
        if outcome.is_none() && act::has_another(&self.shared, &self.owner, key, container).await? {
            return Ok(None);
        }
        let outcome = outcome.unwrap_or_else(state::removed);
        let is_news = self.ended.insert(key);
        if action == "destroy" {
            self.ended.remove(&key);
        }
        Ok(is_news.then_some(JobEvent::Changed {
            key,
            phase: Phase::Exited(outcome),
        }))
    }
}

/// A time as the engine wants it in filters: seconds since 1970, with nanoseconds behind a point.
fn unix_time(text: &str) -> Option<String> {
    let time: Timestamp = text.parse().ok()?;
    Some(format!(
        "{}.{:09}",
        time.as_second(),
        time.subsec_nanosecond()
    ))
}

#[cfg(test)]
mod tests;
