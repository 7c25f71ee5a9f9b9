//! Watching one flow run to its end: its log as it comes, then its final state.

use std::{collections::VecDeque, convert::Infallible, process::ExitCode, time::Duration};

use uuid::Uuid;

use worker_api::{
    ApiError, Client,
    types::{FlowRun, FlowRunId, StateType, StoredLogEntry, WorkPoolStatus},
};

use super::out::Out;

/// How many log lines are read at once: the server's limit (3.8.8).
const PAGE: u32 = 200;

/// How long after the final state the last lines may come: what its job wrote last is sent by its worker and not by itself.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How many lines at the end of what was shown are looked at again: several write into one log, and a line that comes late stands where its
/// time has it.
const OVERLAP: u32 = 100;

/// How often the API is asked again before following ends with an error: over a minute.
const RETRIES: u32 = 5;

/// How often it is looked what a flow run waits for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How much of a log was shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    lines: u32,
    /// The last of them.
    last: VecDeque<Uuid>,
}

// === impl Shown ===

impl Shown {
    /// Shows what has come to the log since.
    pub(crate) async fn go_on(
        &mut self,
        client: &Client,
        id: FlowRunId,
        out: Out,
    ) -> Result<(), ApiError> {
        loop {
            let offset = self.lines.saturating_sub(OVERLAP);
            let page = client.read_logs(id, offset, PAGE).await?;
            for entry in &page {
                if !self.last.contains(&entry.id) {
                    show(entry, out);
                    self.last.push_back(entry.id);
                }
            }
            let count = u32::try_from(page.len()).unwrap_or(PAGE);
            self.lines = offset + count;
            // Twice as many, as late lines among them move the others on.
            let forgotten = self.last.len().saturating_sub(2 * OVERLAP as usize);
            self.last.drain(..forgotten);
            if count < PAGE {
                return Ok(());
            }
        }
    }
}

// === functions ===

fn show(entry: &StoredLogEntry, out: Out) {
    out.json(entry);
    let time = entry.timestamp.strftime("%H:%M:%S%.3f").to_string();
    for text in entry.message.lines() {
        out.log(&time, entry.level, text);
    }
}

/// Shows the log of a flow run until it is in a final state and its log has had time to become complete.
pub(crate) async fn follow(
    client: &Client,
    id: FlowRunId,
    pace: Duration,
    out: Out,
) -> Result<FlowRun, ApiError> {
    // It may take hours, in which an API is restarted.
    let client = &client.with_retries(RETRIES);
    let (flow_run, mut shown) = tokio::select! {
        over = until_over(client, id, pace, out) => over?,
        never = say_what_hinders(client, id, out) => match never {},
    };
    tokio::time::sleep(LAST_LINES).await;
    shown.go_on(client, id, out).await?;
    Ok(flow_run)
}

/// Says what keeps a flow run from being begun, each time that this is something else.
async fn say_what_hinders(client: &Client, id: FlowRunId, out: Out) -> Infallible {
    let mut said = None;
    loop {
        let found = find_hindrance(client, id).await;
        // An API that does not answer is the other one's to complain of.
        if let Ok(hindrance) = found
            && hindrance != said
        {
            if let Some(hindrance) = &hindrance {
                out.notice(&format!("Waiting: {hindrance}."));
            }
            said = hindrance;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn find_hindrance(client: &Client, id: FlowRunId) -> Result<Option<String>, ApiError> {
    let flow_run = client.read_flow_run(id).await?;
    let (Some(StateType::Scheduled), Some(name)) = (flow_run.state_type, flow_run.work_pool_name)
    else {
        return Ok(None);
    };
    let pool = client.read_work_pool(&name).await?;
    Ok(if pool.is_paused {
        Some(format!(
            "work pool '{name}' is paused, until `worker pool resume {name}`"
        ))
    } else if pool.status == Some(WorkPoolStatus::NotReady) {
        Some(format!(
            "no worker polls work pool '{name}'; `worker --pool {name}` starts one"
        ))
    } else {
        None
    })
}

/// Shows the log of a flow run until it is in a final state, and gives it then, with how much was shown.
pub(crate) async fn until_over(
    client: &Client,
    id: FlowRunId,
    pace: Duration,
    out: Out,
) -> Result<(FlowRun, Shown), ApiError> {
    let mut shown = Shown::default();
    loop {
        let flow_run = client.read_flow_run(id).await?;
        let over = flow_run
            .state_type
            .as_ref()
            .is_some_and(StateType::is_final);
        // Lines that were sent before the final state are there when it is seen.
        shown.go_on(client, id, out).await?;
        if over {
            return Ok((flow_run, shown));
        }
        tokio::time::sleep(pace).await;
    }
}

/// Says how a flow run ended, and gives the exit code that says the same.
pub(crate) fn conclude(flow_run: &FlowRun, out: Out) -> ExitCode {
    let name = flow_run.state_name.as_deref().unwrap_or("unknown");
    let message = flow_run
        .state
        .as_ref()
        .and_then(|state| state.message.as_deref());
    let shown = out.state(flow_run.state_type.as_ref(), name);
    out.say(&match message {
        Some(message) => format!("Flow run '{}' ended {shown}: {message}", flow_run.name),
        None => format!("Flow run '{}' ended {shown}.", flow_run.name),
    });
    out.json(flow_run);
    if flow_run.state_type == Some(StateType::Completed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests;
