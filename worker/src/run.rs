//! The life of one flow run, top to bottom: claim, resolve, pull, plan, submit, watch, report, clean up.
//!
//! Each step is in the journal before it is taken, so a process that dies anywhere in here is continued by the next one, through
//! [`resume`], from the step it had come to. What a step does is in the module of its name.

use std::pin::pin;

use tokio::time::timeout;

use worker_api::types::ScheduledFlowRun;
use worker_drivers::{Handle, Outcome, Phase};

use crate::{
    claim::{self, Claim, Settled},
    event::Seen,
    journal::{End, Entry, JournalGone, NotStarted, Step, Stopped},
    lease,
    line::Line,
    output, report,
    resolve::{self, Planned},
    services::Services,
    sources::Polled,
    submit,
    watch::{self, Watched},
};

/// What became of a flow run that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    seen: Seen,
) -> Ending {
    match Box::pin(claim::claim(services, scheduled.flow_run, seen)).await {
        Ok(Claim::Ours(mut entry, flow_run)) => {
            let polled = Polled {
                flow_run: *flow_run,
                answered: seen.answered,
            };
            go_on(services, line, &mut entry, Some(polled)).await
        }
        Ok(Claim::NotOurs) => Ending::NotOurs,
        Err(JournalGone) => Ending::LeftInJournal,
    }
}

/// From where the journal says an earlier process was to the end of the attempt.
pub(crate) async fn resume(services: &Services, line: &mut Line, mut entry: Entry) -> Ending {
    match Box::pin(pick_up(services, line, &mut entry)).await {
        Ok(None) => go_on(services, line, &mut entry, None).await,
        Ok(Some(ending)) => ending,
        Err(JournalGone) => Ending::LeftInJournal,
    }
}

/// Finds out how far an earlier process really came. None: the journal has it as far as it can be known, and it goes on from there.
async fn pick_up(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
) -> Result<Option<Ending>, JournalGone> {
    submit::find_way(services, line, entry).await;
    let mut begun = false;
    match entry.step {
        // What the janitor found is not in the journal yet.
        Step::Submitted => services.journal.record(entry).await?,
        Step::Submitting => {
            if let Some(found) = submit::find(services, line, entry).await {
                begun = !matches!(found.phase, Phase::Pending(_));
                entry.handle = Some(found.handle);
            }
        }
        Step::Claiming | Step::Claimed => {}
        Step::Over(_) => return Ok(None),
    }
    if begun {
        advance(services, entry, Step::Submitted).await?;
    }
    if entry.step == Step::Submitted {
        return Ok(None);
    }
    // Nothing has begun, as far as was seen, and much may have happened to the flow run while nobody looked.
    match claim::settle(services, entry).await {
        Settled::Ours(lease) if entry.step == Step::Claiming => {
            entry.lease = lease;
            advance(services, entry, Step::Claimed).await?;
        }
        // What was made and has not begun may wait for nobody but us. Asking for it again finds it and starts it.
        Settled::Ours(_) => {}
        Settled::Running => {
            if entry.handle.is_none() {
                // It must have begun since.
                let found = submit::find(services, line, entry).await;
                entry.handle = found.map(|one| one.handle);
            }
            let step = match entry.handle {
                Some(_) => Step::Submitted,
                None => Step::Over(End::Job {
                    outcome: watch::lost(),
                    tail: Vec::new(),
                    stopped: Stopped::No,
                }),
            };
            advance(services, entry, step).await?;
        }
        settled @ (Settled::Cancelling | Settled::NotOurs) => {
            if entry.step == Step::Submitting && !submit::undo(services, line, entry).await {
                return Ok(Some(Ending::LeftInJournal));
            }
            if settled == Settled::NotOurs {
                services.journal.remove(entry.key).await?;
                return Ok(Some(Ending::NotOurs));
            }
            let end = End::NotStarted(NotStarted::Cancelled);
            advance(services, entry, Step::Over(end)).await?;
        }
    }
    Ok(None)
}

async fn go_on(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    polled: Option<Polled>,
) -> Ending {
    let lease = entry.lease;
    services.board.moved(entry);
    let ended = tokio::select! {
        ended = to_the_end(services, line, entry, polled) => ended,
        never = lease::keep(services, lease) => match never {},
    };
    match ended {
        Ok(true) => Ending::Reported,
        Ok(false) | Err(JournalGone) => Ending::LeftInJournal,
    }
}

