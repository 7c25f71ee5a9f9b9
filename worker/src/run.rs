//! The life of one flow run, top to bottom: claim, resolve, pull, plan, submit, watch, report, clean up.
//!
//! Each step is in the journal before it is taken, so a process that dies anywhere in here is continued by the next one, through
//! [`resume`], from the step it had come to. What a step does is in the module of its name.

use tokio::time::Instant;

use worker_api::types::{FlowRun, ScheduledFlowRun};

use crate::{
    claim::{self, Claim},
    journal::{End, Entry, JournalGone, NotStarted, Step},
    line::Line,
    output, report, resolve,
    services::Services,
    submit, watch,
};

/// What became of a flow run that was due.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Another worker has it, or the server does not want it run.
    NotOurs,
    /// It was ours, and its end is with the API.
    Reported,
    /// It was ours, and the next process of this worker goes on with it: the journal holds it.
    LeftInJournal,
}

/// From a flow run that is due to the end of its attempt.
pub(crate) async fn live(
    services: &Services,
    line: &mut Line,
    scheduled: ScheduledFlowRun,
    seen: Instant,
) -> Ending {
    match Box::pin(claim::claim(services, scheduled.flow_run, seen)).await {
        Ok(Claim::Ours(mut entry, flow_run)) => {
            go_on(services, line, &mut entry, Some(*flow_run)).await
        }
        Ok(Claim::NotOurs) => Ending::NotOurs,
        Err(JournalGone) => Ending::LeftInJournal,
    }
}

/// From where the journal says an earlier process was to the end of the attempt.
pub(crate) async fn resume(services: &Services, line: &mut Line, mut entry: Entry) -> Ending {
    if entry.step == Step::Claiming {
        match claim::settle(services, &mut entry).await {
            Ok(true) => {}
            Ok(false) => return Ending::NotOurs,
            Err(JournalGone) => return Ending::LeftInJournal,
        }
    }
    go_on(services, line, &mut entry, None).await
}

async fn go_on(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    flow_run: Option<FlowRun>,
) -> Ending {
    match to_the_end(services, line, entry, flow_run).await {
        Ok(true) => Ending::Reported,
        Ok(false) | Err(JournalGone) => Ending::LeftInJournal,
    }
}

/// The straight line itself. The steps are boxed so that a life that watches its job, which is nearly all of its time, is small.
/// False: the worker leaves before the API could be told.
async fn to_the_end(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    flow_run: Option<FlowRun>,
) -> Result<bool, JournalGone> {
    if matches!(entry.step, Step::Claimed | Step::Submitting)
        && let Err(why) = Box::pin(start(services, line, entry, flow_run)).await?
    {
        // Whatever was begun is removed before anybody is told that it did not start.
        submit::undo(services, line, entry).await;
        advance(services, entry, Step::Over(End::NotStarted(why))).await?;
    }
    if let Step::Submitted(handle) = entry.step.clone() {
        line.started(entry.key).await;
        let announced = Box::pin(submit::announce(services, entry, &handle));
        let watched = watch::watch(services, line, entry.clone(), &handle);
        let ((), (end, output)) = tokio::join!(announced, watched);
        entry.output = output;
        advance(services, entry, Step::Over(end)).await?;
    }
    let Step::Over(end) = entry.step.clone() else {
        unreachable!("a claimed attempt was started, is submitted, or is over")
    };
    if !Box::pin(report::report(services, line, entry, &end)).await {
        return Ok(false);
    }
    output::drained(services, entry).await;
    submit::destroy(services, entry).await;
    services.journal.remove(entry.key).await?;
    Ok(true)
}

/// From a claimed flow run to infrastructure that surely exists.
async fn start(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    flow_run: Option<FlowRun>,
) -> Result<Result<(), NotStarted>, JournalGone> {
    if entry.step == Step::Submitting {
        match submit::find_started(services, line, entry).await {
            Ok(Some(handle)) => {
                advance(services, entry, Step::Submitted(handle)).await?;
                return Ok(Ok(()));
            }
            Ok(None) => {}
            Err(why) => return Ok(Err(why)),
        }
    }
    let resolved = match resolve::resolve(services, line, entry, flow_run).await {
        Ok(resolved) => resolved,
        Err(why) => return Ok(Err(why)),
    };
    entry.reporter = resolved.reporter;
    entry.shown = resolved.shown;
    let plan = match resolve::pull_and_plan(services, line, entry, resolved).await {
        Ok(plan) => plan,
        Err(why) => return Ok(Err(why)),
    };
    advance(services, entry, Step::Submitting).await?;
    match submit::submit(services, line, &plan).await {
        Ok(handle) => {
            advance(services, entry, Step::Submitted(handle)).await?;
            Ok(Ok(()))
        }
        Err(why) => Ok(Err(why)),
    }
}

async fn advance(services: &Services, entry: &mut Entry, step: Step) -> Result<(), JournalGone> {
    entry.step = step;
    services.journal.record(entry).await
}
