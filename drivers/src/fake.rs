//! A scripted driver: its jobs do what their environment says, and calls out of order are refused and remembered.
//!
//! [`FakeEngine`] is what a container engine would be: it goes on when a worker dies, and can be made unreachable. [`FakeDriver`] is what one worker
//! has of it; a restarted worker gets another. All waiting is on tokio's clock, so tests may pause it, and nothing runs in the background.
//!
//! The variables that steer a job are listed at [`Script`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use worker_config::{DriverKind, policy::Policy};

use self::engine::{Call, State};
use crate::{
    driver::{Driver, DriverError, Health, JobEvent, LogStream, Owned, Recovered, Submitted},
    examination::{Examination, Finding},
    job::{
        Environment, Handle, Job, LogCursor, LogLine, Outcome, OutputStream, Owner, Phase, Program,
        RunKey, StopRequest,
    },
    plan::Plan as AnyPlan,
};

pub use engine::Call as FakeCall;
pub use script::{Script, SubmitFault};

mod engine;
mod script;

/// What the fake will run for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The attempt.
    pub key: RunKey,
    /// Whose it is.
    pub owner: Owner,
    /// The name for people.
    pub name: String,
    /// What a real driver would run.
    pub program: Program,
    /// What it would give it.
    pub environment: Environment,
    /// What the job does instead.
    pub script: Script,
}

/// What outlives workers: the jobs, and the world they are in. Clones are the same engine.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    inner: Arc<Inner>,
}

/// One worker's driver.
pub struct FakeDriver {
    engine: FakeEngine,
    /// How far the calls of this worker have come, per attempt.
    progress: Mutex<BTreeMap<RunKey, Progress>>,
    watched: Mutex<bool>,
}

#[derive(Debug)]
struct Inner {
    kind: DriverKind,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

/// How far the calls about an attempt have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Submitting,
    Known,
    Destroyed,
}

/// Who the fake is in errors.
const ENGINE: &str = "fake engine";

/// The version of its handles.
const HANDLE_VERSION: u16 = 1;

// === impl FakeEngine ===

impl FakeEngine {
    /// An engine without jobs, of the `process` type.
    pub fn new() -> Self {
        Self::of_kind(DriverKind::Process)
    }

    /// An engine that says it serves this work pool type.
    pub fn of_kind(kind: DriverKind) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                state: Mutex::default(),
                changed: watch::Sender::new(0),
                health: watch::Sender::new(Health::Up),
            }),
        }
    }

    /// A driver for a worker that has just started.
    pub fn driver(&self) -> FakeDriver {
        FakeDriver {
            engine: self.clone(),
            progress: Mutex::default(),
            watched: Mutex::new(false),
        }
    }

    /// Makes every call fail and every watch get lost, until [`Self::make_reachable`].
    pub fn make_unreachable(&self, reason: &str) {
        self.change(|state| state.lose(reason, true));
        self.inner.health.send_replace(Health::Down {
            reason: reason.to_owned(),
        });
    }

    /// Ends what [`Self::make_unreachable`] and [`Self::lose_watch`] began.
    pub fn make_reachable(&self) {
        self.change(State::restore);
        self.inner.health.send_replace(Health::Up);
    }

    /// Makes event streams lose what happens from here on, until [`Self::make_reachable`]. Calls go on working.
    pub fn lose_watch(&self, reason: &str) {
        self.change(|state| state.lose(reason, false));
    }

    /// Ends a job now, whatever its script says. Whether there was one to end.
    pub fn end(&self, key: RunKey, outcome: Outcome) -> bool {
        self.change(|state| state.end(key, outcome))
    }

    /// Makes a job write something now. Whether there was one.
    pub fn write(&self, key: RunKey, stream: OutputStream, bytes: &[u8]) -> bool {
        self.change(|state| state.write(key, stream, bytes))
    }

    /// Removes a job behind the driver's back. Whether there was one.
    pub fn remove(&self, key: RunKey) -> bool {
        self.change(|state| state.remove(key))
    }

    /// The jobs that exist, with their phases.
    pub fn jobs(&self) -> BTreeMap<RunKey, Phase> {
        self.change(|state| state.phases())
    }

    /// How many processes of a job there are.
    pub fn processes(&self, key: RunKey) -> usize {
        self.change(|state| state.processes(key))
    }

    /// How often the infrastructure of an attempt was made. More than once is a bug of the worker.
    pub fn created(&self, key: RunKey) -> usize {
        self.lock().created.get(&key).copied().unwrap_or_default()
    }

    /// Every call of every worker, in order.
    pub fn calls(&self) -> Vec<FakeCall> {
        self.lock().calls.clone()
    }

    /// What was called out of order. Tests look at it last, and find it empty.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .expect("nothing panics while it holds this")
    }

    /// Changes the state as of now, and wakes who waits for changes.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.settle(Instant::now());
            change(&mut state)
        };
        self.inner.changed.send_modify(|version| *version += 1);
        result
    }

    /// Waits until something changes or is due to.
    async fn wait(&self, changed: &mut watch::Receiver<u64>) {
        let due = self.lock().next_due();
        let due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            // The engine is held by who waits, so its sender is there.
            result = changed.changed() => result.expect("the engine is there"),
        }
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

