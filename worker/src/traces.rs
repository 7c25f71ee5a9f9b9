//! Traces of flow runs, as OpenTelemetry has them: a span for each attempt from its claim to its report, and one below it for each of its
//! steps. Off unless somebody says where they are to go.
//!
//! The board hears of each step of each life, and passes it on. Nothing waits for a trace: what finds no room in the queue is dropped.

mod ship;
mod wire;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use worker_api::types::FlowRun;
use worker_config::settings::TracesSettings;
use worker_drivers::RunKey;

use crate::{
    journal::{End, Entry, Step},
    progress,
};

pub(crate) use ship::ship;

/// The label by which Prefect's engine finds the span that a flow run is part of (`RunTelemetry`, 3.8.8).
const LABEL: &str = "__OTEL_TRACEPARENT";

/// The label that keeps the span which all attempts of a flow run are part of: the other one names what is inside of the last attempt then.
const OUTER_LABEL: &str = "__OTEL_TRACEPARENT_OUTER";

/// The variable by which a job finds it.
pub(crate) const VARIABLE: &str = "TRACEPARENT";

/// How many spans may wait to be sent: the default of OpenTelemetry's own batches.
const SPANS: usize = 2048;

/// What a flow run's spans belong to. It is in the journal, so that it is the same after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// The trace: that of the parent, else the flow run's own id.
    id: Uuid,
    /// The span of the attempt.
    span: u64,
    /// The span that it is part of.
    parent: Option<u64>,
    /// Whether it is recorded at all.
    recorded: bool,
}

/// Makes spans of what happens, if anybody wants them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces(Option<Arc<Recorder>>);

/// What is sent.
#[derive(Debug)]
pub(crate) enum Item {
    /// A span that has ended.
    Span(Box<Span>),
    /// Says when everything before it is sent.
    Flush(oneshot::Sender<()>),
}

/// Something that took its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    trace: Uuid,
    id: u64,
    parent: Option<u64>,
    name: String,
    begun: Timestamp,
    ended: Timestamp,
    attributes: Vec<(&'static str, String)>,
    /// Whether it ended well, and a word on how. None: neither.
    well: Option<(bool, String)>,
}

#[derive(Debug)]
struct Recorder {
    settings: TracesSettings,
    /// What each root span says of its worker.
    worker: Vec<(&'static str, String)>,
    lives: Mutex<HashMap<Uuid, Life>>,
    items_tx: mpsc::Sender<Item>,
    /// How many spans nobody gets.
    lost: IntCounter,
    /// Whether spans find no room, which is said once for each spell.
    dropping: AtomicBool,
}

/// A flow run that is being lived through.
#[derive(Debug)]
struct Life {
    trace: Trace,
    /// The step that it is in, since when, and its span.
    step: (&'static str, Timestamp, u64),
}

// === impl Trace ===

impl Trace {
    /// The context for what happens inside, in the form of W3C's `traceparent`.
    pub(crate) fn traceparent(&self) -> String {
        self.context(self.span)
    }

    /// What the flow run's labels are to say of it: to Prefect's engine, and to the next attempt.
    pub(crate) fn labels(&self) -> Map<String, Value> {
        let inner = (LABEL.to_owned(), self.traceparent().into());
        let outer = self.parent.map(|parent| {
            let context = self.context(parent);
            (OUTER_LABEL.to_owned(), context.into())
        });
        [inner].into_iter().chain(outer).collect()
    }

