//! The world of a simulation: server, engine, flow runs and people, and one worker after the other in it.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, atomic::AtomicBool},
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use worker_api::{Client, ClientOptions, types::StateType};
use worker_config::settings::{self, Settings, Sources};
use worker_drivers::{Driver, fake::FakeEngine};
use worker_server::{Server, ServerOptions};

use super::{
    clock,
    fate::{Fate, Subject},
    mortal::{Jam, MortalDriver},
    people::People,
    steps::Steps,
    truth,
    wire::{FarEnd, Letter, Wire},
};
use crate::{
    event::Stage,
    heartbeat::{self, PoolWish},
    journal::{Entry, Journal},
    parts::Setup,
    state_dir::StateDir,
    task::{self, Task},
    worker::{self, Farewell},
};

/// The pool of every simulation.
pub(super) const POOL: &str = "simulated";

/// How long everything may take, on the clock of the simulation.
const LIMIT: Duration = Duration::from_mins(4);

/// What outlives workers, and the flow runs that are due in it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) engine: FakeEngine,
    pub(super) client: Client,
    /// Whether the API cannot be reached by workers.
    pub(super) api_away: Arc<AtomicBool>,
    /// What holds up removals.
    pub(super) jam: Option<Arc<Jam>>,
    server: Server,
    subjects: Arc<Vec<Subject>>,
    people: People,
    home: TempDir,
    workers: u32,
    /// That of the last worker.
    journal: PathBuf,
    letters: Vec<Task<()>>,
    letter: Option<(Letter, Duration)>,
    _living: Task<()>,
    _clock: Task<()>,
}

/// What interrupts a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// Nothing.
    None,
    /// Its death at this step.
    Death(u32),
    /// The same, and the next one begins this much later.
    DeathAndRest(u32, Duration),
    /// As a death, but if the step is a claim, it still arrives, this long after the next worker has begun.
    DeathWithLetter(u32, Duration),
    /// Once it has taken so many steps it is told to leave its jobs to the next.
    LettingGo(u32),
}

/// How a worker of the simulation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fin {
    /// It died, before or after this.
    Died(String),
    /// It was told to go before everything was over, and went.
    Gone,
    /// Every flow run was over, it was told to drain, and it ended.
    Drained {
        /// How many steps it took.
        steps: u32,
    },
}

// === impl World ===

impl World {
    /// A world with one flow run of each fate, all of them due, and an engine that begins at once what it is given.
    pub(super) async fn new(fates: impl IntoIterator<Item = &'static Fate>) -> Self {
        Self::with(FakeEngine::new(), fates).await
    }

    /// The same with this engine.
    pub(super) async fn with(
        engine: FakeEngine,
        fates: impl IntoIterator<Item = &'static Fate>,
    ) -> Self {
        let clock = clock::run_fast();
        let server = Server::start(ServerOptions::default())
            .await
            .expect("a server");
        let client = client(&ClientOptions::new(server.url()));
        heartbeat::ready(&client, &wish(&engine.driver()))
            .await
            .expect("a pool");
        let mut subjects = Vec::new();
        for fate in fates {
            subjects.push(Subject::new(fate, &client).await);
        }
        let subjects = Arc::new(subjects);
        let people = People::new(client.clone(), engine.clone(), Arc::clone(&subjects));
        Self {
            engine,
            client,
            api_away: Arc::default(),
            jam: None,
            server,
            subjects,
            home: tempfile::tempdir().expect("a temporary directory"),
            workers: 0,
            journal: PathBuf::new(),
            letters: Vec::new(),
            letter: None,
            _living: task::spawn("people", people.clone().live()),
            people,
            _clock: clock,
        }
    }

    /// Runs a worker that continues what the last one left, until it is interrupted or everything is over.
    ///
    /// # Errors
    /// What the world was like when it was not over in time.
    pub(super) async fn work(&mut self, interruption: Interruption) -> Result<Fin, String> {
        let steps = Steps::until(interruption.fatal());
        let far_end = FarEnd {
            server: self.server.address(),
            away: Arc::clone(&self.api_away),
        };
        let wire = Wire::to(far_end, steps.clone()).await;
        let state_dir = self.state_dir();
        self.journal = state_dir.journal();
        let setup = self.setup(state_dir, &wire, &steps);
        let (stages_tx, stages_rx) = mpsc::channel(4);
        if let Some((letter, delay)) = self.letter.take() {
            let delivering = async move {
                tokio::time::sleep(delay).await;
                letter.deliver().await;
            };
            self.letters.push(task::spawn("letter", delivering));
        }
        let living = Box::pin(worker::run(setup, stages_rx));
        let fin = tokio::select! {
            biased;
            () = steps.death() => Fin::Died(steps.last()),
            farewell = living => match farewell.expect("a worker has no reason to fail") {
                Farewell::Done if self.is_quiet().await => Fin::Drained { steps: steps.taken() },
                Farewell::Done | Farewell::Left(_) => Fin::Gone,
            },
            never = self.tell(interruption, &steps, stages_tx) => match never {},
            () = tokio::time::sleep(LIMIT) => {
                let (last, now) = (steps.last(), truth::describe(&self.client, &self.engine).await);
                return Err(format!("not over after {LIMIT:?}, last step {last}: {now}"));
            }
        };
        if matches!(fin, Fin::Drained { .. }) {
            return Ok(fin);
        }
        // The journal's thread may still write what it was told before. Whether that gets into the copy is a matter of luck, as it is for
        // a process.
        self.bequeath();
        match interruption {
            Interruption::DeathWithLetter(_, delay) => {
                self.letter = wire.lost().map(|letter| (letter, delay));
            }
            Interruption::DeathAndRest(_, rest) => tokio::time::sleep(rest).await,
            Interruption::None | Interruption::Death(_) | Interruption::LettingGo(_) => {}
        }
        Ok(fin)
    }

