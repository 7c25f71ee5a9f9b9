//! What goes on with each flow run, for whoever looks at the status page. Lives write on it as they go; nothing is decided by it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use worker_drivers::{Outcome, Phase, RunKey};

use crate::{
    journal::{End, Entry, NotStarted, Step, Stopped},
    traces::Traces,
};

/// How many ended flow runs stay to be seen. A page of them; the API has them all.
const ENDS: usize = 20;

/// The board of one worker.
#[derive(Debug, Default)]
pub(crate) struct Board {
    lines: Mutex<Lines>,
    /// Who hears of each step, too.
    pub(crate) traces: Traces,
}

/// Everything on it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Lines {
    /// Flow runs with a life here.
    pub(crate) held: BTreeMap<Uuid, Held>,
    /// Those that ended last, the latest first.
    pub(crate) ended: VecDeque<Ended>,
    /// Why the server hands out nothing, while the pool is paused. It is polled all the same.
    pub(crate) paused: Option<String>,
}

/// One flow run that is held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Held {
    /// Its name.
    pub(crate) name: String,
    /// Which attempt at it.
    pub(crate) attempt: u32,
    /// How far it has come.
    pub(crate) phase: &'static str,
    /// What it waits for, where the engine says so.
    pub(crate) reason: Option<String>,
    /// When it was claimed.
    pub(crate) claimed: Timestamp,
    /// Where it runs, as Prefect is told.
    pub(crate) infrastructure: Option<String>,
}

/// One flow run whose attempt is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ended {
    /// The flow run.
    pub(crate) id: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) how: String,
    /// When.
    pub(crate) at: Timestamp,
}

// === impl Board ===

impl Board {
    /// An empty one, whose lives are traced.
    pub(crate) fn new(traces: Traces) -> Self {
        Self {
            traces,
            ..Self::default()
        }
    }

    /// A life has come to another step, which its entry says.
    pub(crate) fn moved(&self, entry: &Entry) {
        self.traces.moved(entry);
        let held = Held {
            name: entry.name.clone(),
            attempt: entry.key.attempt,
            phase: phase(&entry.step),
            reason: None,
            claimed: entry.claimed,
            infrastructure: entry
                .handle
                .as_ref()
                .map(|one| one.infrastructure_id.clone()),
        };
        self.lock().held.insert(entry.key.flow_run, held);
    }

    /// The engine says how far a job has come.
    pub(crate) fn observed(&self, key: RunKey, phase: &Phase) {
        let (phase, reason) = match phase {
            Phase::Pending(reason) => ("pending", reason.clone()),
            Phase::Running => {
                self.traces.runs(key);
                ("running", None)
            }
            // Its life says what follows.
            Phase::Exited(_) => return,
        };
        if let Some(held) = self.lock().held.get_mut(&key.flow_run) {
            (held.phase, held.reason) = (phase, reason);
        }
    }

    /// A life is over.
    pub(crate) fn left(&self, entry: &Entry) {
        let mut lines = self.lock();
        lines.held.remove(&entry.key.flow_run);
        let Step::Over(end) = &entry.step else {
            return;
        };
        let how = in_words(end);
        self.traces.left(entry, &how);
        lines.ended.push_front(Ended {
            id: entry.key.flow_run,
            name: entry.name.clone(),
            how,
            at: Timestamp::now(),
        });
        lines.ended.truncate(ENDS);
    }

    /// A life has ended, on whatever path.
    pub(crate) fn forget(&self, flow_run: Uuid) {
        self.traces.forget(flow_run);
        self.lock().held.remove(&flow_run);
    }

    /// Whether and why the server hands out nothing.
    pub(crate) fn paused(&self, reason: Option<String>) {
        self.lock().paused = reason;
    }

    /// Whether the server hands out nothing.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused.is_some()
    }

    /// A copy of everything on it.
    pub(crate) fn read(&self) -> Lines {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn phase(step: &Step) -> &'static str {
    match step {
        Step::Claiming => "claiming",
        Step::Claimed => "preparing",
        Step::Submitting => "starting",
        Step::Submitted => "running",
        Step::Over(_) => "reporting",
    }
}

/// How an attempt ended, in a line. What a job wrote is not quoted: it may be anything.
fn in_words(end: &End) -> String {
    match end {
        End::Job {
            outcome, stopped, ..
        } => {
            let by_us = match stopped {
                Stopped::No => "",
                Stopped::Cancelled => ", cancelled",
                Stopped::Shutdown => ", stopped with the worker",
            };
            format!("{}{by_us}", outcome_in_words(outcome))
        }
        End::NotStarted(NotStarted::Failed(why)) => format!("not started: {why}"),
        End::NotStarted(NotStarted::Cancelled) => "cancelled before it started".to_owned(),
        End::NotStarted(NotStarted::NotOurs) => "taken by somebody else".to_owned(),
        End::NotStarted(NotStarted::DeploymentGone(id)) => {
            format!("not started: its deployment {id} was deleted")
        }
        End::NotStarted(NotStarted::PutBack(why)) => format!("put back: {why}"),
    }
}

/// How a job ended, in a line.
pub(crate) fn outcome_in_words(outcome: &Outcome) -> String {
    match outcome {
        // What it came to is the flow's to say: one that failed exits with 0 as well.
        Outcome::Exited {
            code,
            reported: true,
        } => format!("reported by the flow, exit code {code}"),
        Outcome::Exited { code, .. } => format!("exit code {code}"),
        Outcome::Signalled { signal, .. } => format!("ended by signal {signal}"),
        Outcome::OutOfMemory { .. } => "out of memory".to_owned(),
        Outcome::NeverStarted { reason } => format!("never started: {reason}"),
        Outcome::Lost { reason } => format!("lost: {reason}"),
    }
}

#[cfg(test)]
mod tests;
