//! What a case has to work with: a driver, its event stream, and waits that end.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};

use worker_config::policy::Policy;

use super::{Behaviour, Subject, fresh_key};
use crate::{
    driver::{Driver, DriverError, JobEvent, Recovered, Submitted},
    job::{Handle, Intent, Job, LogCursor, LogLine, Outcome, Owner, Phase, RunKey, StopRequest},
    plan::Plan,
};

/// The longest any wait of a case takes. Far more than any engine needs: a case that reaches it has failed.
const LIMIT: Duration = Duration::from_mins(3);

/// The time between two tries of what an engine could not do yet.
const AGAIN: Duration = Duration::from_millis(200);

/// A worker with one driver, seen from its driver's side.
#[expect(
    missing_debug_implementations,
    reason = "it is of use only inside a case"
)]
pub struct Scene<'a> {
    subject: &'a dyn Subject,
    /// Whose jobs this worker starts.
    pub owner: Owner,
    /// Its driver.
    pub driver: Arc<dyn Driver>,
    events: Option<BoxStream<'static, JobEvent>>,
    /// How far each job has come, as events told.
    pub phases: BTreeMap<RunKey, Phase>,
}

// === impl Scene ===

impl<'a> Scene<'a> {
    /// A worker that has just started, with a name of its own.
    pub async fn new(subject: &'a dyn Subject) -> Self {
        let owner = Owner(format!("owner-{}", fresh_key().flow_run));
        Self::of_owner(subject, owner).await
    }

    async fn of_owner(subject: &'a dyn Subject, owner: Owner) -> Self {
        Self {
            subject,
            owner,
            driver: subject.driver().await,
            events: None,
            phases: BTreeMap::new(),
        }
    }

    /// The worker that replaces this one, which dies at once.
    pub async fn restart(self) -> Self {
        let Self {
            subject,
            owner,
            driver,
            events,
            phases: _,
        } = self;
        drop((driver, events));
        Self::of_owner(subject, owner).await
    }

    /// A job of this worker that behaves like this.
    pub fn job(&self, behaviour: &Behaviour) -> Job {
        self.subject.job(fresh_key(), self.owner.clone(), behaviour)
    }

    /// The plan of a job.
    pub fn plan(&self, job: &Job) -> Plan {
        self.driver
            .plan(job, &Policy::default())
            .expect("the job can be planned")
    }

    /// Starts a job that behaves like this.
    pub async fn start(&self, behaviour: &Behaviour) -> Handle {
        let plan = self.plan(&self.job(behaviour));
        match self.submit(&plan).await.expect("it starts") {
            Submitted::Created(handle) => handle,
            Submitted::Adopted(_) => panic!("a fresh job was there already"),
        }
    }

    /// Submits within bounds.
    pub async fn submit(&self, plan: &Plan) -> Result<Submitted, DriverError> {
        within("submit", self.driver.submit(plan)).await
    }

    /// Takes in events until a job has ended.
    pub async fn ended(&mut self, key: RunKey) -> Outcome {
        loop {
            if let Some(Phase::Exited(outcome)) = self.phases.get(&key) {
                return outcome.clone();
            }
            self.next_event().await;
        }
    }

    /// Takes in events until a job has ended that was told to, as it should. Whether the engine recorded how.
    #[track_caller]
    pub fn ended_as(&mut self, key: RunKey, expected: &[Outcome]) -> impl Future<Output = bool> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.ended(key).await;
            let is_recorded = expected.contains(&outcome);
            let may_be_lost = self.subject.loses_ends() && matches!(outcome, Outcome::Lost { .. });
            assert!(is_recorded || may_be_lost, "{outcome:?} at {caller}");
            is_recorded
        }
    }

    /// Takes in events until a job runs.
    pub async fn running(&mut self, key: RunKey) {
        while self.phases.get(&key) != Some(&Phase::Running) {
            self.next_event().await;
        }
    }

    /// Takes in events until there is one like this.
    pub async fn event(&mut self, fits: impl Fn(&JobEvent) -> bool) -> JobEvent {
        loop {
            let event = self.next_event().await;
            if fits(&event) {
                return event;
            }
        }
    }

    /// Opens the event stream, if it is not open.
    pub fn watch(&mut self) {
        let (driver, owner) = (&self.driver, &self.owner);
        self.events.get_or_insert_with(|| driver.events(owner));
    }

    /// Takes in one event.
    pub async fn next_event(&mut self) -> JobEvent {
        self.watch();
        let events = self.events.as_mut().expect("it was opened");
        let event = within("the next event", events.next())
            .await
            .expect("events never end");
        match &event {
            JobEvent::Changed { key, phase } => {
                let before = self.phases.insert(*key, phase.clone());
                assert!(
                    before.is_none_or(
                        |before| !matches!(before, Phase::Exited(_)) || before == *phase
                    ),
                    "an end was taken back"
                );
            }
            JobEvent::Snapshot(owned) => {
                self.phases = owned
                    .iter()
                    .map(|owned| (owned.handle.key, owned.phase.clone()))
                    .collect();
            }
            JobEvent::Happened(_) | JobEvent::WatchLost { .. } => {}
        }
        event
    }

    /// Asks for a job to be stopped.
    pub async fn stop(&self, handle: &Handle, grace: Duration) {
        let request = StopRequest {
            intent: Intent::Plain,
            grace,
        };
        within("stop", self.driver.stop(handle, request))
            .await
            .expect("it can be asked to stop");
    }

    /// Removes a job, as often as it takes.
    pub async fn destroy(&self, key: RunKey) {
        let removal = async {
            loop {
                match self.driver.destroy(key).await {
                    Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
                    answer => return answer,
                }
            }
        };
        within("destroy", removal).await.expect("it can be removed");
    }

    /// Asks what became of a job.
    pub async fn recover(&self, handle: &Handle) -> Recovered {
        within("recover", self.driver.recover(handle))
            .await
            .expect("the handle is known")
    }

    /// The jobs of this worker, with their phases.
    pub async fn owned(&self) -> BTreeMap<RunKey, Phase> {
        let owned = within("list_owned", self.driver.list_owned(&self.owner))
            .await
            .expect("it can be listed");
        let count = owned.len();
        let owned: BTreeMap<_, _> = owned
            .into_iter()
            .map(|owned| (owned.handle.key, owned.phase))
            .collect();
        assert_eq!(owned.len(), count, "a job is listed twice");
        owned
    }

    /// The lines of a job from a place on, until they end.
    pub async fn lines(&self, handle: &Handle, from: LogCursor) -> Vec<LogLine> {
        let mut lines = self.driver.logs(handle, from);
        let mut read = Vec::new();
        while let Some(line) = within("the next line", lines.next()).await {
            read.push(line.expect("it can be read"));
        }
        read
    }

    /// Waits until there are so many processes of a job.
    pub async fn processes(&self, key: RunKey, count: usize) {
        let reached = async {
            while self.subject.processes(key).await != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the processes of the job", reached).await;
    }
}

/// Waits, but not for ever.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(LIMIT, future).await;
    result.unwrap_or_else(|_| panic!("{what} did not come"))
}