// === impl FakeDriver ===

impl FakeDriver {
    /// Remembers a call, fails if the engine cannot be asked, and otherwise does it.
    fn ask<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        self.engine.change(|state| {
            state.calls.push(call);
            state.check_reachable()?;
            act(state)
        })
    }

    fn progress(&self) -> MutexGuard<'_, BTreeMap<RunKey, Progress>> {
        self.progress
            .lock()
            .expect("nothing panics while it holds this")
    }

    /// Refuses a call about an attempt unless its progress is one of these.
    fn expect(
        &self,
        what: &str,
        key: RunKey,
        fits: impl FnOnce(Option<Progress>) -> bool,
    ) -> Result<(), DriverError> {
        let progress = self.progress().get(&key).copied();
        if fits(progress) {
            return Ok(());
        }
        Err(self.violation(&format!("{what} of {key} when it was {progress:?}")))
    }

    fn violation(&self, what: &str) -> DriverError {
        self.engine.lock().violations.push(what.to_owned());
        DriverError::Unsupported {
            what: format!("a call out of order, {what},"),
        }
    }

    fn lines(&self, handle: &Handle, from: LogCursor) -> LogStream {
        let engine = self.engine.clone();
        let changed = engine.inner.changed.subscribe();
        let start = (engine, changed, handle.key, from);
        let lines = stream::unfold(start, |(engine, mut changed, key, from)| async move {
            loop {
                changed.borrow_and_update();
                let read = engine.change(|state| state.read_line(key, from));
                // That was our own doing.
                changed.borrow_and_update();
                match read {
                    engine::Read::Line(line) => {
                        let next = line.next;
                        return Some((line, (engine, changed, key, next)));
                    }
                    engine::Read::Wait => engine.wait(&mut changed).await,
                    engine::Read::End => return None,
                }
            }
        });
        lines.map(Ok::<LogLine, DriverError>).boxed()
    }
}

