//! From signals to stages: a first signal is polite, a second one firm, a third one final.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::Instant,
};

use crate::event::Stage;

/// How soon after a signal another one is the same, come twice: a terminal sends it to a whole process group, and a wrapper in that group sends
/// it on. A wrapper in a shell or in Python takes a moment for that; a person who has read what follows from another one takes longer.
const ECHO: Duration = Duration::from_secs(1);

/// What a first SIGTERM means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstTerm {
    /// Jobs outlive the worker, so it leaves them to the process that follows.
    LetGo,
    /// Jobs need this process, or the operator set a time for them to end in.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// SIGINT: a person at a terminal.
    Interrupt,
    /// SIGTERM: a supervisor, such as systemd or the kubelet.
    Terminate,
}

/// Turns signals into stages until its owner drops it.
pub(crate) async fn listen(first_term: FirstTerm, stages_tx: mpsc::Sender<Stage>) {
    let (Ok(interrupt), Ok(terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tracing::error!("signals cannot be handled; the worker ends only when it is killed");
        return;
    };
    let signals = stream::unfold((interrupt, terminate), |mut signals| async move {
        Some((next(&mut signals).await, signals))
    });
    heed(signals, first_term, stages_tx).await;
}

/// Goes a stage further with each signal that is not the echo of one.
async fn heed(
    signals: impl Stream<Item = Told>,
    first_term: FirstTerm,
    stages_tx: mpsc::Sender<Stage>,
) {
    let mut signals = pin!(signals);
    let mut stage = Stage::Working;
    let mut heeded: Option<Instant> = None;
    while let Some(told) = signals.next().await {
        if heeded.is_some_and(|at| at.elapsed() < ECHO) {
            tracing::info!("a signal so soon after another is taken for the same one");
            continue;
        }
        heeded = Some(Instant::now());
        stage = after(stage, told, first_term);
        say(stage);
        if stages_tx.send(stage).await.is_err() {
            return;
        }
    }
}

async fn next((interrupt, terminate): &mut (Signal, Signal)) -> Told {
    tokio::select! {
        _ = interrupt.recv() => Told::Interrupt,
        _ = terminate.recv() => Told::Terminate,
    }
}

fn after(stage: Stage, told: Told, first_term: FirstTerm) -> Stage {
    match (stage, told) {
        (Stage::Working, Told::Interrupt) => Stage::Draining,
        (Stage::Working, Told::Terminate) => match first_term {
            FirstTerm::LetGo => Stage::LettingGo,
            FirstTerm::Drain => Stage::Draining,
        },
        (Stage::Draining | Stage::LettingGo, _) => Stage::Stopping,
        (Stage::Stopping | Stage::Leaving, _) => Stage::Leaving,
    }
}

fn say(stage: Stage) {
    match stage {
        Stage::Working => {}
        Stage::Draining => tracing::info!(
            "claiming nothing more and waiting for what runs; a second signal stops it"
        ),
        Stage::LettingGo => {
            tracing::info!(
                "claiming nothing more; what runs goes on, and is found again at the next start"
            );
        }
        Stage::Stopping => tracing::info!("stopping what runs; another signal leaves it behind"),
        Stage::Leaving => tracing::warn!("leaving at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_goes_further_than_the_one_before() {
        let mut stage = Stage::Working;
        let mut seen = Vec::new();
        for told in [
            Told::Interrupt,
            Told::Terminate,
            Told::Interrupt,
            Told::Interrupt,
        ] {
            stage = after(stage, told, FirstTerm::LetGo);
            seen.push(stage);
        }
        assert_eq!(
            seen,
            [
                Stage::Draining,
                Stage::Stopping,
                Stage::Leaving,
                Stage::Leaving
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_comes_twice_at_once_is_one() {
        let milliseconds = [0, 3, 900, 1_000, 1_001, 5_000];
        let from = Instant::now();
        let signals = stream::iter(milliseconds).then(|after| async move {
            tokio::time::sleep_until(from + Duration::from_millis(after)).await;
            Told::Interrupt
        });
        let (stages_tx, mut stages_rx) = mpsc::channel(milliseconds.len());
        heed(signals, FirstTerm::LetGo, stages_tx).await;
        let mut seen = Vec::new();
        stages_rx.recv_many(&mut seen, milliseconds.len()).await;
        assert_eq!(seen, [Stage::Draining, Stage::Stopping, Stage::Leaving]);
    }

    #[test]
    fn a_supervisor_lets_jobs_live_where_they_can() {
        assert_eq!(
            after(Stage::Working, Told::Terminate, FirstTerm::LetGo),
            Stage::LettingGo
        );
        assert_eq!(
            after(Stage::Working, Told::Terminate, FirstTerm::Drain),
            Stage::Draining
        );
    }
}
