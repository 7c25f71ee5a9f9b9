//! One worker: the loop that joins its parts, and its end.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::Instrument;

use worker_api::types::FlowRunId;
use worker_config::settings::Settings;
use worker_drivers::{Health, JobEvent};

use crate::{
    dispatcher::Dispatcher,
    event::{Command, Event, Gate, Stage},
    line::{self, Reins},
    parts::{self, Assembled, Parts, Setup, Wires, WorkerError},
    run::{self, Ending},
    services::Services,
    task::{Ended, Tasks},
    telemetry::shown,
};

/// How often the loop turns when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// How long the last lines of flow runs may take to be sent when the worker ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// How a worker ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Everything it held is over.
    Done,
    /// It left so many flow runs to the process that follows.
    Left(usize),
}

/// Runs a worker until a stage of shutdown or the end of its work ends it.
pub(crate) async fn run(
    setup: Setup,
    stages_rx: mpsc::Receiver<Stage>,
) -> Result<Farewell, WorkerError> {
    let Assembled {
        parts,
        services,
        dispatcher,
        wires,
        left,
    } = Box::pin(parts::assemble(setup)).await?;
    let mut turning = Loop {
        job_events: services.driver.events(&services.identity.owner),
        health_rx: services.driver.health(),
        settings_rx: services.settings.clone(),
        services: Arc::clone(&services),
        dispatcher,
        lives: Tasks::new(),
        reins: HashMap::new(),
        wires,
        parts,
        left: 0,
    };
    let health = turning.examined();
    turning.take(health);
    turning.take(Event::Recovered(left));
    let farewell = turning.turn(stages_rx).await;
    // Heartbeats go on until the last lines are sent; then everything ends with the loop.
    tokio::join!(
        services.run_log.flush_all(FAREWELL_LIMIT),
        services.emitter.stopped(FAREWELL_LIMIT),
        services.board.traces.flushed(FAREWELL_LIMIT),
    );
    // What was removed from the journal must not be found again. A journal that is gone was told already.
    services.journal.settled().await.ok();
    farewell
}

/// The loop and everything it holds.
struct Loop {
    dispatcher: Dispatcher,
    services: Arc<Services>,
    lives: Tasks<FlowRunId, Ending>,
    reins: HashMap<FlowRunId, Reins>,
    job_events: BoxStream<'static, JobEvent>,
    health_rx: watch::Receiver<Health>,
    settings_rx: watch::Receiver<Arc<Settings>>,
    wires: Wires,
    parts: Parts,
    /// Flow runs whose lives ended before they were reported.
    left: usize,
}

// === impl Loop ===

impl Loop {
    /// Turns until the work or the worker's time is over.
    async fn turn(
        &mut self,
        mut stages_rx: mpsc::Receiver<Stage>,
    ) -> Result<Farewell, WorkerError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.dispatcher.is_done() {
            // Every branch is cancel-safe: what is not taken now is still there at the next turn.
            let event = tokio::select! {
                Some(stage) = stages_rx.recv() => Event::Shutdown(stage),
                ended = self.lives.ended() => self.buried(ended),
                Some(event) = self.wires.events_rx.recv() => event,
                Some(event) = self.job_events.next() => {
                    if matches!(event, JobEvent::WatchLost { .. }) {
                        self.services.metrics.watch_lost();
                    }
                    Event::Job(event)
                }
                Ok(()) = self.health_rx.changed() => self.examined(),
                Ok(()) = self.settings_rx.changed() => self.limited(),
                error = self.parts.hopeless() => return Err(error),
                _ = tick.tick() => {
                    self.parts.check()?;
                    if self.services.journal.is_gone() {
                        return Err(WorkerError::JournalGone);
                    }
                    Event::Tick
                }
            };
            self.take(event);
        }
        if let Some(reason) = self.dispatcher.unpolled_because() {
            tracing::warn!(reason, "ending without a poll (--run-once)");
        }
        let left = self.reins.len() + self.left;
        Ok(if left == 0 {
            Farewell::Done
        } else {
            Farewell::Left(left)
        })
    }

    fn take(&mut self, event: Event) {
        for command in self.dispatcher.handle(event, Instant::now()) {
            self.carry_out(command);
        }
        let gate = self.dispatcher.gate();
        self.wires.vitals.turned(
            self.dispatcher.load(),
            gate.clone(),
            self.dispatcher.stage(),
        );
        let takes_work = matches!(gate, Gate::Open(_)) && !self.services.board.is_paused();
        self.services
            .metrics
            .load(self.dispatcher.load(), takes_work);
        self.wires.gate_tx.send_if_modified(|now| {
            let changed = *now != gate;
            *now = gate;
            changed
        });
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { scheduled, seen } => {
                let id = scheduled.flow_run.id;
                let span = span(id, &scheduled.flow_run.name);
                let (services, mut line) = self.put_in_reins(id);
                let future = async move { run::live(&services, &mut line, *scheduled, seen).await };
                self.lives.spawn(id, Box::pin(future.instrument(span)));
            }
            Command::Resume(entry) => {
                self.services.metrics.resumed();
                let id = FlowRunId(entry.key.flow_run);
                let span = span(id, &entry.name);
                let (services, mut line) = self.put_in_reins(id);
                let future = async move { run::resume(&services, &mut line, *entry).await };
                self.lives.spawn(id, Box::pin(future.instrument(span)));
            }
            Command::Observe(flow_run, observation) => {
                if let Some(reins) = self.reins.get(&flow_run) {
                    reins.observe(observation);
                }
            }
            Command::Order(flow_run, order) => {
                if let Some(reins) = self.reins.get(&flow_run) {
                    reins.order(order);
                }
            }
            Command::Tell(happening) => self.services.emitter.happened(*happening),
            Command::Warn(what) => tracing::warn!("{what}"),
            Command::LookForCancelled(ours) => {
                // The asker waits for exactly one answer to its question, so there is room for it.
                drop(self.wires.ours_tx.try_send(ours));
            }
        }
    }

    fn examined(&mut self) -> Event {
        let health = self.health_rx.borrow_and_update().clone();
        self.services.metrics.driver(&health);
        Event::Driver(health)
    }

    fn limited(&mut self) -> Event {
        let settings = Arc::clone(&self.settings_rx.borrow_and_update());
        let limits = parts::limits(&settings);
        self.services
            .metrics
            .set_up(limits.slots, settings.worker.query_interval);
        Event::Limits(limits)
    }

    fn put_in_reins(&mut self, id: FlowRunId) -> (Arc<Services>, line::Line) {
        let (reins, line) = line::line(self.wires.events_tx.clone());
        self.reins.insert(id, reins);
        (Arc::clone(&self.services), line)
    }

    fn buried(&mut self, ended: Ended<FlowRunId, Ending>) -> Event {
        let Ended { tag, result } = ended;
        self.reins.remove(&tag);
        self.services.board.forget(tag.0);
        match result {
            Ok(Ending::Reported | Ending::NotOurs) => {}
            Ok(Ending::LeftInJournal) => {
                self.left += 1;
                tracing::info!(flow_run = %tag, "left to the next start of this worker");
            }
            // The journal still holds it, so the next start goes on with it.
            Err(how) => {
                self.left += 1;
                tracing::error!(flow_run = %tag, how, "the task of a flow run has failed");
            }
        }
        Event::Ended(tag)
    }
}

/// What each line about a flow run carries. Its fields are named so that a line of JSON says whose id it is.
fn span(id: FlowRunId, name: &str) -> tracing::Span {
    tracing::info_span!("run", flow_run_id = %id, flow_run_name = %shown(name))
}
