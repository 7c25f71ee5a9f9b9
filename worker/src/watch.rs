//! From infrastructure that exists to its end: what the engine says, what the life is told, what the job writes.

use std::pin::pin;

use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

use worker_api::types::FlowRunId;
use worker_drivers::{Handle, Intent, LogCursor, Outcome, Phase, Recovered, StopRequest};

use crate::{
    board,
    event::{Observation, Order},
    journal::{End, Entry, Stopped},
    line::{Line, Told},
    output::Output,
    progress,
    services::Services,
    silence,
    submit::ANNOUNCED_LATE,
    telemetry::chain,
};

/// How long the rest of a job's output may take to be read once the job has ended.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);

/// How long after a request to stop it is made again, if the job still runs: the grace and then this.
const STOP_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What the watch over one job brought.
#[derive(Debug)]
pub(crate) struct Watched {
    /// How the job ended.
    pub(crate) end: End,
    /// How far its output has surely reached its log: where a process after this one would read on.
    pub(crate) delivered: LogCursor,
    /// How far its output was read.
    pub(crate) read: LogCursor,
    /// Whether there may be more of it.
    pub(crate) unread: bool,
}

/// Watches one job to its end. None: its handle is one that this driver does not know, so nobody here can tell how it is.
pub(crate) async fn watch(
    services: &Services,
    line: &mut Line,
    entry: Entry,
    handle: &Handle,
) -> Option<Watched> {
    let (from, claimed) = (entry.output, entry.claimed);
    // A job may have begun before its submission was answered.
    line.tell_again();
    let (phases_tx, phases_rx) = mpsc::channel(progress::PHASES);
    let (told, teller) = (entry.clone(), line.teller());
    let mut telling = pin!(progress::tell(services, &told, teller, phases_rx));
    // The end may have come before this life could be told of it: before its line existed, or before a restart. And after a restart a driver
    // wants to be asked this before anything else.
    let first = ask(services, handle).await;
    let mut output = Output::new(services, entry, handle);
    let (ended, unread) = {
        let reading = output.read();
        tokio::pin!(reading);
        let ending = end_of(services, line, handle, first, &phases_tx);
        tokio::pin!(ending);
        let silent = silence::tell(services, FlowRunId(handle.key.flow_run));
        tokio::pin!(silent);
        let mut read = false;
        let ended = loop {
            tokio::select! {
                ended = &mut ending => break ended?,
                // The output may be complete before the end is known; the other way round is the rule.
                () = &mut reading, if !read => read = true,
                never = &mut silent => match never {},
                // It goes on for as long as it may be told of phases.
                () = &mut telling => {}
            }
        };
        // The same reading goes on, so that a line on its way is not lost.
        let unread = !read
            && tokio::time::timeout(OUTPUT_LIMIT, &mut reading)
                .await
                .is_err();
        (ended, unread)
    };
    let (outcome, stopped) = ended;
    tracing::info!("Job ended: {}", board::outcome_in_words(&outcome));
    if progress::begins_later(handle.kind) && progress::had_begun(&outcome) {
        // It may have been too quick for anybody to see it run.
        phases_tx.try_send(Phase::Running).ok();
    }
    drop(phases_tx);
    tokio::time::timeout(ANNOUNCED_LATE, telling).await.ok();
    let safe = output.delivered().await;
    let (tail, read) = output.into_tail();
    let delivered = if safe { read } else { from };
    services.metrics.finished(&outcome, claimed);
    Some(Watched {
        end: End::Job {
            outcome,
            tail,
            stopped,
        },
        delivered,
        read,
        unread,
    })
}

async fn end_of(
    services: &Services,
    line: &mut Line,
    handle: &Handle,
    first: Asked,
    phases_tx: &mpsc::Sender<Phase>,
) -> Option<(Outcome, Stopped)> {
    let mut answer = first;
    let mut asked = Order::GoOn;
    let mut stopped = Stopped::No;
    let mut ask_again = None;
    loop {
        match std::mem::replace(&mut answer, Asked::GoesOn) {
            Asked::Ended(outcome) => return Some((outcome, stopped)),
            Asked::Unknown => return None,
            Asked::GoesOn => {}
        }
        if line.order() > asked || ask_again.is_some_and(|at| at <= Instant::now()) {
            asked = line.order();
            stopped = stopped_by(asked, stopped);
            ask_again = Some(stop(services, handle, asked).await);
        }
        let remind = async {
            match ask_again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = line.told(asked) => match told {
                Told::Observed(Observation::Phase(key, Phase::Exited(outcome))) if key == handle.key => {
                    return Some((outcome, stopped));
                }
                // The snapshot may be older than the job, so the engine is asked about this one.
                Told::Observed(Observation::Absent) => answer = ask(services, handle).await,
                // A phase on the way is no end; people like to see it.
                Told::Observed(Observation::Phase(key, phase)) if key == handle.key => {
                    services.board.observed(key, &phase);
                    if progress::begins_later(handle.kind) {
                        // What nobody could tell in time is old.
                        phases_tx.try_send(phase).ok();
                    }
                }
                // An order is read at the top of the loop.
                Told::Observed(Observation::Phase(..)) | Told::Ordered => {}
            },
            () = remind => answer = ask(services, handle).await,
        }
    }
}

/// What the engine says of one job.
enum Asked {
    Ended(Outcome),
    /// It runs, or the engine cannot be asked now.
    GoesOn,
    /// It is not one that this driver can look after.
    Unknown,
}

async fn ask(services: &Services, handle: &Handle) -> Asked {
    match services.driver.recover(handle).await {
        Ok(Recovered::Running) => Asked::GoesOn,
        Ok(Recovered::Exited(outcome)) => Asked::Ended(outcome),
        Ok(Recovered::Missing) => Asked::Ended(lost()),
        // Unreachable is not dead. The next event, snapshot or order brings the next question.
        Ok(Recovered::Unreachable { reason }) => {
            tracing::warn!(reason, "the engine cannot be asked about the job");
            Asked::GoesOn
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), version = handle.version, "the job cannot be looked after by this worker; run the one that started it");
            Asked::Unknown
        }
    }
}

/// How a job ended that the engine does not have.
pub(crate) fn lost() -> Outcome {
    Outcome::Lost {
        reason: "it was removed by somebody else, or its machine was restarted".to_owned(),
    }
}

/// Asks the job to end, and says when to ask again.
async fn stop(services: &Services, handle: &Handle, order: Order) -> Instant {
    let intent = if order == Order::Cancel {
        Intent::Cancel
    } else {
        Intent::Plain
    };
    let grace = services.stop_grace();
    tracing::info!(?order, ?grace, "ending the job");
    match services
        .driver
        .stop(handle, StopRequest { intent, grace })
        .await
    {
        Ok(()) => Instant::now() + grace + STOP_AGAIN_AFTER,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot end the job; trying again");
            Instant::now() + Duration::from_secs(2)
        }
    }
}

/// Why the job is being ended: the first reason that was given, but that a cancel is always one.
fn stopped_by(order: Order, before: Stopped) -> Stopped {
    match order {
        Order::Cancel => Stopped::Cancelled,
        Order::Stop if before == Stopped::No => Stopped::Shutdown,
        Order::Stop | Order::GoOn => before,
    }
}
