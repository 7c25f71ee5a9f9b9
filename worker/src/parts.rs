//! The parts of a worker: made, wired to each other, and seen to be alive.

use std::{sync::Arc, time::Duration};

use prometheus::IntCounter;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use worker_api::{Client, ClientOptions, Collector, types::FlowRunId};
use worker_config::settings::Settings;
use worker_drivers::{Driver, Owner};

use crate::{
    board::Board,
    cancellation::Lookout,
    channel,
    disk::Disks,
    dispatcher::{Dispatcher, Limits},
    emitter::{self, Emitter},
    event::{Command, Event, Gate},
    fresh::Fresh,
    heartbeat::{Heart, PoolError, PoolWish},
    journal::{Entry, Journal, JournalError},
    metrics::Metrics,
    pause::Pause,
    poller::{Poller, Question},
    pull::Puller,
    recovery::Janitor,
    run_log::{self, RunLog, Shipping},
    seat::{Place, Seat},
    services::{Identity, Services},
    state_dir::StateDir,
    status::{self, Status, Vitals},
    task::{self, Task},
    telemetry::chain,
    traces::{self, Traces},
    wakeup::{self, Sleepers},
};

/// How many events may wait for the loop. It handles one in microseconds; who sends more waits.
const EVENTS: usize = 256;

