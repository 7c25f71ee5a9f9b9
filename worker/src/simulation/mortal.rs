//! A driver whose calls are steps: one before the engine acts, one before its answer is heard.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::watch;

use worker_config::{DriverKind, policy::Policy};
use worker_drivers::{
    Driver, DriverError, Examination, Finding, Handle, Health, Job, JobEvent, LogCursor, LogStream,
    Owned, Owner, Plan, Recovered, RunKey, StopRequest, Submitted, fake::FakeDriver,
};

use super::steps::Steps;

/// The driver of a worker that may die.
#[derive(Debug)]
pub(super) struct MortalDriver {
    pub(super) inner: FakeDriver,
    pub(super) steps: Steps,
    pub(super) jam: Option<Arc<Jam>>,
}

/// An engine in which removals hold each other up: the first to be asked for hangs until it is asked for again, and no other ends before two are under way.
#[derive(Debug, Default)]
pub(super) struct Jam {
    hanging: OnceLock<RunKey>,
    waiting: watch::Sender<usize>,
}

/// One removal that waits for another.
struct Waiting<'a>(&'a Jam);

// === impl Jam ===

impl Jam {
    async fn pass(&self, key: RunKey) {
        if self.hanging.set(key).is_ok() {
            std::future::pending::<()>().await;
        }
        if self.hanging.get() == Some(&key) {
            return;
        }
        self.waiting.send_modify(|count| *count += 1);
        let waiting = Waiting(self);
        // The sender is in here, so there will be no error.
        drop(self.waiting.subscribe().wait_for(|count| *count >= 2).await);
        // Two that have met stay so.
        std::mem::forget(waiting);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}

// === impl MortalDriver ===

impl MortalDriver {
    async fn call<T>(&self, label: String, call: impl Future<Output = T>) -> T {
        self.steps.take(label.clone()).await;
        let answer = call.await;
        self.steps.take(format!("answer to {label}")).await;
        answer
    }
}

#[async_trait]
impl Driver for MortalDriver {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    fn default_template(&self) -> serde_json::Value {
        self.inner.default_template()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    fn plan(&self, job: &Job, policy: &Policy) -> Result<Plan, DriverError> {
        self.inner.plan(job, policy)
    }

    async fn submit(&self, plan: &Plan) -> Result<Submitted, DriverError> {
        let label = format!("submit {}", plan.key());
        self.call(label, self.inner.submit(plan)).await
    }

    async fn recover(&self, handle: &Handle) -> Result<Recovered, DriverError> {
        let label = format!("recover {}", handle.key);
        self.call(label, self.inner.recover(handle)).await
    }

    fn events(&self, owner: &Owner) -> BoxStream<'static, JobEvent> {
        let steps = self.steps.clone();
        let told = move |event| {
            let steps = steps.clone();
            async move {
                let label = match &event {
                    JobEvent::Changed { key, phase } => format!("event {key} {phase:?}"),
                    JobEvent::Happened(happening) => {
                        format!("happening {} {}", happening.key, happening.name)
                    }
                    JobEvent::Snapshot(_) => "snapshot".to_owned(),
                    JobEvent::WatchLost { .. } => "watch lost".to_owned(),
                };
                steps.take(label).await;
                event
            }
        };
        self.inner.events(owner).then(told).boxed()
    }

    fn logs(&self, handle: &Handle, from: LogCursor) -> LogStream {
        let steps = self.steps.clone();
        let read = move |line| {
            let steps = steps.clone();
            async move {
                steps.live().await;
                line
            }
        };
        self.inner.logs(handle, from).then(read).boxed()
    }

    async fn stop(&self, handle: &Handle, request: StopRequest) -> Result<(), DriverError> {
        let label = format!("stop {}", handle.key);
        self.call(label, self.inner.stop(handle, request)).await
    }

    async fn destroy(&self, key: RunKey) -> Result<(), DriverError> {
        if let Some(jam) = &self.jam {
            jam.pass(key).await;
        }
        self.call(format!("destroy {key}"), self.inner.destroy(key))
            .await
    }

    async fn list_owned(&self, owner: &Owner) -> Result<Vec<Owned>, DriverError> {
        self.call("list_owned".to_owned(), self.inner.list_owned(owner))
            .await
    }

    async fn examine(&self, examination: Examination<'_>) -> Vec<Finding> {
        self.inner.examine(examination).await
    }
}
