//! The state of the fake engine, and what can be done to it. No waiting: time is handed in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio::time::Instant;

use worker_config::DriverKind;

use super::{
    ENGINE, HANDLE_VERSION, Plan,
    script::{Script, SubmitFault},
};
use crate::{
    driver::{DriverError, JobEvent, Owned, Recovered, Submitted},
    job::{Handle, LogCursor, LogLine, Outcome, OutputStream, Owner, Phase, RunKey, StopRequest},
    lines,
};

/// A call that a driver was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`crate::Driver::submit`].
    Submit(RunKey),
    /// [`crate::Driver::recover`].
    Recover(RunKey),
    /// [`crate::Driver::stop`].
    Stop(RunKey, StopRequest),
    /// [`crate::Driver::destroy`].
    Destroy(RunKey),
    /// [`crate::Driver::list_owned`].
    ListOwned,
}

/// Everything there is.
#[derive(Debug, Default)]
pub(super) struct State {
    jobs: BTreeMap<RunKey, FakeJob>,
    events: Vec<(Owner, JobEvent)>,
    /// Why events cannot be seen, and whether calls fail as well.
    lost: Option<Loss>,
    /// How often the watch was lost.
    losses: usize,
    /// How many submissions of an attempt have failed.
    faults: BTreeMap<RunKey, usize>,
    pub(super) created: BTreeMap<RunKey, usize>,
    pub(super) calls: Vec<Call>,
    pub(super) violations: Vec<String>,
}

/// Where an event stream is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    live: bool,
    next: usize,
    losses: usize,
}

/// What there is to read.
pub(super) enum Read {
    Line(LogLine),
    Wait,
    End,
}

#[derive(Debug)]
struct Loss {
    reason: String,
    unreachable: bool,
}

#[derive(Debug)]
struct FakeJob {
    owner: Owner,
    number: u32,
    script: Script,
    phase: Phase,
    /// When a pending job runs.
    starts: Instant,
    /// When it ends, and how.
    ends: Option<(Instant, Outcome)>,
    forced: Option<Instant>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

const SIGKILL: i32 = 9;

/// Numbers of jobs begin here, so that they look like pids.
const FIRST_NUMBER: u32 = 1001;

// === impl State ===

impl State {
    /// Brings everything up to now.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut changes = Vec::new();
        for (&key, job) in &mut self.jobs {
            if matches!(job.phase, Phase::Pending(_)) && job.starts <= now {
                job.start();
                changes.push((
                    job.owner.clone(),
                    JobEvent::Changed {
                        key,
                        phase: Phase::Running,
                    },
                ));
            }
            if let Some((_, outcome)) = job.ends.take_if(|(ends, _)| *ends <= now) {
                let phase = job.finish(outcome);
                changes.push((job.owner.clone(), JobEvent::Changed { key, phase }));
            }
        }
        for (owner, event) in changes {
            self.record(owner, event);
        }
    }

