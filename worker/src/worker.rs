//! One worker: the parts, the loop that joins them, and its end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::Instrument;

use worker_api::{
    Client,
    types::{FlowRunId, WorkPool},
};
use worker_config::settings::Settings;
use worker_drivers::{Driver, Health, JobEvent, Owner};

use crate::{
    cancellation,
    dispatcher::{Dispatcher, Limits},
    event::{Command, Event, Gate, Stage},
    fresh::Fresh,
    heartbeat::{self, PoolWish},
    journal::{Entry, Journal, JournalError},
    line::{self, Reins},
    metrics::Metrics,
    patience::Patience,
    poller::{self, Question},
    recovery,
    run::{self, Ending},
    run_log::{self, RunLog, Shipping},
    services::{Identity, Services},
    state_dir::StateDir,
    status::{self, Status, Vitals},
    task::{self, Ended, Task, Tasks},
    telemetry::chain,
};

/// How many events may wait for the loop. It handles one in microseconds; who sends more waits.
const EVENTS: usize = 256;

/// How often the loop turns when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// How long the last lines of flow runs may take to be sent when the worker ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    /// How it is set up.
    pub(crate) settings: Settings,
    /// The API.
    pub(crate) client: Client,
    /// The engine.
    pub(crate) driver: Arc<dyn Driver>,
    /// Its directory, with its name.
    pub(crate) state_dir: StateDir,
    /// The pool it wants.
    pub(crate) wish: PoolWish,
    /// Whether the output of jobs may be written to the worker's own.
    pub(crate) echo: bool,
}

