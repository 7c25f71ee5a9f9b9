//! Gets images to the engine: when the pull policy says so, once for all who wait for the same one, and with word of how far it is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{
    auth::DockerCredentials, models::CreateImageInfo, query_parameters::CreateImageOptions,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared as SharedFuture, WeakShared},
    stream::StreamExt as _,
};
use tokio::sync::watch;

use super::{
    Shared, error,
    image::{self, PullPolicy},
    lock,
    plan::Plan,
    registry,
    watch::Notice,
};
use crate::driver::DriverError;

/// How long a registry may say nothing before a pull is given up: a big layer comes in many small steps, each of which is told.
const NO_PROGRESS: Duration = Duration::from_mins(2);

/// How often those who wait are told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A pull that is on its way, for others to join.
pub(super) struct Pulling {
    image: String,
    platform: Option<String>,
    credentials: Option<DockerCredentials>,
    done: WeakShared<BoxFuture<'static, Result<(), Failure>>>,
    progress_rx: watch::Receiver<String>,
}

/// Why a pull failed, for each of those who waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Missing(String),
    Denied(String),
    Full(String),
    Unavailable(String),
}

type Done = SharedFuture<BoxFuture<'static, Result<(), Failure>>>;

/// Sees to it that the engine has the image of a plan, as far as its pull policy lets us.
pub(super) async fn provide(shared: &Arc<Shared>, plan: &Plan) -> Result<(), DriverError> {
    match plan.pull_policy {
        PullPolicy::Never => Ok(()),
        PullPolicy::IfNotPresent if is_there(shared, plan).await? => Ok(()),
        PullPolicy::IfNotPresent | PullPolicy::Always => pull(shared, plan).await,
        PullPolicy::IfPossible => {
            let Err(error) = pull(shared, plan).await else {
                return Ok(());
            };
            if !is_there(shared, plan).await? {
                return Err(error);
            }
            tracing::warn!(image = plan.image, %error, "the image was not pulled; the engine's own is used");
            tell(
                shared,
                plan,
                format!("{error}; the image that the engine has is used"),
            );
            Ok(())
        }
    }
}

async fn is_there(shared: &Shared, plan: &Plan) -> Result<bool, DriverError> {
    match shared.control()?.inspect_image(&plan.image).await {
        Ok(_) => Ok(true),
        Err(error) if error::is_missing(&error) => Ok(false),
        Err(error) => Err(error::unavailable(&error)),
    }
}

/// Pulls, or waits for a pull of the same that is on its way.
async fn pull(shared: &Arc<Shared>, plan: &Plan) -> Result<(), DriverError> {
    let credentials = registry::credentials(shared, plan).await?;
    let (done, mut progress_rx) = join_or_begin(shared, plan, credentials);
    tell(shared, plan, format!("pulling image '{}'", plan.image));
    let mut told = Instant::now();
    tokio::pin!(done);
    loop {
        tokio::select! {
            result = &mut done => {
                return result.map_err(|failure| failure.into_error(&plan.image));
            }
            changed = progress_rx.changed() => {
                if changed.is_err() {
                    // It is done in a moment.
                    return done.await.map_err(|failure| failure.into_error(&plan.image));
                }
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let progress = progress_rx.borrow_and_update().clone();
                    tell(shared, plan, format!("pulling image '{}': {progress}", plan.image));
                }
            }
        }
    }
}

fn join_or_begin(
    shared: &Arc<Shared>,
    plan: &Plan,
    credentials: Option<DockerCredentials>,
) -> (Done, watch::Receiver<String>) {
    let mut pulls = lock(&shared.pulls);
    pulls.retain(|one| one.done.upgrade().is_some_and(|done| done.peek().is_none()));
    let same = pulls.iter().find(|one| {
        one.image == plan.image && one.platform == plan.platform && one.credentials == credentials
    });
    if let Some(one) = same
        && let Some(done) = one.done.upgrade()
    {
        return (done, one.progress_rx.clone());
    }
    let (progress_tx, progress_rx) = watch::channel(String::new());
    let work = transfer(
        Arc::clone(shared),
        plan.image.clone(),
        plan.platform.clone(),
        credentials.clone(),
        progress_tx,
    );
    let done = work.boxed().shared();
    if let Some(weak) = done.downgrade() {
        pulls.push(Pulling {
            image: plan.image.clone(),
            platform: plan.platform.clone(),
            credentials,
            done: weak,
            progress_rx: progress_rx.clone(),
        });
    }
    (done, progress_rx)
}