impl fmt::Debug for FakeDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDriver").finish_non_exhaustive()
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn kind(&self) -> DriverKind {
        self.engine.inner.kind
    }

    fn default_template(&self) -> serde_json::Value {
        crate::subprocess::default_template()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.engine.inner.health.subscribe()
    }

    fn plan(&self, job: &Job, policy: &Policy) -> Result<AnyPlan, DriverError> {
        if matches!(job.program, Program::Command { .. }) && !policy.allow_command {
            return Err(DriverError::Denied {
                what: "command".to_owned(),
                reason: "the operator of this worker lets no job bring a command of its own"
                    .to_owned(),
            });
        }
        Ok(AnyPlan::Fake(Plan {
            key: job.key,
            owner: job.owner.clone(),
            name: job.name.clone(),
            program: job.program.clone(),
            script: Script::read(&job.environment)?,
            environment: job.environment.clone(),
        }))
    }

    async fn submit(&self, plan: &AnyPlan) -> Result<Submitted, DriverError> {
        let AnyPlan::Fake(plan) = plan else {
            return Err(DriverError::Unsupported {
                what: "a plan of another driver".to_owned(),
            });
        };
        let key = plan.key;
        self.expect("submit", key, |progress| {
            matches!(progress, None | Some(Progress::Known))
        })?;
        let submission = Submission::begin(self, key);
        sleep(plan.script.submit_takes).await;
        let submitted = self.ask(Call::Submit(key), |state| state.submit(plan, self.kind()))?;
        submission.succeed();
        Ok(submitted)
    }

    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError> {
        let key = handle.key;
        if handle.kind != self.kind() || handle.version != HANDLE_VERSION {
            return Err(DriverError::Unsupported {
                what: format!(
                    "a handle of kind {} and version {}",
                    handle.kind, handle.version
                ),
            });
        }
        self.expect("recover", key, |progress| {
            matches!(progress, None | Some(Progress::Known))
        })?;
        self.progress().insert(key, Progress::Known);
        let recovered = self.ask(Call::Recover(key), |state| Ok(state.recover(key)));
        Ok(recovered.unwrap_or_else(|error| Recovered::Unreachable {
            reason: error.to_string(),
        }))
    }

    fn events(&self, owner: &Owner) -> BoxStream<'static, JobEvent> {
        let mut watched = self
            .watched
            .lock()
            .expect("nothing panics while it holds this");
        if std::mem::replace(&mut watched, true) {
            self.violation("events a second time");
        }
        let engine = self.engine.clone();
        let changed = engine.inner.changed.subscribe();
        let start = (engine, changed, engine::Position::default(), owner.clone());
        stream::unfold(
            start,
            |(engine, mut changed, mut position, owner)| async move {
                loop {
                    changed.borrow_and_update();
                    let kind = engine.inner.kind;
                    let event = {
                        let mut state = engine.lock();
                        state.settle(Instant::now());
                        state.next_event(&mut position, &owner, kind)
                    };
                    match event {
                        Some(event) => return Some((event, (engine, changed, position, owner))),
                        None => engine.wait(&mut changed).await,
                    }
                }
            },
        )
        .boxed()
    }

    fn logs(&self, handle: &Handle, from: LogCursor) -> LogStream {
        let key = handle.key;
        match self.expect("logs", key, |progress| progress == Some(Progress::Known)) {
            Ok(()) => self.lines(handle, from),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn stop(&self, handle: &Handle, request: StopRequest) -> Result<(), DriverError> {
        let key = handle.key;
        self.expect("stop", key, |progress| progress == Some(Progress::Known))?;
        self.ask(Call::Stop(key, request), |state| {
            state.stop(key, request);
            Ok(())
        })
    }

    async fn destroy(&self, key: RunKey) -> Result<(), DriverError> {
        self.expect("destroy", key, |progress| {
            progress != Some(Progress::Submitting)
        })?;
        self.progress().insert(key, Progress::Destroyed);
        self.ask(Call::Destroy(key), |state| {
            state.remove(key);
            Ok(())
        })
    }

    async fn list_owned(&self, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
        let jobs = self.ask(Call::ListOwned, |state| Ok(state.owned(owner, self.kind())))?;
        let mut progress = self.progress();
        for job in &jobs {
            progress.entry(job.handle.key).or_insert(Progress::Known);
        }
        Ok(jobs)
    }

    async fn examine(&self, _: Examination<'_>) -> Vec<Finding> {
        vec![match &*self.engine.inner.health.borrow() {
            Health::Up => Finding::ok("fake engine", "it takes work"),
            Health::Down { reason } => Finding::problem("fake engine", reason.clone()),
        }]
    }
}

/// A submission under way. Dropped before it succeeded, it leaves the attempt open.
struct Submission<'a> {
    driver: &'a FakeDriver,
    key: RunKey,
    before: Option<Progress>,
}

// === impl Submission ===

impl<'a> Submission<'a> {
    fn begin(driver: &'a FakeDriver, key: RunKey) -> Self {
        let before = driver.progress().insert(key, Progress::Submitting);
        Self {
            driver,
            key,
            before,
        }
    }

    fn succeed(mut self) {
        self.before = Some(Progress::Known);
    }
}

impl Drop for Submission<'_> {
    fn drop(&mut self) {
        let mut progress = self.driver.progress();
        match self.before {
            Some(before) => progress.insert(self.key, before),
            None => progress.remove(&self.key),
        };
    }
}

#[cfg(test)]
mod tests;
