//! From signals to stages: a first signal is polite, a second one firm, a third one final.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::event::Stage;

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
    let mut signals = (interrupt, terminate);
    let mut stage = Stage::Working;
    loop {
        let told = next(&mut signals).await;
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