    /// When the next change is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.jobs.values().filter_map(FakeJob::next_due).min()
    }

    pub(super) fn check_reachable(&self) -> Result<(), DriverError> {
        match &self.lost {
            Some(Loss {
                reason,
                unreachable: true,
            }) => Err(DriverError::Unavailable {
                engine: ENGINE,
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn lose(&mut self, reason: &str, unreachable: bool) {
        self.losses += 1;
        self.lost = Some(Loss {
            reason: reason.to_owned(),
            unreachable,
        });
    }

    pub(super) fn restore(&mut self) {
        self.lost = None;
    }

    pub(super) fn submit(
        &mut self,
        plan: &Plan,
        kind: DriverKind,
    ) -> Result<Submitted, DriverError> {
        let key = plan.key;
        if let Some(job) = self.jobs.get(&key) {
            return Ok(Submitted::Adopted(job.handle(key, kind)));
        }
        let failed = self.faults.entry(key).or_default();
        let fault = plan
            .script
            .submit_fault
            .as_ref()
            .filter(|_| *failed < plan.script.submit_faults);
        *failed += usize::from(fault.is_some());
        if let Some(fault) = fault
            && *fault != SubmitFault::Lost
        {
            return Err(fault.error());
        }
        *self.created.entry(key).or_default() += 1;
        let number = FIRST_NUMBER + u32::try_from(self.created.len()).unwrap_or_default();
        let now = Instant::now();
        let job = FakeJob::new(plan, number, now);
        let handle = job.handle(key, kind);
        let event = JobEvent::Changed {
            key,
            phase: job.phase.clone(),
        };
        self.jobs.insert(key, job);
        self.record(plan.owner.clone(), event);
        self.settle(now);
        match fault {
            Some(fault) => Err(fault.error()),
            None => Ok(Submitted::Created(handle)),
        }
    }

    pub(super) fn recover(&self, key: RunKey) -> Recovered {
        match self.jobs.get(&key).map(|job| &job.phase) {
            None => Recovered::Missing,
            Some(Phase::Exited(outcome)) => Recovered::Exited(outcome.clone()),
            Some(Phase::Pending(_) | Phase::Running) => Recovered::Running,
        }
    }

    pub(super) fn stop(&mut self, key: RunKey, request: StopRequest) {
        let now = Instant::now();
        if let Some(job) = self.jobs.get_mut(&key) {
            job.stop(now, request);
        }
        self.settle(now);
    }

    pub(super) fn end(&mut self, key: RunKey, outcome: Outcome) -> bool {
        let now = Instant::now();
        let running = self
            .jobs
            .get_mut(&key)
            .filter(|job| !matches!(job.phase, Phase::Exited(_)));
        let ended = running.map(|job| job.ends = Some((now, outcome))).is_some();
        self.settle(now);
        ended
    }

    pub(super) fn write(&mut self, key: RunKey, stream: OutputStream, bytes: &[u8]) -> bool {
        let job = self.jobs.get_mut(&key);
        job.map(|job| job.output_mut(stream).extend_from_slice(bytes))
            .is_some()
    }

    pub(super) fn remove(&mut self, key: RunKey) -> bool {
        self.jobs.remove(&key).is_some()
    }

    pub(super) fn phases(&self) -> BTreeMap<RunKey, Phase> {
        self.jobs
            .iter()
            .map(|(&key, job)| (key, job.phase.clone()))
            .collect()
    }

    pub(super) fn processes(&self, key: RunKey) -> usize {
        let running = self
            .jobs
            .get(&key)
            .filter(|job| job.phase == Phase::Running);
        running.map_or(0, |job| 1 + job.script.children)
    }

    pub(super) fn owned(&self, owner: &Owner, kind: DriverKind) -> Vec<Owned> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.owner == *owner);
        jobs.map(|(&key, job)| Owned {
            handle: job.handle(key, kind),
            phase: job.phase.clone(),
        })
        .collect()
    }

    /// What an event stream yields next.
    pub(super) fn next_event(
        &self,
        position: &mut Position,
        owner: &Owner,
        kind: DriverKind,
    ) -> Option<JobEvent> {
        if position.live && position.losses != self.losses {
            *position = Position {
                live: false,
                losses: self.losses,
                ..*position
            };
            let reason = self
                .lost
                .as_ref()
                .map_or("it was lost for a while", |loss| &loss.reason);
            return Some(JobEvent::WatchLost {
                reason: reason.to_owned(),
            });
        }
        if !position.live {
            if self.lost.is_some() {
                return None;
            }
            *position = Position {
                live: true,
                losses: self.losses,
                next: self.events.len(),
            };
            return Some(JobEvent::Snapshot(self.owned(owner, kind)));
        }
        while let Some((whose, event)) = self.events.get(position.next) {
            position.next += 1;
            if whose == owner {
                return Some(event.clone());
            }
        }
        None
    }

    pub(super) fn read_line(&self, key: RunKey, from: LogCursor) -> Read {
        let Some(job) = self.jobs.get(&key) else {
            return Read::End;
        };
        if self.check_reachable().is_err() {
            return Read::Wait;
        }
        let ended = matches!(job.phase, Phase::Exited(_));
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let (output, read) = match stream {
                OutputStream::Stdout => (&job.stdout, from.stdout),
                OutputStream::Stderr => (&job.stderr, from.stderr),
            };
            let rest = output
                .get(usize::try_from(read).unwrap_or(usize::MAX)..)
                .unwrap_or_default();
            // One line at a time, so no more than one is cut.
            let window = &rest[..rest.len().min(lines::MAX_LINE + 1)];
            let cut = lines::split(window, ended && window.len() == rest.len());
            let Some((text, length)) = cut.into_iter().next() else {
                continue;
            };
            let length = length as u64;
            let next = match stream {
                OutputStream::Stdout => LogCursor {
                    stdout: from.stdout + length,
                    ..from
                },
                OutputStream::Stderr => LogCursor {
                    stderr: from.stderr + length,
                    ..from
                },
            };
            return Read::Line(LogLine {
                stream,
                timestamp: Timestamp::now(),
                text,
                next,
            });
        }
        if ended { Read::End } else { Read::Wait }
    }

    /// Notes an event, unless nobody can see it.
    fn record(&mut self, owner: Owner, event: JobEvent) {
        if self.lost.is_none() {
            self.events.push((owner, event));
        }
    }
}