/// The pull itself. It ends when the last of those who wait for it goes.
async fn transfer(
    shared: Arc<Shared>,
    image: String,
    platform: Option<String>,
    credentials: Option<DockerCredentials>,
    progress_tx: watch::Sender<String>,
) -> Result<(), Failure> {
    let options = CreateImageOptions {
        from_image: Some(image.clone()),
        platform: platform.unwrap_or_default(),
        ..CreateImageOptions::default()
    };
    let engine = shared
        .work()
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let mut steps = engine
        .create_image(Some(options), None, credentials)
        .boxed();
    let mut layers = Layers::default();
    loop {
        let step = tokio::time::timeout(NO_PROGRESS, steps.next()).await;
        match step {
            Err(_) => {
                return Err(Failure::Unavailable(format!(
                    "the registry sent nothing for {} s",
                    NO_PROGRESS.as_secs()
                )));
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(Failure::of(&error::message(&error))),
            Ok(Some(Ok(step))) => {
                // An error comes as a line like any other, after the engine has said 200.
                if let Some(message) = step
                    .error_detail
                    .as_ref()
                    .and_then(|it| it.message.as_ref())
                {
                    return Err(Failure::of(message));
                }
                layers.take(step);
                progress_tx.send_replace(layers.to_string());
            }
        }
    }
}

/// Tells who waits for a job what it waits for.
fn tell(shared: &Shared, plan: &Plan, waits_for: String) {
    let notice = Notice {
        owner: plan.owner.clone(),
        key: plan.key,
        waits_for,
    };
    // Nobody need listen.
    shared.notices.send(notice).ok();
}

// === impl Failure ===

impl Failure {
    /// Engines say all of it with status 500 or within the stream, so only the words tell.
    fn of(message: &str) -> Self {
        let lower = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let message = message.trim().to_owned();
        if says(&["no space left on device", "disk quota exceeded"]) {
            Self::Full(message)
        } else if says(&[
            "unauthorized",
            "authentication required",
            "no basic auth",
            "access denied",
            "access forbidden",
            "denied:",
            "incorrect username or password",
        ]) {
            Self::Denied(message)
        } else if says(&[
            "manifest unknown",
            "not found",
            "no matching manifest",
            "invalid reference format",
            "repository name not known",
            "name unknown",
        ]) {
            Self::Missing(message)
        } else {
            Self::Unavailable(message)
        }
    }

    fn into_error(self, image: &str) -> DriverError {
        let registry = image::registry(image);
        match self {
            Self::Missing(reason) => DriverError::NotFound {
                what: format!("image '{image}' in registry {registry} ({reason})"),
            },
            Self::Denied(reason) => DriverError::Denied {
                what: format!("pulling image '{image}'"),
                reason: format!("registry {registry} says: {reason}"),
            },
            Self::Full(reason) => DriverError::Quota {
                reason: format!(
                    "the engine's disk is full while it pulls image '{image}' ({reason})"
                ),
                retry_after: None,
            },
            Self::Unavailable(reason) => DriverError::Unavailable {
                engine: "image registry",
                reason: format!("image '{image}' cannot be pulled from {registry}: {reason}"),
            },
        }
    }
}

/// How far a pull is, layer by layer.
#[derive(Default)]
struct Layers {
    /// Bytes there and bytes in all.
    sizes: BTreeMap<String, (i64, i64)>,
    done: usize,
}

// === impl Layers ===

impl Layers {
    fn take(&mut self, step: CreateImageInfo) {
        let Some(id) = step.id else { return };
        match step.status.as_deref() {
            Some("Downloading") => {
                let detail = step.progress_detail.unwrap_or_default();
                let size = (detail.current.unwrap_or(0), detail.total.unwrap_or(0));
                self.sizes.insert(id, size);
            }
            Some("Pull complete" | "Already exists") => self.done += 1,
            Some("Download complete") => {
                if let Some((there, all)) = self.sizes.get_mut(&id) {
                    *there = *all;
                }
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = |pick: fn(&(i64, i64)) -> i64| self.sizes.values().map(pick).sum::<i64>() >> 20;
        let (there, all) = (sum(|size| size.0), sum(|size| size.1));
        write!(f, "{there} of {all} MiB, layers complete: {}", self.done)
    }
}

#[cfg(test)]
mod tests;
