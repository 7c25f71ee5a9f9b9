//! The workers of one process, one for each work pool: begun, looked after, told what changes, ended together.
//!
//! One that cannot serve its pool does not stop the others, and is begun again after a while, unless each polls once only. Where none is left
//! that could, the process ends with the reason; one that is away for a reason that may pass by itself could.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    net::TcpListener,
    signal::unix::{self, SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{Instrument, Span};

use worker_config::settings::Settings;

use super::{
    context::{Api, Context, is_misconfigured},
    out::Out,
    start::{self, TakenDir},
};
use crate::{
    event::Stage,
    notify::{Report, Supervisor},
    parts::Setup,
    reload,
    seat::{Place, Seat},
    state_dir::{StateDir, StateDirError},
    status,
    task::{self, Ended, Task, Tasks},
    telemetry::{Loudness, chain, shown},
    worker::{self, Farewell},
};

/// How long until a worker that could not serve its pool is begun again: somebody has to change something before it can.
const AGAIN: Duration = Duration::from_secs(30);

/// How often a supervisor is told how the workers are.
const TICK: Duration = Duration::from_secs(1);

/// The workers of this process.
pub(crate) struct Crew {
    /// What settings are read from again.
    context: Context,
    loudness: Loudness,
    api: Arc<Api>,
    out: Out,
    members: Vec<Member>,
    working: Tasks<usize, anyhow::Result<Farewell>>,
    stage: Stage,
    /// Whether a person has begun this at a terminal.
    at_terminal: bool,
    supervisor: Option<Supervisor>,
    /// Why one has failed, while the others come to their ends.
    failed: Option<anyhow::Error>,
}

/// One worker, as its process sees it.
struct Member {
    seat: Arc<Seat>,
    /// Its settings, from before it begins.
    settings_tx: watch::Sender<Arc<Settings>>,
    /// How it is told to end. None: it has ended.
    stages_tx: Option<mpsc::Sender<Stage>>,
    /// Whether what it failed with last is for somebody to mend.
    misconfigured: bool,
}

/// What one worker is begun with.
struct Beginning {
    settings_rx: watch::Receiver<Arc<Settings>>,
    /// What taking its directory gave, where that was tried already.
    state_dir: Option<TakenDir>,
    seat: Arc<Seat>,
    /// Whether it is the only one, so that a person may be asked about its pool.
    alone: bool,
    wait: Duration,
}

// === impl Crew ===

impl Crew {
    /// Begins a worker for each pool. One whose directory could not be taken has failed, and is begun again as any other that has.
    pub(crate) fn begin(
        (context, loudness): (Context, Loudness),
        api: Api,
        out: Out,
        dirs: Vec<(String, TakenDir)>,
    ) -> Self {
        let members = dirs.iter().map(|(pool, _)| Member {
            seat: Arc::new(Seat::new(pool)),
            settings_tx: watch::Sender::new(Arc::new(context.settings.of_pool(pool))),
            stages_tx: None,
            misconfigured: false,
        });
        let mut crew = Self {
            members: members.collect(),
            working: Tasks::new(),
            stage: Stage::Working,
            at_terminal: std::io::stdin().is_terminal(),
            supervisor: Supervisor::find(|name| std::env::var_os(name)),
            api: Arc::new(api),
            context,
            loudness,
            out,
            failed: None,
        };
        for (index, (_, state_dir)) in dirs.into_iter().enumerate() {
            crew.start(index, Some(state_dir), Duration::ZERO);
        }
        crew
    }

    /// Serves the status of all of them, where it is wanted.
    pub(crate) fn serve_status(&self, listener: Option<TcpListener>) -> Option<Task<()>> {
        let seats = self.members.iter().map(|member| Arc::clone(&member.seat));
        let serving = status::serve(listener?, seats.collect());
        Some(task::spawn("status", serving))
    }

    /// Looks after the workers until all have ended.
    pub(crate) async fn work(
        mut self,
        mut stages_rx: mpsc::Receiver<Stage>,
    ) -> anyhow::Result<Arc<Api>> {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(TICK);
        while self.members.iter().any(|one| one.stages_tx.is_some()) {
            // Every branch is cancel-safe: what is not taken now is still there at the next turn.
            tokio::select! {
                Some(stage) = stages_rx.recv() => self.enter(stage),
                ended = self.working.ended() => self.buried(ended)?,
                () = hung_up(&mut hangups) => self.hung_up(),
                _ = tick.tick() => {
                    let report = self.report();
                    if let Some(supervisor) = &mut self.supervisor {
                        supervisor.tell(&report);
                    }
                }
            }
        }
        self.failed.map_or(Ok(self.api), Err)
    }

    fn start(&mut self, index: usize, state_dir: Option<TakenDir>, wait: Duration) {
        let alone = self.members.len() == 1;
        let member = &mut self.members[index];
        let (stages_tx, stages_rx) = start::stages();
        member.stages_tx = Some(stages_tx);
        let beginning = Beginning {
            settings_rx: member.settings_tx.subscribe(),
            state_dir,
            seat: Arc::clone(&member.seat),
            alone,
            wait,
        };
        let (api, out) = (Arc::clone(&self.api), self.out);
        // Lines of several have to be told apart.
        let span = if alone {
            Span::none()
        } else {
            tracing::error_span!("worker", pool = %shown(&beginning.seat.pool))
        };
        let work = async move { beginning.work(&api, out, stages_rx).await };
        self.working.spawn(index, Box::pin(work.instrument(span)));
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        for member in &self.members {
            if let Some(stages_tx) = &member.stages_tx {
                // There is room for all stages there are.
                stages_tx.try_send(stage).ok();
            }
        }
    }

    /// A worker has ended. The error is one to end with.
    fn buried(
        &mut self,
        Ended { tag: index, result }: Ended<usize, anyhow::Result<Farewell>>,
    ) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        member.stages_tx = None;
        let result = result.unwrap_or_else(|how| Err(anyhow::anyhow!("the worker {how}")));
        let Err(error) = result else {
            member.seat.show(Place::Over);
            return Ok(());
        };
        let reason = chain(error.as_ref());
        member.seat.show(Place::Away(reason.clone()));
        member.misconfigured = is_misconfigured(&error);
        if self.members.len() == 1 || self.members.iter().all(Member::is_hopeless) {
            return Err(error);
        }
        let pool = &self.members[index].seat.pool;
        if self.stage > Stage::Working || self.context.settings.worker.run_once {
            // The others come to their ends all the same.
            tracing::error!(%pool, error = reason, "a worker has failed");
            self.failed.get_or_insert(error);
            return Ok(());
        }
        tracing::error!(%pool, error = reason, again_in = ?AGAIN, "the work pool is not served; the others are");
        self.start(index, None, AGAIN);
        Ok(())
    }

    /// A SIGHUP says that settings have changed, or that the terminal has gone and its person with it.
    fn hung_up(&mut self) {
        if self.stage > Stage::Working {
            return;
        }
        if self.at_terminal && !std::io::stdin().is_terminal() {
            // Whoever listens for signals knows what follows.
            nix::sys::signal::raise(Signal::SIGTERM).ok();
        } else {
            self.reload();
        }
    }

    /// Reads the settings again, and hands out what may change.
    fn reload(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.reloading();
        }
        match self.context.again() {
            Ok(mut new) => {
                start::use_api(&mut new, &self.api);
                let reloaded = reload::take_over(&self.context.settings, &new);
                for notice in &new.notices {
                    tracing::warn!("{notice}");
                }
                reloaded.tell();
                self.hand_out(reloaded.settings);
            }
            Err(error) => {
                let error = chain(error.as_ref());
                tracing::error!(%error, "the settings cannot be read again and stay as they were");
            }
        }
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.reloaded();
        }
    }

    fn hand_out(&mut self, settings: Settings) {
        self.loudness.set(&settings.logging.level);
        for Member {
            seat, settings_tx, ..
        } in &self.members
        {
            settings_tx.send_replace(Arc::new(settings.of_pool(&seat.pool)));
        }
        self.context.settings = settings;
    }

    fn report(&self) -> Report {
        if let [only] = &self.members[..] {
            return only.seat.report();
        }
        let mut whole = Report {
            alive: true,
            ..Report::default()
        };
        let mut words = Vec::new();
        for Member { seat, .. } in &self.members {
            let Report {
                ready,
                ending,
                alive,
                status,
            } = seat.report();
            whole.ready |= ready;
            whole.ending |= ending && self.stage > Stage::Working;
            whole.alive &= alive;
            words.push(format!("{}: {status}", seat.pool));
        }
        whole.status = words.join(" | ");
        whole
    }
}

