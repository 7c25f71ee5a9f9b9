//! From infrastructure that exists to its end: what the engine says, what the life is told, what the job writes.

use tokio::time::{Duration, Instant};

use worker_drivers::{Handle, Intent, LogCursor, Outcome, Phase, Recovered, StopRequest};

use crate::{
    event::{Observation, Order},
    journal::{End, Entry, Stopped},
    line::{Line, Told},
    output::Output,
    services::Services,
    telemetry::chain,
};

/// How long the rest of a job's output may take to be read once the job has ended.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);

/// How long after a request to stop it is made again, if the job still runs: the grace and then this.
const STOP_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Watches one job to its end, and says how it ended and how far its output was read.
pub(crate) async fn watch(
    services: &Services,
    line: &mut Line,
    entry: Entry,
    handle: &Handle,
) -> (End, LogCursor) {
    let mut output = Output::new(services, entry, handle);
    let (outcome, stopped) = {
        let reading = output.read();
        tokio::pin!(reading);
        let ending = end_of(services, line, handle);
        tokio::pin!(ending);
        let outcome = tokio::select! {
            outcome = &mut ending => outcome,
            // The output may be complete before the end is known; the other way round is the rule.
            () = &mut reading => ending.await,
        };
        outcome
    };
    if tokio::time::timeout(OUTPUT_LIMIT, output.read())
        .await
        .is_err()
    {
        tracing::warn!("not all of the output could be read");
    }
    let (tail, cursor) = output.into_tail();
    services.metrics.finished(&outcome);
    (
        End::Job {
            outcome,
            tail,
            stopped,
        },
        cursor,
    )
}

async fn end_of(services: &Services, line: &mut Line, handle: &Handle) -> (Outcome, Stopped) {
    // The end may have come before this life could be told of it: before its line existed, or before a restart.
    let mut doubt = true;
    let mut asked = Order::GoOn;
    let mut ask_again = None;
    loop {
        if doubt && let Some(outcome) = ask(services, handle).await {
            return (outcome, reason(asked));
        }
        doubt = false;
        if line.order() > asked || ask_again.is_some_and(|at| at <= Instant::now()) {
            asked = line.order();
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
                    return (outcome, reason(asked));
                }
                // The snapshot may be older than the job, so the engine is asked about this one.
                Told::Observed(Observation::Absent) => doubt = true,
                // A phase on the way is no end, and an order is read at the top of the loop.
                Told::Observed(Observation::Phase(..)) | Told::Ordered => {}
            },
            () = remind => doubt = true,
        }
    }
}

/// Asks the engine about this one job. None: it runs, or nobody can tell.
async fn ask(services: &Services, handle: &Handle) -> Option<Outcome> {
    match services.driver.recover(handle).await {
        Ok(Recovered::Running) => None,
        Ok(Recovered::Exited(outcome)) => Some(outcome),
        Ok(Recovered::Missing) => Some(Outcome::Lost {
            reason: "it was removed by somebody else, or its machine was restarted".to_owned(),
        }),
        // Unreachable is not dead: the events stream brings a snapshot when the engine is back.
        Ok(Recovered::Unreachable { reason }) => {
            tracing::warn!(reason, "the engine cannot be asked about the job");
            None
        }
        Err(error) => Some(Outcome::Lost {
            reason: chain(&error),
        }),
    }
}

/// Asks the job to end, and says when to ask again.
async fn stop(services: &Services, handle: &Handle, order: Order) -> Instant {
    let intent = if order == Order::Cancel {
        Intent::Cancel
    } else {
        Intent::Plain
    };
    let grace = services.stop_grace;
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

fn reason(asked: Order) -> Stopped {
    match asked {
        Order::GoOn => Stopped::No,
        Order::Stop => Stopped::Shutdown,
        Order::Cancel => Stopped::Cancelled,
    }
}