    fn context(&self, span: u64) -> String {
        let id = self.id.simple();
        format!("00-{id}-{span:016x}-{:02x}", u8::from(self.recorded))
    }
}

// === impl Traces ===

impl Traces {
    /// Begins to record, where somebody wants to know.
    pub(crate) fn new(
        settings: &TracesSettings,
        worker: Vec<(&'static str, String)>,
        lost: IntCounter,
    ) -> (Self, Option<mpsc::Receiver<Item>>) {
        if settings.endpoint.is_none() {
            return (Self::default(), None);
        }
        let (items_tx, items_rx) = mpsc::channel(SPANS);
        let recorder = Recorder {
            settings: settings.clone(),
            worker,
            lives: Mutex::default(),
            items_tx,
            lost,
            dropping: AtomicBool::new(false),
        };
        (Self(Some(Arc::new(recorder))), Some(items_rx))
    }

    /// The trace of a flow run that is about to be claimed: a part of the one that its labels name.
    pub(crate) fn begin(&self, flow_run: &FlowRun) -> Option<Trace> {
        let recorder = self.0.as_ref()?;
        let parent = flow_run.labels.as_ref().and_then(find_outer);
        Some(recorder.begin(flow_run.id.0, parent))
    }

    /// A life has come to another step.
    pub(crate) fn moved(&self, entry: &Entry) {
        let (Some(recorder), Some(trace)) = (&self.0, &entry.trace) else {
            return;
        };
        if trace.recorded {
            recorder.moved(entry, trace, Timestamp::now());
        }
    }

    /// A job runs.
    pub(crate) fn runs(&self, key: RunKey) {
        let Some(recorder) = &self.0 else { return };
        let mut lives = recorder.lives();
        if let Some(life) = lives.get_mut(&key.flow_run)
            && life.step.0 == "start"
        {
            recorder.step(life, "run", Timestamp::now());
        }
    }

    /// The code of a flow run was pulled, or could not be.
    pub(crate) fn pulled(&self, key: RunKey, begun: Timestamp, well: bool) {
        let Some(recorder) = &self.0 else { return };
        if let Some(life) = recorder.lives().get(&key.flow_run) {
            let mut span = life.span("pull", begun, Timestamp::now());
            span.parent = Some(life.step.2);
            span.well = (!well).then(|| (false, String::new()));
            recorder.send(span);
        }
    }

    /// A life is over, with its report.
    pub(crate) fn left(&self, entry: &Entry, how: &str) {
        let Some(recorder) = &self.0 else { return };
        let Some(mut life) = recorder.lives().remove(&entry.key.flow_run) else {
            return;
        };
        let now = Timestamp::now();
        recorder.step(&mut life, "", now);
        recorder.root(&life, entry, (how, now));
    }

    /// A life has ended, on whatever path. What has not come to its report is the next process' to tell.
    pub(crate) fn forget(&self, flow_run: Uuid) {
        if let Some(recorder) = &self.0 {
            recorder.lives().remove(&flow_run);
        }
    }

    /// Waits until everything so far is sent, within a limit.
    pub(crate) async fn flushed(&self, limit: Duration) {
        let Some(recorder) = &self.0 else { return };
        let (done_tx, done_rx) = oneshot::channel();
        let flushed = async {
            recorder.items_tx.send(Item::Flush(done_tx)).await.is_ok() && done_rx.await.is_ok()
        };
        if !tokio::time::timeout(limit, flushed).await.unwrap_or(false) {
            tracing::warn!("the last traces were not sent");
        }
    }
}

// === impl Recorder ===

impl Recorder {
    fn begin(&self, flow_run: Uuid, parent: Option<&str>) -> Trace {
        let span = random();
        // What an earlier attempt has left there is no parent of this one.
        let parent = parent.and_then(parse).filter(|(id, ..)| *id != flow_run);
        if let Some((id, parent, recorded)) = parent {
            let follows = self.settings.follows_parent;
            return Trace {
                id,
                span,
                parent: Some(parent),
                recorded: if follows { recorded } else { self.samples(id) },
            };
        }
        Trace {
            id: flow_run,
            span,
            parent: None,
            recorded: self.samples(flow_run),
        }
    }

    /// Whether a trace is among the share that is recorded.
    fn samples(&self, id: Uuid) -> bool {
        let (_, low) = id.as_u64_pair();
        // Upper bits of an id say when it was made or of which version it is; these are random.
        let place = f64::from(u32::try_from(low & 0xffff_ffff).unwrap_or(u32::MAX));
        place < self.settings.share * (f64::from(u32::MAX) + 1.0)
    }