// === impl Member ===

impl Member {
    /// Whether nothing can come of it any more. What may pass by itself is tried again, even where nothing is served meanwhile.
    fn is_hopeless(&self) -> bool {
        match self.seat.place() {
            Place::Away(_) => self.misconfigured,
            place => matches!(place, Place::Over),
        }
    }
}

// === impl Beginning ===

impl Beginning {
    /// From nothing to the worker's end.
    async fn work(
        mut self,
        api: &Api,
        out: Out,
        mut stages_rx: mpsc::Receiver<Stage>,
    ) -> anyhow::Result<Farewell> {
        let setup = tokio::select! {
            setup = self.prepare(api, out) => setup?,
            // Nothing has begun that could be ended with care.
            _ = stages_rx.recv() => {
                tracing::info!("stopped before the work pool was reached");
                return Ok(Farewell::Done);
            }
        };
        let name = setup.state_dir.worker.clone();
        let farewell = Box::pin(worker::run(setup, stages_rx)).await?;
        match farewell {
            Farewell::Done => tracing::info!("Worker '{name}' stopped!"),
            Farewell::Left(count) => {
                tracing::info!(
                    "Worker '{name}' stopped! Flow runs left to its next start: {count}."
                );
            }
        }
        Ok(farewell)
    }

    async fn prepare(&mut self, api: &Api, out: Out) -> anyhow::Result<Setup> {
        tokio::time::sleep(self.wait).await;
        let settings = Arc::clone(&self.settings_rx.borrow());
        let state_dir = match self.state_dir.take() {
            Some(taken) => taken?,
            None => take_again(&settings, &self.seat)?,
        };
        self.seat.worker.get_or_init(|| state_dir.worker.clone());
        let kind = if let Some(kind) = settings.worker.kind {
            kind
        } else {
            let asking = "asking the API for the work pool".to_owned();
            self.seat.show(Place::Beginning(asking));
            start::find_kind(&api.client, &settings, (&self.seat.pool, self.alone), out).await?
        };
        let setup = start::setup(self.settings_rx.clone(), kind, api, state_dir).await?;
        Ok(Setup {
            seat: Some(Arc::clone(&self.seat)),
            ..setup
        })
    }
}

