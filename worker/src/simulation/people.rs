//! Everybody but the worker: those who cancel, and Prefect's engine inside the jobs. They go on when a worker dies.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use worker_api::{
    Client,
    types::{FlowRunId, OrchestrationStatus, ProposedState, StateType},
};
use worker_drivers::{Outcome, Phase, RunKey, fake::FakeEngine};

use super::fate::{Affair, Subject};

/// How often they look.
const PACE: Duration = Duration::from_millis(60);

/// How long a job goes on that nobody is interested in any more.
const A_LITTLE: Duration = Duration::from_millis(500);

/// What people see of the world, and what nobody should see.
#[derive(Clone, Debug)]
pub(super) struct People {
    client: Client,
    engine: FakeEngine,
    subjects: Arc<Vec<Subject>>,
    alarms: Arc<Mutex<Vec<String>>>,
}

/// How far an affair has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Begun,
    /// The job with this number of attempt was put back.
    PutBack(u32),
    Done,
}

// === impl People ===

impl People {
    pub(super) fn new(client: Client, engine: FakeEngine, subjects: Arc<Vec<Subject>>) -> Self {
        Self {
            client,
            engine,
            subjects,
            alarms: Arc::default(),
        }
    }

    /// What was seen and must not be.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.alarms.lock().expect("nobody panics with it").clone()
    }

    /// Goes after everybody's affairs until dropped.
    pub(super) async fn live(self) {
        let mut progress = HashMap::new();
        loop {
            self.watch().await;
            for Subject { id, fate } in self.subjects.iter() {
                let progress = progress.entry(*id).or_default();
                if *progress != Progress::Done {
                    self.advance(*id, fate.affair, progress).await;
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Raises an alarm when a flow run has two jobs that have not ended, or one although the worker has said that it is over.
    async fn watch(&self) {
        let mut live: BTreeMap<uuid::Uuid, Vec<RunKey>> = BTreeMap::new();
        for (key, phase) in self.engine.jobs() {
            if !matches!(phase, Phase::Exited(_)) {
                live.entry(key.flow_run).or_default().push(key);
            }
        }
        for keys in live.values().filter(|keys| keys.len() > 1) {
            self.alarm(format!("two jobs at once: {keys:?}"));
        }
        for Subject { id, fate } in self.subjects.iter() {
            // Others end a flow run whenever they like.
            let by_worker = matches!(
                fate.affair,
                Affair::None | Affair::CancelledRunning | Affair::CancelledPending
            );
            if by_worker && live.contains_key(&id.0) {
                let flow_run = self.client.read_flow_run(*id).await.expect("an answer");
                let state = flow_run.state_type.filter(StateType::is_final);
                // It may have ended since it was looked at.
                if let Some(state) = state
                    && let Some(key) = self.living(*id)
                {
                    self.alarm(format!("{key} is said to be {state}, and lives"));
                }
            }
        }
    }

    async fn advance(&self, id: FlowRunId, affair: Affair, progress: &mut Progress) {
        let running = self.running(id);
        match affair {
            Affair::None => *progress = Progress::Done,
            Affair::CancelledRunning if running.is_some() => {
                if self.propose(id, StateType::Cancelling).await {
                    *progress = Progress::Done;
                }
            }
            Affair::CancelledPending => {
                let flow_run = self.client.read_flow_run(id).await.expect("an answer");
                if flow_run.state_type == Some(StateType::Pending)
                    && self.propose(id, StateType::Cancelling).await
                {
                    *progress = Progress::Done;
                }
            }
            Affair::PutBack if *progress == Progress::Begun => {
                if let Some(key) = running {
                    self.propose(id, StateType::Running).await;
                    self.propose(id, StateType::Scheduled).await;
                    *progress = Progress::PutBack(key.attempt);
                    self.end(key, true);
                }
            }
            Affair::Reported | Affair::PutBack => {
                if let Some(key) = running
                    && *progress != Progress::PutBack(key.attempt)
                {
                    self.propose(id, StateType::Running).await;
                    self.propose(id, StateType::Completed).await;
                    *progress = Progress::Done;
                    self.end(key, true);
                }
            }
            Affair::MarkedFailed => {
                let flow_run = self.client.read_flow_run(id).await.expect("an answer");
                if let Some(key) = running
                    && flow_run.state_type == Some(StateType::Running)
                    && self.propose(id, StateType::Failed).await
                {
                    tokio::time::sleep(A_LITTLE).await;
                    self.end(key, false);
                    *progress = Progress::Done;
                }
            }
            Affair::CancelledRunning => {}
        }
    }

    /// A job of a flow run that has not ended.
    fn living(&self, id: FlowRunId) -> Option<RunKey> {
        let jobs = self.engine.jobs().into_iter();
        jobs.filter(|(key, phase)| key.flow_run == id.0 && !matches!(phase, Phase::Exited(_)))
            .map(|(key, _)| key)
            .next()
    }

    fn running(&self, id: FlowRunId) -> Option<RunKey> {
        let jobs = self.engine.jobs().into_iter();
        jobs.filter(|(key, phase)| key.flow_run == id.0 && *phase == Phase::Running)
            .map(|(key, _)| key)
            .next()
    }

    /// Ends a job well, whether or not it was an engine that has told the API everything.
    fn end(&self, key: RunKey, reported: bool) {
        self.engine.end(key, Outcome::Exited { code: 0, reported });
    }

    async fn propose(&self, id: FlowRunId, state: StateType) -> bool {
        let proposal = ProposedState::new(state);
        let answer = self.client.propose_state(id, &proposal).await;
        answer.expect("an answer").status == OrchestrationStatus::Accept
    }

    fn alarm(&self, what: String) {
        self.alarms
            .lock()
            .expect("nobody panics with it")
            .push(what);
    }
}
