//! What an earlier process of this worker left behind, and what is to be done with it.
//!
//! What the journal holds is continued. What the engine holds and the journal does not (the journal was lost, or a removal failed) is continued
//! if its flow run is not over, else removed: at the start, and later when two looks in a row have found it so. Nothing of other workers is looked at, and what
//! the API does not know is left alone.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use worker_api::{
    ApiError,
    types::{Deployment, FlowRun, FlowRunId, StateType, TransitionId},
};
use worker_drivers::{Handle, Owned, Phase, RunKey};

use crate::{
    claim::{self, Last},
    event::Event,
    journal::{Entry, Reporter, Step},
    patience::Patience,
    report,
    services::Services,
    site, task,
    telemetry::chain,
};

/// What a look for infrastructure that nobody looks after is done with.
pub(crate) struct Janitor {
    /// What it looks with.
    pub(crate) services: Arc<Services>,
    /// How it says what is to be watched again.
    pub(crate) events_tx: mpsc::Sender<Event>,
    /// Time between two looks.
    pub(crate) interval: Duration,
    /// Whether it only says what it would remove.
    pub(crate) dry_run: bool,
}

/// How many leftovers are dealt with at once. An engine that is slow with all of them is not asked for more.
const AT_ONCE: usize = 8;

/// How long one of them may take: longer than an engine has for each call. What is not done by then is taken up again by the next look.
const LEFTOVER_LIMIT: Duration = Duration::from_mins(2);

/// What a look found out about something that the journal does not know.
enum Found {
    /// Its flow run goes on: it is to be watched.
    Alive(Box<Entry>),
    /// Its flow run is over.
    Over,
    /// The API does not know its flow run. A worker of the same name for another API may have made it.
    Unknown,
}

/// What is known beside a job that has ended, to tell whose attempt it was.
struct Beside<'a> {
    /// This worker.
    worker: &'a str,
    /// The last attempt at the flow run that the journal has ever had.
    known: Option<u32>,
    /// All jobs without an entry.
    orphans: &'a [Owned],
    last: Last,
}

// === impl Beside ===

impl Beside<'_> {
    /// Whether a job that has ended is of an attempt that was reported, or that the flow run has left behind. The end of any other is still to
    /// be told. Which infrastructure the flow run names is no proof: that is written after a job was begun, or never. Pure.
    fn is_left_behind(&self, handle: &Handle, flow_run: &FlowRun) -> bool {
        let RunKey {
            flow_run: id,
            attempt,
        } = handle.key;
        // Its entry was removed, which follows its report.
        let reported = self.known.is_some_and(|known| attempt <= known);
        let newer = |other: &Owned| {
            let key = other.handle.key;
            key.flow_run == id && key.attempt > attempt
        };
        // An attempt has a higher number than there were runs at its claim. The server counts a run as it begins (3.8.8), those inside of one job too.
        let runs_at_claim = flow_run.run_count.saturating_sub(self.last.runs_since);
        // Of several attempts that have not run, the count cannot tell which is the last.
        let named = self.last.claimed_before
            && report::may_be_anothers(self.worker, Some(handle), flow_run);
        reported || attempt <= runs_at_claim || self.orphans.iter().any(newer) || named
    }
}

// === impl Janitor ===

impl Janitor {
    /// Looks after infrastructure without a journal entry, and after workspaces without infrastructure: after the start, when nothing can be on its way that
    /// is not in the journal, and then now and then until its owner drops it. What is an orphan is decided by the journal as it is then.
    pub(crate) async fn keep_house(self) {
        let services = &self.services;
        let owned = list_owned(services).await;
        let with_jobs = owned.iter().map(|one| one.handle.key).collect();
        sweep_workspaces(services, with_jobs).await;
        let mut left_alone = HashSet::new();
        let mut suspects = self.orphans_of(owned).await;
        if !suspects.is_empty() {
            suspects = self.look_again(suspects, &mut left_alone).await;
        }
        loop {
            tokio::time::sleep(self.interval).await;
            suspects = self.look_again(suspects, &mut left_alone).await;
        }
    }

