//! Decides, and does nothing else: what to start, what to tell whom, when the worker is done.
//!
//! It owns the slots. A slot is an entry of `lives`: taken when a life begins, given back when its task has ended, on
//! whatever path, a panic included. No I/O and no clock in here: time is an argument, so its tests need no runtime.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use worker_api::types::{FlowRunId, ScheduledFlowRun};
use worker_config::settings::DiskFloor;
use worker_drivers::{Health, JobEvent, RunKey};

use crate::{
    disk::Space,
    event::{Command, Event, Gate, Observation, Order, Seen, Stage},
    journal::Entry,
};

/// The most flow runs asked for in one poll, and the most that wait here between poll and start: the server's own page (3.8.8).
const PAGE: usize = 200;

/// How long a flow run may wait between the poll that showed it and its claim. It is forgotten after that: the next poll shows it again if
/// it is still due, while a late claim could run a second time what another worker has finished meanwhile.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// How long a stage of shutdown may last beyond what it waits for by right. An API that is down must not hold the worker for ever: the
/// journal keeps what could not be told.
const STAGE_LIMIT: Duration = Duration::from_secs(20);

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    limits: Limits,
    backlog: VecDeque<Candidate>,
    lives: BTreeMap<FlowRunId, Life>,
    stage: Stage,
    stage_since: Option<Instant>,
    driver_down: Option<String>,
    pool_closed: Option<String>,
    disk_low: Option<String>,
    paused: Option<String>,
    polled: bool,
}

/// What bounds the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many slots there are. None: as many as flow runs come.
    pub(crate) slots: Option<usize>,
    /// How many lives may be between claim and start at once.
    pub(crate) starting: usize,
    /// How long a drain waits before it stops what runs. None: as long as it takes.
    pub(crate) drain: Option<Duration>,
    /// How long a job may take to end once it was asked to.
    pub(crate) stop_grace: Duration,
    /// How much room there must be for more work.
    pub(crate) disk_floor: DiskFloor,
    /// Whether one poll is all.
    pub(crate) run_once: bool,
}

/// A count of what the worker holds, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Slots taken.
    pub(crate) lives: usize,
    /// Of those, lives that have not started yet.
    pub(crate) starting: usize,
    /// Flow runs seen in a poll and not yet begun.
    pub(crate) waiting: usize,
}

#[derive(Debug)]
struct Candidate {
    scheduled: ScheduledFlowRun,
    seen: Seen,
}

#[derive(Debug)]
struct Life {
    started: bool,
    order: Order,
}

// === impl Dispatcher ===