/// How long a flow is believed to be as it was read. Its name never changes, and nothing depends on its tags but events.
const FLOW_HOLDS: Duration = Duration::from_mins(5);

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    /// How it is set up.
    pub(crate) settings: Settings,
    /// The same as it changes from then on.
    pub(crate) settings_rx: watch::Receiver<Arc<Settings>>,
    /// The API.
    pub(crate) client: Client,
    /// The engine.
    pub(crate) driver: Arc<dyn Driver>,
    /// Its directory, with its name.
    pub(crate) state_dir: Arc<StateDir>,
    /// The pool it wants.
    pub(crate) wish: PoolWish,
    /// Whether the output of jobs may be written to the worker's own.
    pub(crate) echo: bool,
    /// Where it is to be seen.
    pub(crate) seat: Option<Arc<Seat>>,
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The pool is not one this worker can serve.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// What pulls code cannot be made.
    #[error(transparent)]
    Pull(#[from] worker_pull::git::BuildError),
    /// A thread could not be started.
    #[error("watchdog thread")]
    Watchdog(#[source] std::io::Error),
    /// The journal cannot be written any more. What it holds is taken up by the next start.
    #[error("the journal cannot be written any more; the log says why")]
    JournalGone,
    /// A part that must not end has ended.
    #[error("the {0} task has ended, which is a defect of this worker")]
    TaskEnded(&'static str),
}

/// A worker that only has to be turned.
pub(crate) struct Assembled {
    /// The tasks beside the loop.
    pub(crate) parts: Parts,
    /// What lives share.
    pub(crate) services: Arc<Services>,
    /// What decides.
    pub(crate) dispatcher: Dispatcher,
    /// What ties loop and parts.
    pub(crate) wires: Wires,
    /// What an earlier process left.
    pub(crate) left: Vec<Entry>,
}

/// The loop's ends of the channels to its parts.
pub(crate) struct Wires {
    /// What parts and lives say.
    pub(crate) events_rx: mpsc::Receiver<Event>,
    /// How lives say it.
    pub(crate) events_tx: mpsc::Sender<Event>,
    /// What the poller may ask for.
    pub(crate) gate_tx: watch::Sender<Gate>,
    /// Which flow runs to ask about.
    pub(crate) ours_tx: mpsc::Sender<Vec<FlowRunId>>,
    /// What probes read.
    pub(crate) vitals: Arc<Vitals>,
}

/// A task that must not end before its owner drops it, with its name.
type Part = (&'static str, Task<()>);

/// The tasks beside the loop. They end with it.
pub(crate) struct Parts {
    must_live: Vec<Part>,
    /// Ends only when the pool cannot be served.
    beating: Task<PoolError>,
    /// Sends traces. Whatever becomes of it is no reason to end.
    _tracing: Option<Task<()>>,
}

/// Opens the journal, and starts everything but the loop. Nothing here waits for the API: probes must find somebody at home.
pub(crate) async fn assemble(setup: Setup) -> Result<Assembled, WorkerError> {
    let (journal, left) = Journal::open(&setup.state_dir.journal())?;
    let metrics = Arc::new(Metrics::new(&setup.wish.pool, setup.wish.kind.as_str()));
    let (traces, tracing) = open_traces(&setup, metrics.spans_lost.clone());
    let (voices, mut must_live) = voices(&setup, metrics, traces);
    let puller = Puller::new(&setup.settings)?;
    let services = Arc::new(services(&setup, journal, voices, puller));
    let mut dispatcher = Dispatcher::new(limits(&setup.settings));
    services.metrics.set_up(
        limits(&setup.settings).slots,
        setup.settings.worker.query_interval,
    );
    let (events_tx, events_rx) = mpsc::channel(EVENTS);
    let (disks, pause) = look_around(&setup, &services, &mut dispatcher).await;
    let watching = disks.watch(Arc::clone(&services.metrics), events_tx.clone());
    must_live.push(("disks", task::spawn("disks", watching)));
    let (gate_tx, gate_rx) = watch::channel(dispatcher.gate());
    let (ours_tx, ours_rx) = mpsc::channel(1);
    let vitals = Arc::new(Vitals::new());
    status::watch_over(&vitals).map_err(WorkerError::Watchdog)?;
    let status = Status {
        services: Arc::clone(&services),
        vitals: Arc::clone(&vitals),
    };
    if let Some(seat) = &setup.seat {
        seat.show(Place::Working(status.clone()));
    }
    let beginning = Beginning {
        setup: &setup,
        services: &services,
        events_tx: &events_tx,
    };
    let (soon_tx, soon_rx) = mpsc::channel(EVENTS);
    let sleepers = Sleepers {
        poller: Arc::new(Notify::new()),
        cancellation: soon_tx,
        work_queues: setup.settings.worker.work_queues.clone(),
    };
    let pausing = pause.watch(
        Arc::clone(&services.metrics),
        Arc::clone(&sleepers.poller),
        events_tx.clone(),
    );
    must_live.push(("pause", task::spawn("pause", pausing)));
    must_live.push(beginning.poller(&sleepers, gate_rx, status));
    must_live.push(beginning.lookout(ours_rx, soon_rx));
    let beating = beginning.heart(Arc::clone(&sleepers.poller));
    must_live.extend(beginning.sockets(sleepers));
    must_live.push(beginning.janitor());
    Ok(Assembled {
        parts: Parts {
            must_live,
            beating,
            _tracing: tracing,
        },
        services,
        dispatcher,
        wires: Wires {
            events_rx,
            events_tx,
            gate_tx,
            ours_tx,
            vitals,
        },
        left,
    })
}

/// What the tasks beside the loop are begun with.
struct Beginning<'a> {
    setup: &'a Setup,
    services: &'a Arc<Services>,
    events_tx: &'a mpsc::Sender<Event>,
}

// === impl Beginning ===

impl Beginning<'_> {
    fn poller(
        &self,
        sleepers: &Sleepers,
        gate_rx: watch::Receiver<Gate>,
        Status { services, vitals }: Status,
    ) -> Part {
        let worker = &self.setup.settings.worker;
        let poller = Poller {
            client: self.setup.client.clone(),
            question: Question {
                pool: self.setup.wish.pool.clone(),
                work_queues: worker.work_queues.clone(),
                prefetch: worker.prefetch,
                interval: worker.query_interval,
            },
            settings_rx: services.settings.clone(),
            gate_rx,
            soon: Arc::clone(&sleepers.poller),
            events_tx: self.events_tx.clone(),
            vitals,
            metrics: Arc::clone(&services.metrics),
        };
        ("poller", task::spawn("poller", poller.poll()))
    }

    fn lookout(
        &self,
        ours_rx: mpsc::Receiver<Vec<FlowRunId>>,
        soon_rx: mpsc::Receiver<FlowRunId>,
    ) -> Part {
        let lookout = Lookout {
            client: self.setup.client.clone(),
            settings_rx: self.services.settings.clone(),
            ours_rx,
            soon_rx,
            events_tx: self.events_tx.clone(),
        };
        ("cancellation", task::spawn("cancellation", lookout.keep()))
    }

    fn janitor(&self) -> Part {
        let worker = &self.setup.settings.worker;
        let janitor = Janitor {
            services: Arc::clone(self.services),
            events_tx: self.events_tx.clone(),
            interval: worker.janitor_interval,
            dry_run: worker.janitor_dry_run,
        };
        ("janitor", task::spawn("janitor", janitor.keep_house()))
    }

    /// What listens on sockets, where they are not turned off.
    fn sockets(&self, sleepers: Sleepers) -> Vec<Part> {
        if !self.setup.settings.api.websockets {
            return Vec::new();
        }
        let client = &self.setup.client;
        let services = self.services;
        let hello = channel::hello(
            &self.setup.settings.worker,
            &services.identity.worker,
            &self.setup.wish,
        );
        let looking = sleepers.cancellation.clone();
        let channel = channel::keep(client.clone(), Arc::clone(services), hello, looking);
        let pool_rx = services.pool_id.subscribe();
        let listening = wakeup::listen(client.clone(), pool_rx, sleepers);
        vec![
            ("channel", task::spawn("channel", channel)),
            ("wakeup", task::spawn("wakeup", listening)),
        ]
    }

    fn heart(&self, soon: Arc<Notify>) -> Task<PoolError> {
        let heart = Heart {
            client: self.setup.client.clone(),
            services: Arc::clone(self.services),
            interval: self.setup.settings.worker.heartbeat_interval,
            wish: self.setup.wish.clone(),
            events_tx: self.events_tx.clone(),
            soon,
            websockets: self.setup.settings.api.websockets,
        };
        task::spawn("heartbeat", heart.beat())
    }
}

/// How a worker speaks of its flow runs.
struct Voices {
    run_log: RunLog,
    emitter: Emitter,
    metrics: Arc<Metrics>,
    traces: Traces,
}

fn voices(setup: &Setup, metrics: Arc<Metrics>, traces: Traces) -> (Voices, Vec<Part>) {
    let (run_log, mut parts) = open_run_log(&setup.settings, &setup.client);
    let (emitter, items_rx) = Emitter::new(speaker(setup));
    let websockets = setup.settings.api.websockets;
    let ship = emitter::ship(setup.client.clone(), websockets, items_rx);
    parts.push(("events", task::spawn("events", ship)));
    let voices = Voices {
        run_log,
        emitter,
        metrics,
        traces,
    };
    (voices, parts)
}

fn speaker(setup: &Setup) -> emitter::Worker {
    emitter::Worker {
        name: setup.state_dir.worker.clone(),
        kind: setup.wish.kind.as_str().to_owned(),
        pool: setup.wish.pool.clone(),
    }
}

fn services(
    setup: &Setup,
    journal: Journal,
    Voices {
        run_log,
        emitter,
        metrics,
        traces,
    }: Voices,
    puller: Puller,
) -> Services {
    let Setup {
        settings,
        settings_rx,
        client,
        driver,
        state_dir,
        wish,
        echo,
        seat: _,
    } = setup;
    Services {
        client: client.clone(),
        driver: Arc::clone(driver),
        journal,
        run_log,
        emitter,
        pool_id: watch::Sender::new(None),
        channel_pool: watch::Sender::new(None),
        metrics,
        board: Arc::new(Board::new(traces)),
        identity: Identity {
            owner: Owner(format!("{}/{}", wish.pool, state_dir.worker)),
            worker: state_dir.worker.clone(),
            pool: wish.pool.clone(),
        },
        settings: settings_rx.clone(),
        job_environment: settings.job_environment.clone(),
        puller,
        state_dir: Arc::clone(state_dir),
        echo: *echo,
        deployments: Fresh::new(),
        flows: Fresh::holding(FLOW_HOLDS),
        pools: Fresh::new(),
    }
}

/// Begins to record traces, where somebody wants them. A collector that cannot be is told, and costs no flow run anything.
fn open_traces(setup: &Setup, lost: IntCounter) -> (Traces, Option<Task<()>>) {
    let settings = &setup.settings.traces;
    let about = speaker(setup);
    let worker = vec![
        ("prefect.worker.name", about.name),
        ("prefect.worker.type", about.kind),
        ("prefect.work-pool.name", about.pool),
    ];
    let (traces, items_rx) = Traces::new(settings, worker, lost.clone());
    let (Some(url), Some(items_rx)) = (settings.endpoint.clone(), items_rx) else {
        return (Traces::default(), None);
    };
    let options = ClientOptions::from_settings(&setup.settings.api, url.clone());
    match Collector::new(&options, url, &settings.headers, settings.timeout) {
        Ok(collector) => {
            let ship = traces::ship(collector, settings.clone(), lost, items_rx);
            (traces, Some(task::spawn("traces", ship)))
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "there are no traces");
            (Traces::default(), None)
        }
    }
}

