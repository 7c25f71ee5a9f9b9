//! Makes, finds and removes containers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bollard::{
    Docker,
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerSummary,
        ContainerSummaryStateEnum as Listed, NetworkConnectRequest,
    },
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
        RemoveContainerOptions, StartContainerOptions,
    },
};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;

use super::{
    ENGINE, Shared, error, keep, lock,
    plan::{JOB_LABEL, OWNER_LABEL, Plan},
    pull, state, workspace,
};
use crate::{
    driver::{DriverError, Owned, Recovered, Submitted},
    job::{Handle, Owner, Phase, RunKey},
};

/// How many names are tried before one that nobody else has.
const NAMES: usize = 10;

/// How often something is looked at again that should settle at once, and after how long: another container of the same attempt, or one in the state that only
/// Podman has.
const SETTLES: usize = 20;
const SETTLING: Duration = Duration::from_millis(100);

/// How many containers are looked at at the same time.
const LOOKS: usize = 16;

/// Starts an attempt, or finds it.
///
/// Only the waiting for an image ends with the future: what comes after is done in a task of its own, under the attempt's lock, so that whoever drops
/// this and removes the attempt waits for what is on its way.
pub(super) async fn submit(shared: &Arc<Shared>, plan: &Plan) -> Result<Submitted, DriverError> {
    shared.know(&plan.owner);
    lock(&shared.removed).remove(&plan.key);
    if let Some(found) = find(shared, plan).await?
        && has_started(&found)
    {
        return Ok(Submitted::Adopted(handle_of(shared, plan.key, &found)));
    }
    pull::provide(shared, plan).await?;
    // Taken before the task is: whoever removes the attempt from here on waits for it.
    let guard = shared.lock_of(plan.key).await;
    let (answer_tx, answer_rx) = oneshot::channel();
    let (task_shared, plan) = (Arc::clone(shared), plan.clone());
    shared.spawn(async move {
        let answer = make(&task_shared, &plan).await;
        drop(guard);
        // Who asked may have gone.
        answer_tx.send(answer).ok();
    });
    answer_rx.await.unwrap_or_else(|_| {
        Err(DriverError::Unavailable {
            engine: ENGINE,
            reason: "the driver is shutting down".to_owned(),
        })
    })
}

/// Makes and starts the container of an attempt, or finds it, under the attempt's lock.
async fn make(shared: &Arc<Shared>, plan: &Plan) -> Result<Submitted, DriverError> {
    let submitted = match find(shared, plan).await? {
        Some(found) if has_started(&found) => {
            return Ok(Submitted::Adopted(handle_of(shared, plan.key, &found)));
        }
        Some(found) => Submitted::Adopted(handle_of(shared, plan.key, &found)),
        None => create(shared, plan).await?,
    };
    let (Submitted::Created(handle) | Submitted::Adopted(handle)) = &submitted;
    let id = state::container_of(handle);
    match start(shared, plan, id).await {
        Ok(()) => Ok(submitted),
        Err(error) => {
            // An engine that does not answer may have started it.
            if !matches!(error, DriverError::Unavailable { .. })
                && let Err(left) = remove(shared.control()?, id).await
            {
                tracing::warn!(job = %plan.key, error = %left, "could not clean up after a failed start");
            }
            Err(error)
        }
    }
}

/// Creates the container under the first name that is free. Adopted: somebody else was quicker, and it is theirs.
async fn create(shared: &Shared, plan: &Plan) -> Result<Submitted, DriverError> {
    let engine = shared.work()?;
    let body = workspace::with_environment(engine, plan).await?;
    for name in names(plan) {
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            platform: plan.platform.clone().unwrap_or_default(),
        };
        match engine.create_container(Some(options), body.clone()).await {
            Ok(created) => {
                for warning in created.warnings {
                    tracing::warn!(job = %plan.key, warning, "the engine warns of a container");
                }
                return settle(shared, plan, created.id, &name).await;
            }
            Err(error) if error::is_conflict(&error) => {
                if let Some(ours) = find(shared, plan).await? {
                    return Ok(Submitted::Adopted(handle_of(shared, plan.key, &ours)));
                }
            }
            Err(error) if error::is_missing(&error) => {
                return Err(DriverError::NotFound {
                    what: missing_image(&body, &error),
                });
            }
            Err(error) => return Err(error::refusal("container", &error)),
        }
    }
    Err(DriverError::Conflict {
        what: format!("a container named {}", plan.key),
    })
}