impl Dispatcher {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            backlog: VecDeque::new(),
            lives: BTreeMap::new(),
            stage: Stage::Working,
            stage_since: None,
            driver_down: None,
            pool_closed: Some("the work pool was not reached yet".to_owned()),
            disk_low: None,
            paused: None,
            polled: false,
        }
    }

    /// Takes in one event and says what follows.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Polled { due, seen } => self.take_in(due, seen),
            Event::Recovered(entries) => {
                for entry in entries {
                    self.resume(entry, &mut commands);
                }
            }
            Event::Started(key) => {
                if let Some(life) = self.lives.get_mut(&FlowRunId(key.flow_run)) {
                    life.started = true;
                }
            }
            Event::Ended(flow_run) => {
                self.lives.remove(&flow_run);
            }
            Event::Job(event) => self.pass_on(event, &mut commands),
            Event::CancellationDue => {
                commands.push(Command::LookForCancelled(
                    self.lives.keys().copied().collect(),
                ));
            }
            Event::Cancelled(flow_runs) => {
                for flow_run in flow_runs {
                    self.order(flow_run, Order::Cancel, &mut commands);
                }
            }
            Event::Driver(health) => {
                self.driver_down = match health {
                    Health::Up => None,
                    Health::Down { reason } => Some(reason),
                };
            }
            Event::Pool(closed) => self.pool_closed = closed,
            Event::Disks(spaces) => self.look_at(&spaces, &mut commands),
            Event::Paused(reason) => self.pause(reason),
            Event::Limits(limits) => self.limits = limits,
            Event::Shutdown(stage) => self.enter(stage, now, &mut commands),
            Event::Tick => {}
        }
        self.enforce_limits(now, &mut commands);
        self.admit(now, &mut commands);
        commands
    }

    /// Whether the poller may ask for work, and for how much.
    pub(crate) fn gate(&self) -> Gate {
        if self.stage > Stage::Working {
            return Gate::Closed("the worker is shutting down".to_owned());
        }
        let reasons = [&self.driver_down, &self.pool_closed, &self.disk_low];
        if let Some(reason) = reasons.into_iter().flatten().next() {
            return Gate::Closed(reason.clone());
        }
        if self.limits.run_once && self.polled {
            return Gate::Closed("the one poll of this run was made".to_owned());
        }
        // The pool is served all the same: what runs is looked after.
        if let Some(reason) = &self.paused {
            return Gate::Full(reason.clone());
        }
        let room = PAGE.saturating_sub(self.backlog.len());
        let free = match self.limits.slots {
            Some(slots) => slots
                .saturating_sub(self.lives.len() + self.backlog.len())
                .min(room),
            None => room,
        };
        match u32::try_from(free) {
            Ok(free @ 1..) => Gate::Open(free),
            _ => Gate::Full("all slots are taken".to_owned()),
        }
    }

    /// Whether the loop may end.
    pub(crate) fn is_done(&self) -> bool {
        match self.stage {
            Stage::Working => {
                // A pause may last for days, and who comes next would begin beside who waits.
                self.limits.run_once
                    && (self.polled || self.paused.is_some())
                    && self.lives.is_empty()
                    && self.backlog.is_empty()
            }
            Stage::Draining | Stage::Stopping => self.lives.is_empty(),
            Stage::LettingGo => self.lives.values().all(|life| life.started),
            Stage::Leaving => true,
        }
    }

    /// Why the one poll of this run was not made, where a pause is why.
    pub(crate) fn unpolled_because(&self) -> Option<&str> {
        let unpolled = self.limits.run_once && !self.polled;
        self.paused.as_deref().filter(|_| unpolled)
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            lives: self.lives.len(),
            starting: self.starting(),
            waiting: self.backlog.len(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    fn resume(&mut self, entry: Entry, commands: &mut Vec<Command>) {
        let flow_run = FlowRunId(entry.key.flow_run);
        if self.lives.contains_key(&flow_run) {
            return;
        }
        self.lives.insert(flow_run, Life::new());
        commands.push(Command::Resume(Box::new(entry)));
        if self.stage == Stage::Stopping {
            self.order(flow_run, Order::Stop, commands);
        }
    }

    fn take_in(&mut self, due: Vec<ScheduledFlowRun>, seen: Seen) {
        if self.paused.is_some() {
            // Nobody has looked who wanted to take anything.
            return;
        }
        self.polled = true;
        if self.stage > Stage::Working {
            return;
        }
        let mut waiting: HashSet<FlowRunId> = self
            .backlog
            .iter()
            .map(|candidate| candidate.scheduled.flow_run.id)
            .collect();
        for scheduled in due {
            let id = scheduled.flow_run.id;
            // A flow run that still has a life here is due again: its next attempt begins when this one has ended.
            if !self.lives.contains_key(&id) && self.backlog.len() < PAGE && waiting.insert(id) {
                self.backlog.push_back(Candidate { scheduled, seen });
            }
        }
    }

    /// What was seen in a poll and is not claimed stays in the pool.
    fn pause(&mut self, reason: Option<String>) {
        if reason.is_some() {
            self.backlog.clear();
        }
        self.paused = reason;
    }

    /// With too little room, nothing more is begun: what runs may need what is left.
    fn look_at(&mut self, spaces: &[Space], commands: &mut Vec<Command>) {
        let floor = self.limits.disk_floor;
        let low = spaces
            .iter()
            .find(|space| space.free < floor.of(space.whole));
        let reason = low.map(|space| {
            let directory = space.directory.display();
            format!("less than {floor} is free on the disk of {directory}")
        });
        if reason != self.disk_low {
            commands.push(Command::Warn(match (&reason, low) {
                (Some(reason), Some(space)) => format!(
                    "claiming nothing: {reason}, {} MB; make room, or set another pull.disk_floor",
                    space.free / 1_000_000
                ),
                _ => "claiming again: the disk has room".to_owned(),
            }));
            self.disk_low = reason;
        }
    }

    fn admit(&mut self, now: Instant, commands: &mut Vec<Command>) {
        if self.disk_low.is_some() {
            return;
        }
        while self.starting() < self.limits.starting
            && self
                .limits
                .slots
                .is_none_or(|slots| self.lives.len() < slots)
        {
            let Some(Candidate { scheduled, seen }) = self.backlog.pop_front() else {
                return;
            };
            if now.duration_since(seen.asked) > STALE_AFTER {
                continue;
            }
            self.lives.insert(scheduled.flow_run.id, Life::new());
            commands.push(Command::Start {
                scheduled: Box::new(scheduled),
                seen,
            });
        }
    }

    fn pass_on(&self, event: JobEvent, commands: &mut Vec<Command>) {
        match event {
            JobEvent::Changed { key, phase } => {
                let flow_run = FlowRunId(key.flow_run);
                if self.lives.contains_key(&flow_run) {
                    commands.push(Command::Observe(flow_run, Observation::Phase(key, phase)));
                }
            }
            JobEvent::Snapshot(owned) => {
                let mut absent: HashSet<FlowRunId> = self.started().collect();
                for one in owned {
                    let RunKey {
                        flow_run,
                        attempt: _,
                    } = one.handle.key;
                    absent.remove(&FlowRunId(flow_run));
                    if self.lives.contains_key(&FlowRunId(flow_run)) {
                        let observation = Observation::Phase(one.handle.key, one.phase);
                        commands.push(Command::Observe(FlowRunId(flow_run), observation));
                    }
                }
                commands.extend(
                    absent
                        .into_iter()
                        .map(|id| Command::Observe(id, Observation::Absent)),
                );
            }
            JobEvent::Happened(happening) => commands.push(Command::Tell(happening)),
            JobEvent::WatchLost { reason: _ } => {}
        }
    }

    fn order(&mut self, flow_run: FlowRunId, order: Order, commands: &mut Vec<Command>) {
        self.backlog
            .retain(|candidate| candidate.scheduled.flow_run.id != flow_run);
        if let Some(life) = self.lives.get_mut(&flow_run)
            && life.order < order
        {
            life.order = order;
            commands.push(Command::Order(flow_run, order));
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant, commands: &mut Vec<Command>) {
        if stage <= self.stage {
            return;
        }
        self.stage = stage;
        self.stage_since = Some(now);
        self.backlog.clear();
        if stage == Stage::Stopping {
            let all: Vec<FlowRunId> = self.lives.keys().copied().collect();
            for flow_run in all {
                self.order(flow_run, Order::Stop, commands);
            }
        }
    }

    fn enforce_limits(&mut self, now: Instant, commands: &mut Vec<Command>) {
        let Some(since) = self.stage_since else {
            return;
        };
        let (limit, next) = match self.stage {
            Stage::Working | Stage::Leaving => return,
            Stage::Draining => (self.limits.drain, Stage::Stopping),
            Stage::LettingGo => (Some(STAGE_LIMIT), Stage::Leaving),
            Stage::Stopping => (Some(self.limits.stop_grace + STAGE_LIMIT), Stage::Leaving),
        };
        if limit.is_some_and(|limit| now.duration_since(since) >= limit) {
            self.enter(next, now, commands);
        }
    }

    fn starting(&self) -> usize {
        self.lives.values().filter(|life| !life.started).count()
    }

    fn started(&self) -> impl Iterator<Item = FlowRunId> {
        self.lives
            .iter()
            .filter(|(_, life)| life.started)
            .map(|(id, _)| *id)
    }
}

// === impl Life ===

impl Life {
    fn new() -> Self {
        Self {
            started: false,
            order: Order::GoOn,
        }
    }
}

#[cfg(test)]
mod tests;