/// Looks at what may forbid to claim anything, before anything can be claimed.
async fn look_around(
    setup: &Setup,
    services: &Services,
    dispatcher: &mut Dispatcher,
) -> (Disks, Pause) {
    let state = setup.settings.worker.state_dir.clone();
    let mut disks = Disks::new(state, setup.state_dir.workspaces());
    let spaces = disks.look().await;
    services.metrics.disks(&spaces);
    let pause = Pause::look_in(&setup.state_dir.path, &services.metrics).await;
    for event in [Event::Disks(spaces), Event::Paused(pause.reason())] {
        for command in dispatcher.handle(event, Instant::now()) {
            if let Command::Warn(what) = command {
                tracing::warn!("{what}");
            }
        }
    }
    (disks, pause)
}

/// What bounds the work.
pub(crate) fn limits(settings: &Settings) -> Limits {
    let worker = &settings.worker;
    Limits {
        slots: worker.limit.map(|limit| limit.get() as usize),
        starting: worker.start_concurrency.get() as usize,
        drain: worker.drain_timeout,
        run_once: worker.run_once,
        stop_grace: worker.stop_grace,
        disk_floor: settings.pull.disk_floor,
    }
}

fn open_run_log(settings: &Settings, client: &Client) -> (RunLog, Vec<Part>) {
    if !settings.logging.to_api {
        return (RunLog::off(), Vec::new());
    }
    let shipping = Shipping {
        interval: settings.logging.batch_interval,
        batch_size: settings.logging.batch_size,
        max_line: settings.logging.max_log_size,
    };
    let (run_log, items_rx) = RunLog::new();
    let ship = run_log::ship(client.clone(), shipping, items_rx);
    (run_log, vec![("run log", task::spawn("run log", ship))])
}

// === impl Parts ===

impl Parts {
    /// Sees to it that no part has ended unnoticed: a worker without its poller would look alive and do nothing.
    pub(crate) fn check(&self) -> Result<(), WorkerError> {
        match self.must_live.iter().find(|(_, task)| task.is_finished()) {
            Some((name, _)) => Err(WorkerError::TaskEnded(name)),
            None => Ok(()),
        }
    }

    /// Waits until it is known that the pool cannot be served. Dropping the future loses nothing.
    pub(crate) async fn hopeless(&mut self) -> WorkerError {
        match self.beating.ended().await {
            Ok(error) => error.into(),
            Err(_panicked) => WorkerError::TaskEnded("heartbeat"),
        }
    }
}
