//! Tells the server's event feed what this worker does: it has started, has submitted a flow run, has seen its job end, has stopped, and what its engine tells of infrastructure.
//!
//! Automations and the UI live on these events, flow runs do not: what cannot be told in time is counted and left out, and nothing waits
//! for it but the very end of the worker. What an event says is decided in `events`, purely.

mod events;

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use worker_api::{Client, EVENTS_PAGE, EventSink, types::Event};
use worker_config::DriverKind;
use worker_drivers::{Handle, Happening, Outcome, docker};

pub(crate) use self::events::{About, Taken, Worker};
use crate::{journal::Entry, patience::Patience, telemetry::chain};

/// How many events may wait: a burst of starts while the socket is opened anew, or what a new process finds of the jobs of the one before it.
const QUEUE: usize = 8_192;

/// How many are sent before the server is asked whether it has them.
const BATCH: usize = 200;

/// How long an event is tried. Who looks at the feed later than that has other worries.
const TRIES: u32 = 5;

/// The sending end. One per worker.
#[derive(Debug)]
pub(crate) struct Emitter {
    worker: Worker,
    items_tx: mpsc::Sender<Item>,
    started: Mutex<Option<Event>>,
    dropped: AtomicU64,
}

#[derive(Debug)]
pub(crate) enum Item {
    Event(Box<Event>),
    /// An event that the server may have had from an earlier process, at this time at the earliest.
    Again(Box<Event>, Timestamp),
    Flush(oneshot::Sender<()>),
}

// === impl Emitter ===

impl Emitter {
    /// An emitter and the queue that [`ship`] empties.
    pub(crate) fn new(worker: Worker) -> (Self, mpsc::Receiver<Item>) {
        let (items_tx, items_rx) = mpsc::channel(QUEUE);
        let emitter = Self {
            worker,
            items_tx,
            started: Mutex::new(None),
            dropped: AtomicU64::new(0),
        };
        (emitter, items_rx)
    }

    /// The worker has reached its pool.
    pub(crate) fn started(&self, pool: Uuid) {
        let event = self.worker.started(pool, Timestamp::now());
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        self.emit(event);
    }

    /// A flow run's job is about to be given to its engine. What is given back is for [`Emitter::executed`].
    pub(crate) fn submitted(&self, about: About) -> Submitted {
        let event = self.worker.submitted(&about, Timestamp::now());
        let submitted = Submitted {
            id: event.id,
            occurred: event.occurred,
            about,
            container: None,
        };
        self.emit(event);
        submitted
    }

    /// A flow run's job has ended. What was submitted by an earlier process is told with what the journal knows of it.
    pub(crate) fn executed(&self, entry: &Entry, handle: &Handle, outcome: &Outcome) {
        let earlier = entry.told.as_ref().map(|told| (told.id, told.occurred));
        let ended = events::Ended {
            infrastructure: &handle.infrastructure_id,
            outcome,
        };
        self.emit(
            self.worker
                .executed(&about(entry), &ended, earlier, Timestamp::now()),
        );
    }

    /// A flow run's container has come to a status; of other infrastructure nothing is told here.
    pub(crate) fn container(&self, entry: &mut Entry, handle: &Handle, status: &str) {
        let Some((id, name)) = docker::container(handle) else {
            return;
        };
        let container = events::Container { id, name, status };
        let earlier = entry.told.as_ref().and_then(|told| told.container);
        let event = self
            .worker
            .container(&about(entry), &container, earlier, Timestamp::now());
        if let Some(told) = &mut entry.told {
            told.container = Some((event.id, event.occurred));
        }
        self.emit(event);
    }

    /// A flow run got no container; of other infrastructure nothing is told here.
    pub(crate) fn creation_failed(&self, entry: &Entry) {
        if self.worker.kind == DriverKind::Docker.as_str() {
            let event = self.worker.creation_failed(&about(entry), Timestamp::now());
            self.emit(event);
        }
    }

    /// A flow run was cancelled, its job ended for that, and the API told. Of jobs that Prefect's runner looks after, it tells this itself.
    pub(crate) fn cancelled(&self, entry: &Entry) {
        if self.worker.kind == DriverKind::Process.as_str() {
            self.emit(events::cancelled(&about(entry), Timestamp::now()));
        }
    }

    /// Something happened to the infrastructure of a flow run.
    pub(crate) fn happened(&self, happening: Happening) {
        let since = happening.told_since;
        let event = Box::new(self.worker.happened(happening));
        self.enqueue(match since {
            Some(since) => Item::Again(event, since),
            None => Item::Event(event),
        });
    }

    /// A pull step was taken, well or not, for a flow run. Blocks and variables in it are as they were written.
    pub(crate) fn pulled(&self, flow_run: Uuid, deployment: Uuid, step: &Taken<'_>) {
        self.emit(events::pulled(flow_run, deployment, step, Timestamp::now()));
    }