    fn moved(&self, entry: &Entry, trace: &Trace, now: Timestamp) {
        let mut lives = self.lives();
        let life = lives.entry(entry.key.flow_run).or_insert_with(|| Life {
            trace: trace.clone(),
            step: match entry.step {
                Step::Claiming | Step::Claimed => ("claim", entry.claimed, random()),
                // An earlier process has told what came before.
                _ => ("", now, random()),
            },
        });
        let next = match &entry.step {
            Step::Claiming => return,
            Step::Claimed => "prepare",
            Step::Submitting => "submit",
            Step::Submitted if life.step.0.is_empty() => "run",
            Step::Submitted => "start",
            Step::Over(_) => "report",
        };
        if let Step::Over(End::Job { outcome, .. }) = &entry.step
            && life.step.0 == "start"
            && progress::had_begun(outcome)
        {
            // It ended before it was seen to run.
            life.step.0 = "run";
        }
        if life.step.0 != next {
            self.step(life, next, now);
        }
    }

    /// Ends the step that a life is in, and begins another.
    fn step(&self, life: &mut Life, next: &'static str, now: Timestamp) {
        let (name, begun, id) = life.step;
        if !name.is_empty() {
            let mut span = life.span(name, begun, now);
            span.id = id;
            self.send(span);
        }
        life.step = (next, now, random());
    }

    /// The span of the whole attempt.
    fn root(&self, life: &Life, entry: &Entry, (how, now): (&str, Timestamp)) {
        let well = matches!(
            &entry.step,
            Step::Over(End::Job {
                outcome: worker_drivers::Outcome::Exited { code: 0, .. },
                ..
            })
        );
        let mut attributes = vec![
            ("prefect.flow-run.id", entry.key.flow_run.to_string()),
            ("prefect.flow-run.name", entry.name.clone()),
            ("worker.attempt", entry.key.attempt.to_string()),
            ("worker.end", how.to_owned()),
        ];
        if let Some(handle) = &entry.handle {
            let id = handle.infrastructure_id.clone();
            attributes.push(("worker.infrastructure", id));
        }
        attributes.extend(self.worker.iter().cloned());
        self.send(Span {
            id: life.trace.span,
            parent: life.trace.parent,
            attributes,
            well: Some((well, if well { String::new() } else { how.to_owned() })),
            ..life.span("flow run", entry.claimed, now)
        });
    }

    fn send(&self, span: Span) {
        if self.begins_to_drop(span) {
            tracing::warn!(
                "traces are dropped: they are not sent as fast as they come; worker_trace_spans_lost_total counts them"
            );
        }
    }

    /// Queues a span. True: it found no room, and is the first one of this spell. A spell is over when half of the queue is free again.
    fn begins_to_drop(&self, span: Span) -> bool {
        let is_dropped = self.items_tx.try_send(Item::Span(Box::new(span))).is_err();
        if is_dropped {
            self.lost.inc();
            return !self.dropping.swap(true, Ordering::Relaxed);
        }
        if self.items_tx.capacity() >= self.items_tx.max_capacity() / 2 {
            self.dropping.store(false, Ordering::Relaxed);
        }
        false
    }

    fn lives(&self) -> MutexGuard<'_, HashMap<Uuid, Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Life ===

impl Life {
    fn span(&self, name: &str, begun: Timestamp, ended: Timestamp) -> Span {
        Span {
            trace: self.trace.id,
            id: random(),
            parent: Some(self.trace.span),
            name: name.to_owned(),
            begun,
            ended,
            attributes: Vec::new(),
            well: None,
        }
    }
}

// === functions ===

/// A new span's id, which is never 0.
fn random() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    (high ^ low.rotate_left(32)).max(1)
}

/// The span that a flow run is part of, by its labels.
fn find_outer(labels: &Map<String, Value>) -> Option<&str> {
    let outer = labels.get(OUTER_LABEL).or_else(|| labels.get(LABEL));
    outer.and_then(Value::as_str)
}

/// Trace, span and whether it is recorded, of a `traceparent`.
fn parse(text: &str) -> Option<(Uuid, u64, bool)> {
    let mut parts = text.trim().split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = (version.len(), id.len(), span.len(), flags.len());
    if lengths != (2, 32, 16, 2) || version == "ff" {
        return None;
    }
    let id = Uuid::try_parse(id).ok().filter(|id| !id.is_nil())?;
    let span = u64::from_str_radix(span, 16)
        .ok()
        .filter(|span| *span != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((id, span, flags & 1 == 1))
}

#[cfg(test)]
mod tests;