    /// Deals with what was without a journal entry at the last look and is so still; what is so now.
    ///
    /// What a life removed meanwhile is in the older list only. A life forgets what it has removed, never the other way round.
    async fn look_again(
        &self,
        suspects: Vec<Owned>,
        left_alone: &mut HashSet<RunKey>,
    ) -> Vec<Owned> {
        let owned = list_owned(&self.services).await;
        let orphans = self.orphans_of(owned).await;
        let was_one = |key| suspects.iter().any(|one| one.handle.key == key);
        let due = orphans.iter().filter(|orphan| {
            let key = orphan.handle.key;
            was_one(key) && !left_alone.contains(&key)
        });
        let dealing: Vec<_> = due
            .map(|orphan| self.deal_with_soon(orphan, &orphans))
            .collect();
        let dealt = stream::iter(dealing).buffer_unordered(AT_ONCE);
        let alone: Vec<RunKey> = dealt.filter_map(std::future::ready).collect().await;
        left_alone.extend(alone);
        orphans
    }

    /// What the journal does not know.
    async fn orphans_of(&self, owned: Vec<Owned>) -> Vec<Owned> {
        let mut orphans = Vec::new();
        for one in owned {
            // A journal that is gone ends the worker.
            let held = self.services.journal.holds(one.handle.key).await;
            if !held.unwrap_or(true) {
                orphans.push(one);
            }
        }
        orphans
    }

    /// Deals with one leftover, unless that takes too long. It may be dropped at any point: what has not come about by then is a leftover still.
    async fn deal_with_soon(&self, orphan: &Owned, orphans: &[Owned]) -> Option<RunKey> {
        let dealing = Box::pin(self.deal_with(orphan, orphans));
        timeout(LEFTOVER_LIMIT, dealing).await.unwrap_or_else(|_| {
            let key = orphan.handle.key;
            tracing::warn!(flow_run = %key.flow_run, job = orphan.handle.infrastructure_id, "a job that was left cannot be dealt with now");
            None
        })
    }

    /// Gives the key of one that is left alone from now on.
    async fn deal_with(&self, orphan: &Owned, orphans: &[Owned]) -> Option<RunKey> {
        let handle = &orphan.handle;
        let id = FlowRunId(handle.key.flow_run);
        let job = &handle.infrastructure_id;
        match find_out(&self.services, orphan, orphans).await {
            Found::Alive(entry) => {
                tracing::info!(flow_run = %id, job, "taking up a job that the journal does not know");
                // When the loop is gone there is nobody to watch it.
                drop(self.events_tx.send(Event::Recovered(vec![*entry])).await);
                None
            }
            Found::Over if self.dry_run => {
                tracing::info!(flow_run = %id, job, "a job whose flow run is over would be removed (janitor_dry_run)");
                Some(handle.key)
            }
            Found::Over => {
                tracing::info!(flow_run = %id, job, "removing a job whose flow run is over");
                if let Err(error) = self.services.driver.destroy(handle.key).await {
                    tracing::warn!(flow_run = %id, error = %chain(&error), "cannot remove it now");
                }
                None
            }
            Found::Unknown => {
                tracing::warn!(flow_run = %id, job, "a job bears this worker's name, and the API does not know its flow run; it is left alone");
                Some(handle.key)
            }
        }
    }
}

// === functions ===

async fn list_owned(services: &Services) -> Vec<Owned> {
    let mut patience = Patience::new();
    loop {
        match services.driver.list_owned(&services.identity.owner).await {
            Ok(owned) => return owned,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot see yet what an earlier process left");
                patience.wait().await;
            }
        }
    }
}

/// Removes workspaces of attempts that neither the journal nor the engine knows.
async fn sweep_workspaces(services: &Services, with_jobs: HashSet<RunKey>) {
    let workspaces = services.state_dir.workspaces();
    let found = task::blocking(move || {
        let names = std::fs::read_dir(workspaces)
            .into_iter()
            .flatten()
            .flatten();
        names.map(|entry| entry.path()).collect::<Vec<_>>()
    });
    for path in found.await {
        let key = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<RunKey>().ok());
        let in_use = match key {
            Some(key) => {
                with_jobs.contains(&key) || services.journal.holds(key).await.unwrap_or(true)
            }
            // Nobody makes anything else here.
            None => false,
        };
        if !in_use {
            task::blocking(move || {
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(%error, workspace = %path.display(), "cannot remove a workspace that was left behind");
                }
            })
            .await;
        }
    }
}