    /// The worker ends; waits until the server knows, within a limit.
    pub(crate) async fn stopped(&self, limit: Duration) {
        let started = self
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Who was never announced need not be taken leave of.
        let Some(started) = started else { return };
        self.emit(self.worker.stopped(&started, Timestamp::now()));
        let (done_tx, done_rx) = oneshot::channel();
        let flushed = async {
            self.items_tx.send(Item::Flush(done_tx)).await.is_ok() && done_rx.await.is_ok()
        };
        if !tokio::time::timeout(limit, flushed).await.unwrap_or(false) {
            tracing::debug!("the server was not told that this worker has stopped");
        }
    }

    fn emit(&self, event: Event) {
        self.enqueue(Item::Event(Box::new(event)));
    }

    fn enqueue(&self, item: Item) {
        if self.items_tx.try_send(item).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "an event was left out: too many wait");
        }
    }
}

/// What a flow run has to do with, as far as it is known.
fn about(entry: &Entry) -> About {
    entry.told.as_ref().map_or_else(
        || About::flow_run(entry.key.flow_run, &entry.name),
        |told| told.about.clone(),
    )
}

/// What was said of a flow run that was submitted. The journal keeps it, for what is to be said later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Submitted {
    id: Uuid,
    occurred: Timestamp,
    about: About,
    /// The last event about its container.
    #[serde(default)]
    container: Option<(Uuid, Timestamp)>,
}

/// Sends events until the emitter is gone: on a socket where there is one, else by request.
pub(crate) async fn ship(client: Client, websockets: bool, mut items_rx: mpsc::Receiver<Item>) {
    let client = client.with_retries(0);
    let mut socket = Socket {
        client: websockets.then(|| client.clone()),
        sink: None,
    };
    let mut items = Vec::with_capacity(BATCH);
    loop {
        // Both branches are cancel-safe: items stay in the queue, a lost socket stays lost.
        tokio::select! {
            taken = items_rx.recv_many(&mut items, BATCH) => if taken == 0 { return socket.close().await },
            () = socket.lost() => continue,
        }
        let (mut batch, mut again, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for item in items.drain(..) {
            match item {
                Item::Event(event) => batch.push(*event),
                Item::Again(event, since) => {
                    again.push((event.id, since));
                    batch.push(*event);
                }
                Item::Flush(done_tx) => waiting.push(done_tx),
            }
        }
        let told = find_told(&client, &again).await;
        batch.retain(|event| !told.contains(&event.id));
        if !batch.is_empty() {
            deliver(&client, &mut socket, &batch).await;
        }
        for done_tx in waiting {
            // Who waited may have given up.
            done_tx.send(()).ok();
        }
    }
}

/// Those of these events that the server has. It stores none twice, but half an hour later its automations act on one anew (3.8.8). Where it cannot
/// be asked, an event is better told twice than not at all.
async fn find_told(client: &Client, again: &[(Uuid, Timestamp)]) -> HashSet<Uuid> {
    let mut told = HashSet::new();
    let mut patience = Patience::new();
    let mut tries = TRIES;
    let mut open: Vec<_> = again.chunks(EVENTS_PAGE).collect();
    while let Some(some) = open.last() {
        let ids: Vec<Uuid> = some.iter().map(|(id, _)| *id).collect();
        let since = some.iter().map(|(_, since)| *since).min();
        let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
        match client.find_events(&ids, since).await {
            Ok(found) => {
                told.extend(found);
                open.pop();
            }
            Err(error) => {
                tracing::debug!(error = %chain(&error), "cannot see which events were told");
                tries -= 1;
                if tries == 0 || !error.is_transient() {
                    break;
                }
                patience.wait().await;
            }
        }
    }
    told
}

async fn deliver(client: &Client, socket: &mut Socket, events: &[Event]) {
    if socket.send(events).await {
        return;
    }
    let mut patience = Patience::new();
    for _ in 0..TRIES {
        match client.post_events(events).await {
            Ok(()) => return,
            Err(error) if error.is_transient() => {
                tracing::debug!(error = %chain(&error), "events wait for the API");
                patience.wait().await;
            }
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the API does not take events");
                return;
            }
        }
    }
}

/// The socket that events are told on, as far as there is one.
struct Socket {
    /// None where sockets are turned off.
    client: Option<Client>,
    sink: Option<EventSink>,
}

// === impl Socket ===

impl Socket {
    /// Sends events on the socket, opened anew if it has to be. False: they must go another way.
    async fn send(&mut self, events: &[Event]) -> bool {
        let Some(client) = &self.client else {
            return false;
        };
        if self.sink.is_none() {
            match client.open_event_sink().await {
                Ok(sink) => self.sink = Some(sink),
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "no socket for events");
                    return false;
                }
            }
        }
        let Some(sink) = &mut self.sink else {
            return false;
        };
        match sink.send(events).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the socket for events was lost");
                self.sink = None;
                false
            }
        }
    }

    /// Waits until an open socket is gone.
    async fn lost(&mut self) {
        match &mut self.sink {
            Some(sink) => {
                let error = sink.gone().await;
                tracing::debug!(error = %chain(&error), "the socket for events is gone");
                self.sink = None;
            }
            None => std::future::pending().await,
        }
    }

    async fn close(self) {
        if let Some(sink) = self.sink {
            sink.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
