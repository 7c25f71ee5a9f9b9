//! Telling the API how an attempt ended, once the engine has confirmed it: only over a state that is not final, with the reason a person needs.

use serde_json::Value;
use worker_api::{
    ApiError,
    types::{FlowRun, FlowRunId, LogLevel, OrchestrationStatus, ProposedState, StateType},
};
use worker_config::DriverKind;
use worker_drivers::{Handle, Outcome};

use crate::{
    claim,
    event::Order,
    journal::{End, Entry, NotStarted, Reporter, Stopped},
    line::Line,
    patience::Patience,
    services::Services,
    telemetry::chain,
};

/// How many tries a report gets once the worker was told to stop: the journal keeps it for the next process.
const TRIES_WHEN_STOPPING: u32 = 3;

/// How often a report is made that the API refuses for what it says. The second one is without its reason; a third would be no better.
const REFUSALS: u32 = 3;

/// What to do about the state of a flow run whose attempt is over.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// It is right as it is.
    Leave,
    /// Propose this one; the server may know better.
    Propose(ProposedState),
    /// Set this one, because the rules would refuse it although it is true.
    Force(ProposedState),
}

/// Reports until the API has it. False: the worker leaves first.
pub(crate) async fn report(services: &Services, line: &mut Line, entry: &Entry, end: &End) -> bool {
    if is_told(end) {
        return true;
    }
    let mut patience = Patience::new();
    let mut report = Report {
        explained: false,
        refused: 0,
    };
    let mut tries = 0;
    loop {
        match report.try_once(services, entry, end).await {
            Ok(()) => return true,
            Err(error) if error.is_not_found() => {
                tracing::info!("the flow run was deleted; there is nobody to report to");
                return true;
            }
            Err(error) if !error.may_pass() && report.refused >= REFUSALS => {
                tracing::error!(error = %chain(&error), "the API does not take the end of the flow run; it keeps the state it has");
                return true;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the end is not reported yet");
                report.refused += u32::from(!error.may_pass());
            }
        }
        tries += 1;
        if line.order() == Order::Stop && tries >= TRIES_WHEN_STOPPING {
            return false;
        }
        patience.wait().await;
    }
}

/// Whether there is nothing to tell: the engine confirmed over its control session that the API knows the end, or it is somebody else's
/// to tell. Asking would only cost a request.
fn is_told(end: &End) -> bool {
    matches!(
        end,
        End::NotStarted(NotStarted::NotOurs)
            | End::Job {
                outcome: Outcome::Exited { reported: true, .. },
                stopped: Stopped::No,
                ..
            }
    )
}

/// One report, through all its tries.
struct Report {
    /// Whether the flow run's log has the reason.
    explained: bool,
    /// How often the API refused it for what it says.
    refused: u32,
}

impl Report {
    async fn try_once(
        &mut self,
        services: &Services,
        entry: &Entry,
        end: &End,
    ) -> Result<(), ApiError> {
        let id = FlowRunId(entry.key.flow_run);
        let flow_run = services.client.read_flow_run(id).await?;
        let worker = &services.identity.worker;
        let named = may_be_anothers(worker, entry.handle.as_ref(), &flow_run);
        if (named || ended_badly(end)) && claim::is_superseded(services, entry, named).await? {
            tracing::info!("a newer attempt has the flow run; this one has nothing to report");
            return Ok(());
        }
        let kind = services.driver.kind();
        let (mut proposal, force) = match verdict(kind, entry.reporter, end, &flow_run) {
            Verdict::Leave => return Ok(()),
            Verdict::Propose(proposal) => (proposal, false),
            Verdict::Force(proposal) => (proposal, true),
        };
        if proposal.kind != StateType::Completed && !self.explained {
            self.explained = true;
            explain(services, id, &proposal, end).await;
        }
        if self.refused > 0 {
            // What is refused can only be the reason, which quotes the job. The true state matters more.
            proposal.message = None;
        }
        let answer = if force {
            services.client.force_state(id, &proposal).await?
        } else {
            services.client.propose_state(id, &proposal).await?
        };
        // An end without a reason is told without one.
        let reason = proposal.message.as_deref();
        match answer.status {
            OrchestrationStatus::Accept => {
                tracing::info!(state = %proposal.kind, reason, "reported");
            }
            status => {
                tracing::info!(state = %proposal.kind, ?status, why = answer.details.reason, "the server keeps another state");
            }
        }
        services.metrics.reported(&proposal.kind);
        Ok(())
    }
}

/// Whether a job ended in a way that would end the attempt of somebody else, were the flow run theirs.
fn ended_badly(end: &End) -> bool {
    let End::Job { outcome, .. } = end else {
        return false;
    };
    !matches!(outcome, Outcome::Exited { code: 0, .. })
}