// === functions ===

/// The directory of a worker that is begun again: the one that it had, where its journal is.
fn take_again(settings: &Settings, seat: &Seat) -> anyhow::Result<StateDir> {
    let Some(name) = seat.worker.get() else {
        return Ok(start::take_state_dir(settings, &seat.pool)?);
    };
    let mut settings = settings.clone();
    settings.worker.name = Some(name.clone());
    match start::take_state_dir(&settings, &seat.pool) {
        // It passes by itself.
        Err(StateDirError::Taken { .. }) => Err(anyhow::anyhow!(
            "something that worker '{name}' had begun before has not ended yet, or it runs elsewhere"
        )),
        taken => Ok(taken?),
    }
}

/// Waits for the next SIGHUP.
async fn hung_up(hangups: &mut unix::Signal) {
    if hangups.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use worker_config::settings::{self, Sources};

    use super::*;

    #[test]
    fn who_is_begun_again_waits_for_its_own_directory() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut settings = settings::load(&Sources::default()).expect("the defaults are right");
        root.path().clone_into(&mut settings.worker.state_dir);
        let seat = Seat::new("demo");
        let first = take_again(&settings, &seat).expect("it is free");
        let name = first.worker.clone();
        seat.worker.set(name.clone()).expect("it had none");
        let error = take_again(&settings, &seat).expect_err("something holds it");
        assert!(!is_misconfigured(&error), "{error}");
        drop(first);
        let again = take_again(&settings, &seat).expect("it is free again");
        assert_eq!(again.worker, name);
    }
}
