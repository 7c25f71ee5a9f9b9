//! How much room there is on the disks of workspaces and state: looked at here, and told to the loop, which decides.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;

use crate::{event::Event, metrics::Metrics, task};

/// How often it is looked at. What fills a disk faster than that is caught by the write that fails.
const INTERVAL: Duration = Duration::from_secs(5);

/// The directories whose disks matter.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    /// Where journal and jobs are.
    pub(crate) state: PathBuf,
    /// Where workspaces are.
    pub(crate) workspaces: PathBuf,
}

/// What one disk has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// What is on it: `state`, `workspaces`.
    pub(crate) what: &'static str,
    /// Where that is.
    pub(crate) directory: PathBuf,
    /// How many bytes this user may still write.
    pub(crate) free: u64,
    /// How many bytes it has in all.
    pub(crate) whole: u64,
}

// === impl Disks ===

impl Disks {
    /// Looks once. A disk that cannot be looked at is left out: that alone is no reason to stop.
    pub(crate) async fn look(&self) -> Vec<Space> {
        let Self { state, workspaces } = self.clone();
        task::blocking(move || {
            let disks = [("state", state), ("workspaces", workspaces)];
            let spaces = disks.into_iter().map(|(what, path)| space(what, path));
            spaces.flatten().collect()
        })
        .await
    }

    /// Looks for as long as there is somebody to tell.
    pub(crate) async fn watch(self, metrics: Arc<Metrics>, events_tx: mpsc::Sender<Event>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let spaces = self.look().await;
            metrics.disks(&spaces);
            if events_tx.send(Event::Disks(spaces)).await.is_err() {
                return;
            }
        }
    }
}

// === functions ===

/// Looks at the disk that a directory is on, or will be.
pub(crate) fn space(what: &'static str, directory: PathBuf) -> Option<Space> {
    // What is not there yet will be made on the disk of what is.
    let there = directory.ancestors().find(|path| path.exists());
    let found = match statvfs(there.unwrap_or_else(|| Path::new("/"))) {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, directory = %directory.display(), "cannot see how much room there is");
            return None;
        }
    };
    let block = found.fragment_size();
    Some(Space {
        what,
        directory,
        free: found.blocks_available().saturating_mul(block),
        whole: found.blocks().saturating_mul(block),
    })
}