/// Whether the flow run names another worker and its infrastructure. That may be a newer attempt's, because the engine put the flow run back
/// before it ended, or somebody started it again; or an earlier one's, when what this one had to say of itself did not get through.
pub(crate) fn may_be_anothers(worker: &str, handle: Option<&Handle>, flow_run: &FlowRun) -> bool {
    let theirs = flow_run
        .labels
        .as_ref()
        .and_then(|labels| labels.get("prefect.worker.name"));
    let other_worker = theirs
        .and_then(Value::as_str)
        .is_some_and(|name| name != worker);
    let other_infrastructure = match (&flow_run.infrastructure_pid, handle) {
        (Some(theirs), Some(ours)) => *theirs != ours.infrastructure_id,
        _ => false,
    };
    other_worker && other_infrastructure
}

/// Writes the reason and the last lines of output into the flow run's log, where people look first.
async fn explain(services: &Services, id: FlowRunId, proposal: &ProposedState, end: &End) {
    let level = if proposal.kind == StateType::Cancelled {
        LogLevel::INFO
    } else {
        LogLevel::ERROR
    };
    let mut message = proposal.message.clone().unwrap_or_default();
    if let End::Job { tail, .. } = end
        && !tail.is_empty()
        && proposal.kind != StateType::Cancelled
    {
        message.push_str("\nThe last lines of its output:\n");
        message.push_str(&tail.join("\n"));
    }
    services.run_log.say(id, level, message).await;
}

/// Decides what the end means for the flow run. Pure.
fn verdict(kind: DriverKind, reporter: Reporter, end: &End, flow_run: &FlowRun) -> Verdict {
    let state = flow_run.state_type.clone().unwrap_or(StateType::Pending);
    if state.is_final() {
        return Verdict::Leave;
    }
    // Whoever asked for the end while it came has it: CANCELLING can only become CANCELLED.
    if state == StateType::Cancelling {
        return Verdict::Propose(cancelled(end));
    }
    match end {
        End::NotStarted(why) => not_started(why),
        End::Job {
            stopped: Stopped::Cancelled,
            ..
        } => Verdict::Force(cancelled(end)),
        // The attempt suspended the flow run or put it back; the next attempt is the server's affair.
        End::Job { .. } if matches!(state, StateType::Paused | StateType::Scheduled) => {
            Verdict::Leave
        }
        // It was faster than the signal.
        End::Job {
            outcome: Outcome::Exited { code: 0, .. },
            stopped: Stopped::Shutdown,
            ..
        } if reporter != Reporter::Engine => {
            Verdict::Propose(ProposedState::new(StateType::Completed))
        }
        End::Job {
            outcome: _,
            tail: _,
            stopped: Stopped::Shutdown,
        } => Verdict::Propose(
            ProposedState::new(StateType::Crashed)
                .because("The worker was told to stop, and ended the job."),
        ),
        End::Job {
            outcome,
            tail,
            stopped: Stopped::No,
        } => match reporter {
            Reporter::Worker { failed } => by_exit_code(kind, outcome, tail, failed),
            Reporter::Engine => unreported(kind, outcome, tail, &state),
        },
    }
}

fn not_started(why: &NotStarted) -> Verdict {
    match why {
        NotStarted::Failed(reason) => {
            Verdict::Propose(ProposedState::new(StateType::Crashed).because(format!(
                "Failed to submit flow run to infrastructure: {reason}"
            )))
        }
        NotStarted::NotOurs => Verdict::Leave,
        NotStarted::Cancelled => Verdict::Force(
            ProposedState::new(StateType::Cancelled)
                .because("Cancelled before its infrastructure was started."),
        ),
        NotStarted::DeploymentGone(deployment) => {
            Verdict::Force(ProposedState::new(StateType::Cancelled).because(format!(
                "Deployment {deployment} no longer exists, cancelled run."
            )))
        }
        // Nothing has happened yet, so it is due again, for this worker after its restart or for another.
        NotStarted::PutBack(reason) => Verdict::Propose(
            ProposedState::new(StateType::Scheduled)
                .named("AwaitingRetry")
                .because(format!("Given back to the work pool: {reason}.")),
        ),
    }
}

fn cancelled(end: &End) -> ProposedState {
    let how = match end {
        End::Job { outcome, .. } => format!("Cancelled; {}.", describe(outcome)),
        End::NotStarted(_) => "Cancelled before its infrastructure was started.".to_owned(),
    };
    ProposedState::new(StateType::Cancelled).because(how)
}

fn by_exit_code(kind: DriverKind, outcome: &Outcome, tail: &[String], failed: bool) -> Verdict {
    match outcome {
        Outcome::Exited { code: 0, .. } => {
            Verdict::Propose(ProposedState::new(StateType::Completed))
        }
        Outcome::Exited { .. } if failed => {
            let reason = crash(kind, outcome, tail);
            Verdict::Propose(ProposedState::new(StateType::Failed).because(reason))
        }
        _ => {
            let reason = crash(kind, outcome, tail);
            Verdict::Propose(ProposedState::new(StateType::Crashed).because(reason))
        }
    }
}