    /// Whether the request at which the last worker died will still arrive.
    pub(super) fn expects_letter(&self) -> bool {
        self.letter.is_some()
    }

    /// What is wrong with the world once the last worker has drained.
    pub(super) async fn findings(&self) -> Vec<String> {
        let mut findings = self.people.alarms();
        findings.extend(self.engine.violations());
        for subject in self.subjects.iter() {
            findings.extend(truth::findings(subject, &self.client, &self.engine).await);
        }
        let left = self.engine.jobs();
        if !left.is_empty() {
            findings.push(format!("left in the engine: {left:?}"));
        }
        let left = self.left_in_journal().await;
        if !left.is_empty() {
            findings.push(format!("left in the journal: {left:?}"));
        }
        findings
    }

    /// What the last worker's journal holds, once it has been written.
    async fn left_in_journal(&self) -> Vec<Entry> {
        let path = self.journal.clone();
        let mut tries = 0;
        loop {
            let (_journal, entries) = Journal::open(&path).expect("the journal");
            if entries.is_empty() || tries == 50 {
                return entries;
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Tells the worker what its interruption says, and to drain when all is over.
    async fn tell(
        &self,
        interruption: Interruption,
        steps: &Steps,
        stages_tx: mpsc::Sender<Stage>,
    ) -> std::convert::Infallible {
        let told = async {
            if let Interruption::LettingGo(after) = interruption {
                steps.taken_more_than(after).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let over = async {
            // It has seen what it was left.
            steps.taken_more_than(0).await;
            self.quiet().await;
        };
        let stage = tokio::select! {
            () = over => Stage::Draining,
            () = told => Stage::LettingGo,
        };
        // A worker that has ended already needs not be told.
        stages_tx.send(stage).await.ok();
        std::future::pending().await
    }

    async fn quiet(&self) {
        while !self.is_quiet().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether every flow run is over, nothing of them is left, and nothing is on its way.
    async fn is_quiet(&self) -> bool {
        self.engine.jobs().is_empty()
            && self.letters.iter().all(Task::is_finished)
            && truth::flow_runs(&self.client)
                .await
                .iter()
                .all(|one| one.state_type.as_ref().is_some_and(StateType::is_final))
    }

    /// Lets the next worker begin with an empty journal.
    pub(super) fn lose_journal(&mut self) {
        self.workers += 1;
    }

    /// The directory of the worker that is to come.
    fn state_dir(&self) -> StateDir {
        let root = self.home.path().join(self.workers.to_string());
        StateDir::take(&root, POOL, Some("simulated")).expect("nobody else has it")
    }

    /// Copies the journal as it is on disk to where the next worker looks for it.
    pub(super) fn bequeath(&mut self) {
        // At once: what is left of the last worker closes it in a moment, and the copy would miss what moves between its files then.
        let journal = self.journal.clone();
        self.workers += 1;
        let heir = self.state_dir().journal();
        for suffix in ["", "-wal"] {
            let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            match std::fs::copy(with(&journal), with(&heir)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    panic!("the journal cannot be copied: {error}")
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn setup(&self, state_dir: StateDir, wire: &Wire, steps: &Steps) -> Setup {
        let driver = MortalDriver {
            inner: self.engine.driver(),
            steps: steps.clone(),
            jam: self.jam.clone(),
        };
        let mut settings = SETTINGS.clone();
        if self.jam.is_some() {
            // What is not removed at first is looked for again within the limit.
            settings.worker.janitor_interval = Duration::from_secs(10);
        }
        Setup {
            settings_rx: watch::channel(Arc::new(settings.clone())).1,
            settings,
            client: client(&ClientOptions::new(wire.url.clone()).named(&state_dir.worker)),
            wish: wish(&driver),
            driver: Arc::new(driver),
            state_dir: Arc::new(state_dir),
            echo: false,
            seat: None,
        }
    }
}

// === impl Interruption ===

impl Interruption {
    fn fatal(self) -> Option<u32> {
        match self {
            Self::Death(point) | Self::DeathAndRest(point, _) | Self::DeathWithLetter(point, _) => {
                Some(point)
            }
            Self::None | Self::LettingGo(_) => None,
        }
    }
}

/// The settings of every worker: the defaults, with intervals for a world where everything is near, and fewer slots than flow runs.
static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let mut settings = settings::load(&Sources::default()).expect("the defaults are right");
    settings.worker.limit = NonZeroU32::new(4);
    settings.worker.query_interval = Duration::from_millis(300);
    settings.worker.cancellation_interval = Duration::from_millis(300);
    settings.worker.stop_grace = Duration::from_secs(3);
    settings.logging.batch_interval = Duration::from_millis(200);
    settings.status.enabled = false;
    settings
});

fn wish(driver: &dyn Driver) -> PoolWish {
    PoolWish {
        pool: POOL.to_owned(),
        kind: driver.kind(),
        template: driver.default_template(),
        create: true,
        sync_template: false,
    }
}

fn client(options: &ClientOptions) -> Client {
    Client::new(ClientOptions {
        // On the fast clock a minute is seconds.
        request_timeout: Duration::from_mins(5),
        // There is no TLS, so there is no reason to read the system's certificates each time.
        tls_insecure_skip_verify: true,
        ..options.clone()
    })
    .expect("a client")
}