// === impl FakeJob ===

impl FakeJob {
    fn new(plan: &Plan, number: u32, now: Instant) -> Self {
        Self {
            owner: plan.owner.clone(),
            number,
            script: plan.script.clone(),
            phase: Phase::Pending(None),
            starts: now + plan.script.pending,
            ends: match (&plan.script.end, plan.script.runs) {
                // What never starts ends when it should have started.
                (Outcome::NeverStarted { .. }, _) => {
                    Some((now + plan.script.pending, plan.script.end.clone()))
                }
                (end, Some(runs)) => Some((now + plan.script.pending + runs, end.clone())),
                (_, None) => None,
            },
            forced: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let starts = matches!(self.phase, Phase::Pending(_)).then_some(self.starts);
        let ends = self.ends.as_ref().map(|&(ends, _)| ends);
        starts.into_iter().chain(ends).min()
    }

    fn start(&mut self) {
        self.phase = Phase::Running;
        self.stdout.extend_from_slice(&self.script.stdout);
        self.stderr.extend_from_slice(&self.script.stderr);
    }

    fn finish(&mut self, outcome: Outcome) -> Phase {
        self.stdout.extend_from_slice(&self.script.last_stdout);
        self.phase = Phase::Exited(outcome);
        self.phase.clone()
    }

    fn stop(&mut self, now: Instant, request: StopRequest) {
        if matches!(self.phase, Phase::Exited(_)) {
            return;
        }
        let force = now + request.grace;
        if self.forced.is_none()
            && let Some(takes) = self.script.stop_takes
        {
            self.end_by(now + takes, &self.script.stopped.clone());
        }
        if self.forced.is_none_or(|before| force < before) {
            self.forced = Some(force);
            self.end_by(
                force,
                &Outcome::Signalled {
                    signal: SIGKILL,
                    by_us: true,
                },
            );
        }
    }

    /// Lets it end like this, unless it ends earlier.
    fn end_by(&mut self, when: Instant, outcome: &Outcome) {
        if self.ends.as_ref().is_none_or(|&(ends, _)| when < ends) {
            self.ends = Some((when, outcome.clone()));
        }
    }

    fn output_mut(&mut self, stream: OutputStream) -> &mut Vec<u8> {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn handle(&self, key: RunKey, kind: DriverKind) -> Handle {
        Handle {
            kind,
            version: HANDLE_VERSION,
            key,
            infrastructure_id: self.number.to_string(),
            state: serde_json::Value::Null,
        }
    }
}