/// Two processes that create the same attempt under different names see each other here, and one gives way.
///
/// The first of two may still be overtaken by one that has not seen it and starts. So it waits until the other has given way, and gives way itself if that
/// does not happen: whoever made the other may be gone, and then it is started from here.
async fn settle(
    shared: &Shared,
    plan: &Plan,
    created: String,
    name: &str,
) -> Result<Submitted, DriverError> {
    for turn in 0..SETTLES {
        let mut all = all_of(shared, &plan.owner, plan.key).await?;
        let is_first = all.first().and_then(|one| one.id.as_ref()) == Some(&created);
        all.retain(|one| one.id.as_ref() != Some(&created));
        let Some(other) = all.first() else { break };
        if !is_first || turn + 1 == SETTLES {
            remove(shared.control()?, &created).await?;
            return Ok(Submitted::Adopted(handle_of(shared, plan.key, other)));
        }
        tokio::time::sleep(SETTLING).await;
    }
    let base_url = shared.options.endpoint.base_url();
    let handle = state::handle(&base_url, plan.key, &created, name);
    Ok(Submitted::Created(handle))
}

/// The names to try: as the reference tries them, and at last one that only this attempt can have.
fn names(plan: &Plan) -> impl Iterator<Item = String> {
    let key = plan.key.to_string();
    let numbered = plan.name.iter().flat_map(|name| {
        let more = (1..NAMES).map(move |number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(more)
    });
    numbered.chain(std::iter::once(key))
}

fn missing_image(body: &ContainerCreateBody, error: &bollard::errors::Error) -> String {
    let image = body.image.as_deref().unwrap_or_default();
    let said = error::message(error);
    if said.to_ascii_lowercase().contains("no such image") {
        format!("image '{image}' on the engine (its pull policy lets nobody pull it)")
    } else {
        format!("something that image '{image}' or its container needs ({said})")
    }
}

/// Everything between a container that is made and one that runs.
async fn start(shared: &Shared, plan: &Plan, id: &str) -> Result<(), DriverError> {
    let engine = shared.work()?;
    for network in &plan.more_networks {
        let request = NetworkConnectRequest {
            container: id.to_owned(),
            ..NetworkConnectRequest::default()
        };
        match engine.connect_network(network, request).await {
            Ok(()) => {}
            Err(error) if error::message(&error).contains("already exists in network") => {}
            Err(error) => return Err(error::refusal(&format!("network '{network}'"), &error)),
        }
    }
    workspace::copy(engine, plan, id).await?;
    match engine
        .start_container(id, None::<StartContainerOptions>)
        .await
    {
        Ok(()) => Ok(()),
        Err(error) if error::status(&error) == Some(304) => Ok(()),
        Err(error) => Err(error::refusal("container", &error)),
    }
}

/// What became of an attempt.
pub(super) async fn recover(shared: &Shared, handle: &Handle) -> Result<Recovered, DriverError> {
    let Some(container) = inspect(shared.control()?, state::container_of(handle)).await? else {
        let here = format!("{}:", shared.options.endpoint.base_url());
        if !handle.infrastructure_id.starts_with(&here) {
            let reason = "its container was made on another engine than this worker's".to_owned();
            return Ok(Recovered::Unreachable { reason });
        }
        return Ok(Recovered::Missing);
    };
    let labels = container
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref());
    if state::key_of(labels) != Some(handle.key) {
        return Ok(Recovered::Missing);
    }
    Ok(
        match state::phase(&container, shared.circumstances(handle.key)) {
            Phase::Pending(why) if !shared.is_busy(handle.key) => {
                Recovered::Exited(state::never_started(why))
            }
            Phase::Running | Phase::Pending(_) => Recovered::Running,
            Phase::Exited(outcome) => Recovered::Exited(outcome),
        },
    )
}

/// Removes every container of an attempt, whatever its phase.
pub(super) async fn destroy(shared: &Shared, key: RunKey) -> Result<(), DriverError> {
    lock(&shared.removed).insert(key);
    let guard = shared.lock_of(key).await;
    let engine = shared.control()?;
    for container in list(engine, &[(JOB_LABEL, &key.to_string())]).await? {
        let owner = state::owner_of(container.labels.as_ref());
        let known = lock(&shared.owners).clone();
        // Another worker may have made an attempt of the same number at the same flow run.
        let is_ours = known.is_empty() || owner.is_some_and(|owner| known.contains(&owner));
        let id = container.id.as_deref().unwrap_or_default();
        if is_ours && !keep::is_kept(&container) && !keep::keep(shared, key, id).await? {
            remove(shared.work()?, id).await?;
        }
    }
    drop(guard);
    shared.forget(key);
    Ok(())
}

/// Everything of an owner.
pub(super) async fn list_owned(
    shared: &Arc<Shared>,
    owner: &Owner,
) -> Result<Vec<Owned>, DriverError> {
    let engine = shared.control()?;
    let mut of_key: HashMap<RunKey, ContainerSummary> = HashMap::new();
    for container in list(engine, &[(OWNER_LABEL, &owner.0)]).await? {
        let Some(key) = state::key_of(container.labels.as_ref()) else {
            continue;
        };
        if keep::is_kept(&container) {
            let id = container.id.as_deref().unwrap_or_default();
            // One that cannot be removed must not hide the others.
            if let Err(error) = keep::review(shared, id).await {
                tracing::warn!(container = id, %error, "cannot remove a container that was kept");
            }
            continue;
        }
        // Of two that one attempt has, the one that was never started only waits to be removed.
        let better = of_key.get(&key).is_none_or(|known| !has_started(known));
        if better {
            of_key.insert(key, container);
        }
    }
    let looks = of_key.into_iter().map(|(key, container)| {
        let handle = handle_of(shared, key, &container);
        async move {
            let phase = look(shared, key, &container).await?;
            Ok(phase.map(|phase| Owned { handle, phase }))
        }
    });
    let looks = stream::iter(looks).buffer_unordered(LOOKS);
    looks
        .try_filter_map(|owned| async { Ok(owned) })
        .try_collect()
        .await
}