/// How a worker ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Everything it held is over.
    Done,
    /// It left so many flow runs to the process that follows.
    Left(usize),
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The pool is not one this worker can serve.
    #[error(transparent)]
    Pool(#[from] heartbeat::PoolError),
    /// The status server's port cannot be had.
    #[error("status server on {address}")]
    Status {
        /// Where it should listen.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("watchdog thread")]
    Watchdog(#[source] std::io::Error),
    /// A part that must not end has ended.
    #[error("the {0} task has ended, which is a defect of this worker")]
    TaskEnded(&'static str),
}

/// Runs a worker until a stage of shutdown or the end of its work ends it.
pub(crate) async fn run(
    setup: Setup,
    mut stages_rx: mpsc::Receiver<Stage>,
) -> Result<Farewell, WorkerError> {
    let (mut turning, left) = tokio::select! {
        begun = begin(setup) => begun?,
        // Told to end before the API ever answered: nothing was claimed.
        Some(_stage) = stages_rx.recv() => return Ok(Farewell::Done),
    };
    turning.take(Event::Recovered(left));
    let farewell = turning.turn(stages_rx).await;
    turning.services.run_log.flush_all(FAREWELL_LIMIT).await;
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
    gate_tx: watch::Sender<Gate>,
    ours_tx: mpsc::Sender<Vec<FlowRunId>>,
    events_tx: mpsc::Sender<Event>,
    events_rx: mpsc::Receiver<Event>,
    vitals: Arc<Vitals>,
    parts: Parts,
}

/// The tasks beside the loop. They end with it.
struct Parts {
    must_live: Vec<(&'static str, Task<()>)>,
    _may_end: Task<()>,
}

async fn begin(setup: Setup) -> Result<(Loop, Vec<Entry>), WorkerError> {
    let Setup {
        settings,
        client,
        driver,
        state_dir,
        wish,
        echo,
    } = setup;
    let (journal, left) = Journal::open(&state_dir.journal())?;
    recovery::sweep_workspaces(&state_dir.workspaces(), &left).await;
    let pool = first_contact(&client, &wish).await?;
    let metrics = Arc::new(Metrics::new(&wish.pool, wish.kind.as_str()));
    let vitals = Arc::new(Vitals::new());
    let slots = settings.worker.limit.map(|limit| limit.get() as usize);
    metrics.slots_limit(slots);
    let (run_log, ship) = open_run_log(&settings, &client);
    let services = Arc::new(Services {
        client: client.clone(),
        journal,
        run_log,
        metrics: Arc::clone(&metrics),
        identity: Identity {
            owner: Owner(format!("{}/{}", wish.pool, state_dir.worker)),
            worker: state_dir.worker.clone(),
            pool_id: pool.id.to_string(),
            pool: wish.pool.clone(),
        },
        policy: settings.policy.clone(),
        job_environment: settings.job_environment.clone(),
        workspaces: state_dir.workspaces(),
        stop_grace: settings.worker.stop_grace,
        echo,
        deployments: Fresh::new(),
        flows: Fresh::new(),
        pools: Fresh::new(),
        driver,
    });
    let dispatcher = Dispatcher::new(Limits {
        slots,
        starting: settings.worker.start_concurrency.get() as usize,
        drain: settings.worker.drain_timeout,
        run_once: settings.worker.run_once,
        stop_grace: settings.worker.stop_grace,
    });
    let (events_tx, events_rx) = mpsc::channel(EVENTS);
    let (gate_tx, gate_rx) = watch::channel(dispatcher.gate());
    let (ours_tx, ours_rx) = mpsc::channel(1);
    let status = Status {
        vitals: Arc::clone(&vitals),
        metrics: Arc::clone(&metrics),
    };
    let status = serve_status(&settings, status).await?;
    status::watch_over(&vitals).map_err(WorkerError::Watchdog)?;
    let known = left.iter().map(|entry| entry.key).collect::<HashSet<_>>();
    let orphans = recovery::adopt_orphans(Arc::clone(&services), known, events_tx.clone());
    let question = Question {
        pool: wish.pool.clone(),
        work_queues: settings.worker.work_queues.clone(),
        prefetch: settings.worker.prefetch,
        interval: settings.worker.query_interval,
    };
    let numbers = (Arc::clone(&vitals), Arc::clone(&metrics));
    let poll = poller::poll(
        client.clone(),
        question,
        gate_rx,
        events_tx.clone(),
        numbers,
    );
    let rhythm = (state_dir.worker.clone(), settings.worker.heartbeat_interval);
    let beat = heartbeat::beat(client.clone(), rhythm, wish, events_tx.clone(), metrics);
    let every = settings.worker.cancellation_interval;
    let look = cancellation::look(client, every, ours_rx, events_tx.clone());
    let mut must_live = vec![
        ("poller", task::spawn("poller", poll)),
        ("heartbeat", task::spawn("heartbeat", beat)),
        ("cancellation", task::spawn("cancellation", look)),
    ];
    must_live.extend(status.map(|task| ("status", task)));
    must_live.extend(ship.map(|task| ("run log", task)));
    let parts = Parts {
        must_live,
        _may_end: task::spawn("orphans", orphans),
    };
    tracing::info!(pool = %pool.name, "Worker '{}' started!", state_dir.worker);
    let turning = Loop {
        job_events: services.driver.events(&services.identity.owner),
        health_rx: services.driver.health(),
        dispatcher,
        services,
        lives: Tasks::new(),
        reins: HashMap::new(),
        gate_tx,
        ours_tx,
        events_tx,
        events_rx,
        vitals,
        parts,
    };
    Ok((turning, left))
}

/// Asks for the pool until the API answers: an API that is down or refuses is no reason to end, a pool that cannot be served is.
async fn first_contact(client: &Client, wish: &PoolWish) -> Result<WorkPool, WorkerError> {
    let mut patience = Patience::new();
    loop {
        match heartbeat::ready(&client.with_retries(0), wish).await {
            Ok(pool) => return Ok(pool),
            Err(heartbeat::PoolError::Api(error)) => {
                tracing::error!(error = %chain(&error), "cannot reach the work pool yet; trying again");
            }
            // Its template can be mended while the worker waits, and until then nothing is claimed from it.
            Err(heartbeat::PoolError::Template { pool: _, source }) => {
                tracing::error!(error = %chain(&source), "the work pool cannot be used yet");
            }
            Err(error) => return Err(error.into()),
        }
        patience.wait().await;
    }
}

fn open_run_log(settings: &Settings, client: &Client) -> (RunLog, Option<Task<()>>) {
    if !settings.logging.to_api {
        return (RunLog::off(), None);
    }
    let shipping = Shipping {
        interval: settings.logging.batch_interval,
        batch_size: settings.logging.batch_size,
        max_line: settings.logging.max_log_size,
    };
    let (run_log, items_rx) = RunLog::new();
    let ship = run_log::ship(client.clone(), shipping, items_rx);
    (run_log, Some(task::spawn("run log", ship)))
}

async fn serve_status(
    settings: &Settings,
    status: Status,
) -> Result<Option<Task<()>>, WorkerError> {
    if !settings.status.enabled {
        return Ok(None);
    }
    let address = std::net::SocketAddr::new(settings.status.host, settings.status.port);
    let listener = status::listen(address)
        .await
        .map_err(|source| WorkerError::Status { address, source })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "serving /livez, /readyz, /health, /status and /metrics");
    Ok(Some(task::spawn("status", status::serve(listener, status))))
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
                Some(event) = self.events_rx.recv() => event,
                Some(event) = self.job_events.next() => Event::Job(event),
                Ok(()) = self.health_rx.changed() => {
                    Event::Driver(self.health_rx.borrow_and_update().clone())
                }
                _ = tick.tick() => {
                    self.parts.check()?;
                    Event::Tick
                }
            };
            self.take(event);
        }
        let left = self.reins.len();
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
        self.vitals.turned(
            self.dispatcher.load(),
            gate.clone(),
            self.dispatcher.stage(),
        );
        self.services.metrics.load(self.dispatcher.load());
        self.gate_tx.send_if_modified(|now| {
            let changed = *now != gate;
            *now = gate;
            changed
        });
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { scheduled, seen } => {
                let id = scheduled.flow_run.id;
                let span = tracing::info_span!("flow_run", %id, name = %scheduled.flow_run.name);
                let (services, mut line) = self.put_in_reins(id);
                let life = async move { run::live(&services, &mut line, *scheduled, seen).await };
                self.lives.spawn(id, Box::pin(life.instrument(span)));
            }
            Command::Resume(entry) => {
                let id = FlowRunId(entry.key.flow_run);
                let span = tracing::info_span!("flow_run", %id, name = %entry.name);
                let (services, mut line) = self.put_in_reins(id);
                let life = async move { run::resume(&services, &mut line, *entry).await };
                self.lives.spawn(id, Box::pin(life.instrument(span)));
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
            Command::LookForCancelled(ours) => {
                // The asker waits for exactly one answer to its question, so there is room for it.
                drop(self.ours_tx.try_send(ours));
            }
        }
    }

    fn put_in_reins(&mut self, id: FlowRunId) -> (Arc<Services>, line::Line) {
        let (reins, line) = line::line(self.events_tx.clone());
        self.reins.insert(id, reins);
        (Arc::clone(&self.services), line)
    }

    fn buried(&mut self, ended: Ended<FlowRunId, Ending>) -> Event {
        let Ended { tag, result } = ended;
        self.reins.remove(&tag);
        match result {
            Ok(Ending::Reported | Ending::NotOurs) => {}
            Ok(Ending::LeftInJournal) => {
                tracing::info!(flow_run = %tag, "left to the next start of this worker");
            }
            // The journal still holds it, so the next start goes on with it.
            Err(how) => tracing::error!(flow_run = %tag, how, "the task of a flow run has failed"),
        }
        Event::Ended(tag)
    }
}

// === impl Parts ===

impl Parts {
    /// Sees to it that no part has ended unnoticed: a worker without its poller would look alive and do nothing.
    fn check(&self) -> Result<(), WorkerError> {
        match self.must_live.iter().find(|(_, task)| task.is_finished()) {
            Some((name, _)) => Err(WorkerError::TaskEnded(name)),
            None => Ok(()),
        }
    }
}