/// The engine has ended and the API does not know how: it died, it could not import the flow, or it left without a word.
fn unreported(kind: DriverKind, outcome: &Outcome, tail: &[String], state: &StateType) -> Verdict {
    let what = match kind {
        DriverKind::Process => "Process exited with status code: 0",
        DriverKind::Docker | DriverKind::Kubernetes => {
            "Flow run infrastructure exited with status code 0"
        }
    };
    let message = match outcome {
        Outcome::Exited { code: 0, .. } => with_last_line(
            format!("{what}, but never said how the flow run ended; it was left in state {state}."),
            tail,
        ),
        _ => crash(kind, outcome, tail),
    };
    Verdict::Propose(ProposedState::new(StateType::Crashed).because(message))
}

fn crash(kind: DriverKind, outcome: &Outcome, tail: &[String]) -> String {
    let reason = match outcome {
        Outcome::Exited { code, .. } => {
            format!("{}.{}", exited_with(kind, *code), meaning(*code))
        }
        Outcome::Signalled { signal, .. } => {
            // A process's parent sees the signal, who looks at a container sees what a shell would say.
            let code = match kind {
                DriverKind::Process => -signal,
                DriverKind::Docker | DriverKind::Kubernetes => 128 + signal,
            };
            format!("{}. {}", exited_with(kind, code), describe_signal(*signal))
        }
        other => {
            let mut text = describe(other);
            if let Some(first) = text.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            format!("{text}.")
        }
    };
    with_hint(kind, with_last_line(reason, tail), tail)
}

/// As the reference says it, word for word: people have automations that read it.
fn exited_with(kind: DriverKind, code: i32) -> String {
    match kind {
        DriverKind::Process => format!("Process exited with status code: {code}"),
        DriverKind::Docker | DriverKind::Kubernetes => {
            format!("Flow run infrastructure exited with non-zero status code {code}")
        }
    }
}

fn with_last_line(mut reason: String, tail: &[String]) -> String {
    if let Some(last) = last_line(tail) {
        reason.push_str(" Last output: ");
        // PostgreSQL has no NUL, and would refuse the state for it.
        reason.push_str(&last.replace('\0', "\u{fffd}"));
    }
    reason
}

fn last_line(tail: &[String]) -> Option<&str> {
    tail.iter()
        .rev()
        .map(|line| line.trim())
        .find(|line| !line.is_empty())
}

/// Adds what to do, where the last line of output says what was missing.
fn with_hint(kind: DriverKind, mut reason: String, tail: &[String]) -> String {
    if last_line(tail).is_some_and(lacks_prefect) {
        reason.push_str(match kind {
            DriverKind::Process => {
                ". The job's Python has no Prefect: install it there (pip install prefect), start the worker in the environment that has it, or give --python"
            }
            DriverKind::Docker | DriverKind::Kubernetes => {
                ". The image's Python has no Prefect: install it in the image, or give the job variable image one that has it, such as prefecthq/prefect:3-latest"
            }
        });
        reason.push_str("; a command of the job's own has to name the Python that has it.");
    }
    reason
}

/// What an import says, `python -m prefect.engine`, and `python -m prefect`, which does not quote the name.
fn lacks_prefect(line: &str) -> bool {
    line.contains("No module named 'prefect'") || line.ends_with("No module named prefect")
}

fn meaning(code: i32) -> &'static str {
    match code {
        126 => " The command was found but could not be executed.",
        127 => " The command was not found.",
        137 => " It was killed, likely for lack of memory (128 + SIGKILL).",
        143 => " It was asked to end (128 + SIGTERM).",
        _ => "",
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code, .. } => format!("the process exited with code {code}"),
        Outcome::Signalled {
            signal,
            by_us: true,
        } => {
            format!(
                "the process was ended by this worker with {}",
                signal_name(*signal)
            )
        }
        Outcome::Signalled {
            signal,
            by_us: false,
        } => {
            format!("the process was ended by {}", signal_name(*signal))
        }
        Outcome::OutOfMemory { limit: Some(limit) } => {
            format!(
                "the process ran out of memory (OOM) at its limit of {} MiB",
                limit >> 20
            )
        }
        Outcome::OutOfMemory { limit: None } => {
            "the process was ended because the machine ran out of memory (OOM)".to_owned()
        }
        Outcome::NeverStarted { reason } => format!("the process never started: {reason}"),
        Outcome::Lost { reason } => {
            format!("the process is gone and nobody saw how it ended: {reason}")
        }
    }
}

fn describe_signal(signal: i32) -> String {
    let hint = match signal {
        9 => ", often for lack of memory, or by hand",
        11 => ": it touched memory that is not its own",
        15 => ": somebody asked it to end",
        _ => "",
    };
    format!("It was ended by {}{hint}.", signal_name(signal))
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |known| known.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests;