/// The phase of a listed container. A list does not say how one has ended. None: it is gone by now.
async fn look(
    shared: &Shared,
    key: RunKey,
    container: &ContainerSummary,
) -> Result<Option<Phase>, DriverError> {
    match container.state {
        Some(Listed::CREATED) => Ok(Some(Phase::Pending(None))),
        Some(Listed::RUNNING | Listed::PAUSED | Listed::RESTARTING) => Ok(Some(Phase::Running)),
        _ => {
            let id = container.id.as_deref().unwrap_or_default();
            phase_of(shared, key, id).await
        }
    }
}

/// The phase of a container. None: the engine does not have it.
pub(super) async fn phase_of(
    shared: &Shared,
    key: RunKey,
    container: &str,
) -> Result<Option<Phase>, DriverError> {
    let found = inspect(shared.control()?, container).await?;
    Ok(found.map(|container| state::phase(&container, shared.circumstances(key))))
}

/// One container. None: the engine does not have it.
pub(super) async fn inspect(
    engine: &Docker,
    id: &str,
) -> Result<Option<ContainerInspectResponse>, DriverError> {
    let inspected = once_settled(|| engine.inspect_container(id, None::<InspectContainerOptions>));
    match inspected.await {
        Ok(container) => Ok(Some(container)),
        Err(error) if error::is_missing(&error) => Ok(None),
        Err(error) => Err(error::unavailable(&error)),
    }
}

/// The container of an attempt: one that was started, if there is one, else the oldest.
async fn find(shared: &Shared, plan: &Plan) -> Result<Option<ContainerSummary>, DriverError> {
    let all = all_of(shared, &plan.owner, plan.key).await?;
    Ok(all.into_iter().next())
}

/// Whether an attempt has a container besides this one.
pub(super) async fn has_another(
    shared: &Shared,
    owner: &Owner,
    key: RunKey,
    container: &str,
) -> Result<bool, DriverError> {
    let all = all_of(shared, owner, key).await?;
    Ok(all.iter().any(|one| one.id.as_deref() != Some(container)))
}

/// All containers of an attempt: those that were started first, then by age.
async fn all_of(
    shared: &Shared,
    owner: &Owner,
    key: RunKey,
) -> Result<Vec<ContainerSummary>, DriverError> {
    let key = key.to_string();
    let labels = [(JOB_LABEL, key.as_str()), (OWNER_LABEL, owner.0.as_str())];
    let mut found = list(shared.control()?, &labels).await?;
    found.retain(|one| !keep::is_kept(one));
    found.sort_by_key(|one| (!has_started(one), one.created, one.id.clone()));
    Ok(found)
}

async fn list(
    engine: &Docker,
    labels: &[(&str, &str)],
) -> Result<Vec<ContainerSummary>, DriverError> {
    let labels = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), labels)])),
        ..ListContainersOptions::default()
    };
    let listed = once_settled(|| engine.list_containers(Some(options.clone())));
    let listed = listed.await;
    listed.map_err(|error| error::unavailable(&error))
}

/// Asks again as long as a container is in the state that only Podman has, between the end of its process and its own.
async fn once_settled<T, F>(ask: impl Fn() -> F) -> Result<T, bollard::errors::Error>
where
    F: Future<Output = Result<T, bollard::errors::Error>>,
{
    for _ in 0..SETTLES {
        match ask().await {
            Err(error) if error::message(&error).contains("variant `stopped`") => {
                tokio::time::sleep(SETTLING).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// Removes a container with the volumes that nobody named, and waits until it is gone.
pub(super) async fn remove(engine: &Docker, id: &str) -> Result<(), DriverError> {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        link: false,
    };
    match engine.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if error::is_done_already(&error) => Ok(()),
        Err(error) => Err(error::unavailable(&error)),
    }
}

fn has_started(container: &ContainerSummary) -> bool {
    !matches!(container.state, Some(Listed::CREATED))
}

fn handle_of(shared: &Shared, key: RunKey, container: &ContainerSummary) -> Handle {
    let id = container.id.as_deref().unwrap_or_default();
    let name = container.names.iter().flatten().next();
    let name = name.map(String::as_str).unwrap_or_default();
    state::handle(&shared.options.endpoint.base_url(), key, id, name)
}