/// The straight line itself. The steps are boxed so that a life that watches its job, which is nearly all of its time, is small.
///
/// False: the worker leaves before the API could be told, or nobody can tell how the job is.
async fn to_the_end(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    polled: Option<Polled>,
) -> Result<bool, JournalGone> {
    let resumed = polled.is_none();
    let (mut unread, mut announced) = (resumed, true);
    if matches!(entry.step, Step::Claimed | Step::Submitting)
        && let Err(why) = Box::pin(start(services, line, entry, polled)).await?
    {
        // Whatever was begun is removed before anybody is told that it did not start.
        if entry.step == Step::Submitting && !submit::undo(services, line, entry).await {
            return Ok(false);
        }
        if matches!(why, NotStarted::Failed(_)) {
            announced = false;
            services.emitter.creation_failed(entry);
        }
        advance(services, entry, Step::Over(End::NotStarted(why))).await?;
    }
    if entry.step == Step::Submitted
        && let Some(handle) = entry.handle.clone()
    {
        line.started(entry.key).await;
        let watched = accompany(services, line, entry, &handle, resumed).await;
        let Some((watched, told)) = watched else {
            return Ok(false);
        };
        announced = told;
        if let End::Job { outcome, .. } = &watched.end {
            if has_exited(outcome) {
                services.emitter.container(entry, &handle, "exited");
            }
            services.emitter.executed(entry, &handle, outcome);
        }
        entry.output = watched.delivered;
        advance(services, entry, Step::Over(watched.end)).await?;
        (entry.output, unread) = (watched.read, watched.unread);
    }
    let Step::Over(end) = entry.step.clone() else {
        unreachable!("a claimed attempt was started, is submitted, or is over")
    };
    if !Box::pin(report::report(services, line, entry, &end)).await {
        return Ok(false);
    }
    if !announced {
        let labelled = submit::label(services, entry);
        timeout(submit::LABELLED_LATE, labelled).await.ok();
    }
    if matches!(
        end,
        End::Job {
            stopped: Stopped::Cancelled,
            ..
        }
    ) {
        services.emitter.cancelled(entry);
    }
    if unread {
        output::read_rest(services, entry).await;
    }
    output::drained(services, entry).await;
    submit::destroy(services, line, entry).await;
    services.journal.remove(entry.key).await?;
    services.board.left(entry);
    Ok(true)
}

/// Watches a job to its end, and tells meanwhile what there is to know of it; gives whether all of it could be told.
async fn accompany(
    services: &Services,
    line: &mut Line,
    entry: &Entry,
    handle: &Handle,
    resumed: bool,
) -> Option<(Watched, bool)> {
    let mut announcing = Box::pin(submit::announce(services, entry, line.teller(), resumed));
    let mut watched = pin!(watch::watch(services, line, entry.clone(), handle));
    tokio::select! {
        () = &mut announcing => Some((watched.await?, true)),
        watched = &mut watched => {
            // What is good to know of a job is not worth a late report of its end.
            let announced = timeout(submit::ANNOUNCED_LATE, announcing).await.is_ok();
            Some((watched?, announced))
        }
    }
}

/// From a claimed flow run to infrastructure that surely exists.
async fn start(
    services: &Services,
    line: &mut Line,
    entry: &mut Entry,
    polled: Option<Polled>,
) -> Result<Result<(), NotStarted>, JournalGone> {
    let Planned {
        plan,
        about,
        secrets,
    } = match resolve::plan(services, line, entry, polled).await {
        Ok(planned) => planned,
        Err(why) => return Ok(Err(why)),
    };
    entry.told = Some(services.emitter.submitted(about));
    // Who comes back to this step has declared it before, and its job may have begun and told of itself since.
    let standing = if entry.step == Step::Claimed {
        submit::declare(services, entry).await
    } else {
        submit::ask_whose(services, entry).await
    };
    if let Err(why) = standing {
        return Ok(Err(why));
    }
    advance(services, entry, Step::Submitting).await?;
    match submit::submit(services, line, &plan, &secrets).await {
        Ok(handle) => {
            for status in ["created", "running"] {
                services.emitter.container(entry, &handle, status);
            }
            entry.handle = Some(handle);
            advance(services, entry, Step::Submitted).await?;
            Ok(Ok(()))
        }
        Err(why) => Ok(Err(secrets.cover(why))),
    }
}

/// Whether infrastructure was seen to end.
fn has_exited(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::NeverStarted { .. } | Outcome::Lost { .. })
}

async fn advance(services: &Services, entry: &mut Entry, step: Step) -> Result<(), JournalGone> {
    entry.step = step;
    services.board.moved(entry);
    services.journal.record(entry).await
}
