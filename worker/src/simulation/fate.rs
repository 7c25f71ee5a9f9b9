//! What the flow runs of a simulation are to go through, and what is true of them in the end.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use worker_api::{
    Client,
    types::{FlowRunId, StateType},
};

use super::world::POOL;

/// One flow run's script and its truth.
#[derive(Debug)]
pub(super) struct Fate {
    /// The name of its deployment.
    pub(super) name: &'static str,
    /// What Prefect's engine runs; none makes it a plain command.
    pub(super) entrypoint: Option<&'static str>,
    /// What the fake engine is told about its jobs.
    pub(super) script: &'static [(&'static str, &'static str)],
    /// What somebody else does about it.
    pub(super) affair: Affair,
    /// The only state it may end in.
    pub(super) ends: StateType,
    /// How often its code may run.
    pub(super) executions: RangeInclusive<usize>,
    /// A line that its log must have.
    pub(super) says: Option<&'static str>,
}

/// A flow run with its fate.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) id: FlowRunId,
    pub(super) fate: &'static Fate,
}

/// What people or Prefect's engine do about a flow run while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affair {
    /// Nothing.
    None,
    /// Somebody cancels it once its job runs.
    CancelledRunning,
    /// Somebody cancels it as soon as it is claimed.
    CancelledPending,
    /// The engine in its job reports RUNNING and COMPLETED, and ends.
    Reported,
    /// The engine puts it back once, and completes it the next time.
    PutBack,
    /// Somebody marks it as failed while its job runs, which ends by itself a little later.
    MarkedFailed,
}

/// A flow run of each kind.
pub(super) const ALL: &[Fate] = &[
    Fate {
        name: "exits-0",
        entrypoint: None,
        script: &[("FAKE_STDOUT", "all went well\\n")],
        affair: Affair::None,
        ends: StateType::Completed,
        executions: 1..=1,
        says: Some("all went well"),
    },
    Fate {
        name: "exits-3",
        entrypoint: None,
        script: &[("FAKE_EXIT", "3"), ("FAKE_STDERR", "it broke\\n")],
        affair: Affair::None,
        ends: StateType::Crashed,
        executions: 1..=1,
        says: Some("it broke"),
    },
    Fate {
        name: "runs-a-while",
        entrypoint: None,
        script: &[
            ("FAKE_SUBMIT_TAKES", "0.3"),
            ("FAKE_PENDING", "0.5"),
            ("FAKE_RUN", "2"),
            ("FAKE_LAST_STDOUT", "the last line\\n"),
        ],
        affair: Affair::None,
        ends: StateType::Completed,
        executions: 1..=1,
        says: Some("the last line"),
    },
    Fate {
        name: "cancelled-running",
        entrypoint: None,
        script: &[("FAKE_RUN", "forever")],
        affair: Affair::CancelledRunning,
        ends: StateType::Cancelled,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "cancelled-pending",
        entrypoint: None,
        script: &[("FAKE_SUBMIT_TAKES", "1"), ("FAKE_RUN", "forever")],
        affair: Affair::CancelledPending,
        ends: StateType::Cancelled,
        executions: 0..=1,
        says: None,
    },
    Fate {
        name: "waits-for-room",
        entrypoint: None,
        script: &[("FAKE_PENDING", "2"), ("FAKE_RUN", "0.5")],
        affair: Affair::None,
        ends: StateType::Completed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "reported-after-a-wait",
        entrypoint: Some("flows.py:patient"),
        script: &[("FAKE_PENDING", "2"), ("FAKE_RUN", "forever")],
        affair: Affair::Reported,
        ends: StateType::Completed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "cancelled-waiting",
        entrypoint: Some("flows.py:patient"),
        script: &[("FAKE_PENDING", "2"), ("FAKE_RUN", "forever")],
        affair: Affair::CancelledPending,
        ends: StateType::Cancelled,
        executions: 0..=1,
        says: None,
    },
    Fate {
        name: "cannot-be-submitted",
        entrypoint: None,
        script: &[("FAKE_SUBMIT_ERROR", "invalid")],
        affair: Affair::None,
        ends: StateType::Crashed,
        executions: 0..=0,
        says: None,
    },
    Fate {
        name: "submit-answer-lost",
        entrypoint: None,
        script: &[
            ("FAKE_SUBMIT_ERROR", "lost"),
            ("FAKE_SUBMIT_ERRORS", "1"),
            ("FAKE_RUN", "0.2"),
        ],
        affair: Affair::None,
        ends: StateType::Completed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "out-of-memory",
        entrypoint: Some("flows.py:hungry"),
        script: &[("FAKE_RUN", "0.2"), ("FAKE_OOM", "1048576")],
        affair: Affair::None,
        ends: StateType::Crashed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "reported-by-its-engine",
        entrypoint: Some("flows.py:talkative"),
        script: &[("FAKE_RUN", "forever")],
        affair: Affair::Reported,
        ends: StateType::Completed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "put-back-once",
        entrypoint: Some("flows.py:hesitant"),
        script: &[("FAKE_RUN", "forever")],
        affair: Affair::PutBack,
        ends: StateType::Completed,
        executions: 2..=2,
        says: None,
    },
    Fate {
        name: "marked-as-failed",
        entrypoint: None,
        script: &[("FAKE_RUN", "forever")],
        affair: Affair::MarkedFailed,
        ends: StateType::Failed,
        executions: 1..=1,
        says: None,
    },
];

/// Flow runs that last until something else is over.
pub(super) const LONG: &[Fate] = &[
    Fate {
        name: "exits-0-late",
        entrypoint: None,
        script: &[("FAKE_RUN", "20"), ("FAKE_LAST_STDOUT", "over at last\\n")],
        affair: Affair::None,
        ends: StateType::Completed,
        executions: 1..=1,
        says: Some("over at last"),
    },
    Fate {
        name: "exits-3-late",
        entrypoint: None,
        script: &[("FAKE_RUN", "30"), ("FAKE_EXIT", "3")],
        affair: Affair::None,
        ends: StateType::Crashed,
        executions: 1..=1,
        says: None,
    },
    Fate {
        name: "out-of-memory-late",
        entrypoint: None,
        script: &[("FAKE_RUN", "25"), ("FAKE_OOM", "1048576")],
        affair: Affair::None,
        ends: StateType::Crashed,
        executions: 1..=1,
        says: None,
    },
];

// === impl Fate ===

impl Fate {
    /// The fate of this name.
    pub(super) fn named(name: &str) -> &'static Self {
        let found = ALL.iter().find(|fate| fate.name == name);
        found.expect("there is such a fate")
    }

    fn job_variables(&self) -> Value {
        let environment: Map<String, Value> = self
            .script
            .iter()
            .map(|&(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        match self.entrypoint {
            Some(_) => json!({ "env": environment }),
            None => json!({ "env": environment, "command": "a-plain-command" }),
        }
    }
}

// === impl Subject ===

impl Subject {
    /// A new flow run that is due.
    pub(super) async fn new(fate: &'static Fate, client: &Client) -> Self {
        let flow = client.create_flow(fate.name).await.expect("a flow");
        let deployment = json!({
            "name": fate.name,
            "flow_id": flow.id,
            "entrypoint": fate.entrypoint,
            "work_pool_name": POOL,
            "job_variables": fate.job_variables(),
        });
        let deployment = client
            .create_deployment(&deployment)
            .await
            .expect("a deployment");
        let name = Some(fate.name.to_owned());
        let flow_run = client
            .create_flow_run(deployment.id, Map::new(), None, name, vec![])
            .await
            .expect("a flow run");
        Self {
            id: flow_run.id,
            fate,
        }
    }
}