/// Asks the API what a job that the journal does not know belongs to.
async fn find_out(services: &Services, orphan: &Owned, orphans: &[Owned]) -> Found {
    let handle = &orphan.handle;
    let id = FlowRunId(handle.key.flow_run);
    let mut patience = Patience::new();
    let flow_run = loop {
        match services.client.read_flow_run(id).await {
            Ok(flow_run) => break flow_run,
            Err(error) if error.is_not_found() => return Found::Unknown,
            Err(error) => {
                tracing::warn!(flow_run = %id, error = %chain(&error), "cannot ask what a job that was left belongs to");
                patience.wait().await;
            }
        }
    };
    if flow_run
        .state_type
        .as_ref()
        .is_some_and(StateType::is_final)
    {
        return Found::Over;
    }
    let last = last_claim(services, id).await;
    if matches!(orphan.phase, Phase::Exited(_)) {
        // A journal that is gone ends the worker.
        let known = services.journal.last_attempt(handle.key.flow_run).await;
        let beside = Beside {
            worker: &services.identity.worker,
            known: known.unwrap_or(None),
            orphans,
            last,
        };
        if beside.is_left_behind(handle, &flow_run) {
            return Found::Over;
        }
    }
    let (reporter, shown) = find_manner(services, &flow_run).await;
    Found::Alive(Box::new(Entry {
        key: handle.key,
        reporter,
        name: flow_run.name,
        // Nobody's, by which no other is ours.
        transition: last.transition.unwrap_or_else(TransitionId::random),
        step: Step::Submitted,
        handle: Some(handle.clone()),
        lease: None,
        told: None,
        trace: None,
        // Lost with the entry as well; it was not later than this.
        claimed: flow_run
            .start_time
            .or(flow_run.expected_start_time)
            .unwrap_or_else(Timestamp::now),
        workspace: None,
        // How much of it was sent is lost with the entry: better twice than never.
        output: worker_drivers::LogCursor::default(),
        shown,
    }))
}

/// The last claim of a flow run: by it is told now and later whether a newer attempt has it.
async fn last_claim(services: &Services, id: FlowRunId) -> Last {
    let mut patience = Patience::new();
    loop {
        match claim::last(services, id).await {
            Ok(last) => return last,
            Err(error) if error.is_not_found() => return Last::default(),
            Err(error) => {
                tracing::warn!(flow_run = %id, error = %chain(&error), "cannot ask who had claimed the flow run of a job that was left");
                patience.wait().await;
            }
        }
    }
}

/// Who tells how a flow run went whose entry is lost, and whether its output is shown, by what people wrote of it.
async fn find_manner(services: &Services, flow_run: &FlowRun) -> (Reporter, bool) {
    let mut patience = Patience::new();
    loop {
        match ask_for_manner(services, flow_run).await {
            Ok(manner) => return manner,
            // Nobody knows any more. The engine's rules only ever report what is missing.
            Err(error) if error.is_not_found() => return (Reporter::Engine, false),
            Err(error) => {
                tracing::warn!(flow_run = %flow_run.id, error = %chain(&error), "cannot ask what a job that was left is");
                patience.wait().await;
            }
        }
    }
}

async fn ask_for_manner(
    services: &Services,
    flow_run: &FlowRun,
) -> Result<(Reporter, bool), ApiError> {
    let client = &services.client;
    let pool = client.read_work_pool(&services.identity.pool).await?;
    let deployment = match flow_run.deployment_id {
        Some(id) => Some(client.read_deployment(id).await?),
        None => None,
    };
    let template = &pool.base_job_template;
    Ok(manner(flow_run, deployment.as_ref(), template))
}

/// The flow run's job variables count before the deployment's, and those before the pool's defaults.
fn manner(
    flow_run: &FlowRun,
    deployment: Option<&Deployment>,
    template: &Value,
) -> (Reporter, bool) {
    let variable = |name: &str| {
        let of_flow_run = flow_run.job_variables.as_ref();
        of_flow_run
            .and_then(|variables| variables.get(name))
            .or_else(|| deployment?.job_variables.get(name))
            .or_else(|| template["variables"]["properties"][name].get("default"))
    };
    let reporter = site::reporter(deployment, variable);
    let silent = variable("stream_output") == Some(&Value::Bool(false));
    (reporter, reporter != Reporter::Engine && !silent)
}

#[cfg(test)]
mod tests;
