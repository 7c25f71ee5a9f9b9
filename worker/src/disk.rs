//! How much room there is on the disks of workspaces and state: looked at here, and told to the loop, which decides.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;

use crate::{event::Event, metrics::Metrics, task};

/// How often it is looked at. What fills a disk faster than that is caught by the write that fails.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a disk may take to answer. One that is mounted from another machine may be silent for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The disks that matter, and what was last seen of them.
pub(crate) struct Disks {
    /// What is where: the state with journal and jobs, and workspaces.
    directories: [(&'static str, PathBuf); 2],
    seen: Vec<Space>,
    /// A look that was not answered yet. There is no second one beside it, as each may hold a thread for ever.
    looking: Option<BoxFuture<'static, Vec<Space>>>,
    silent: bool,
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
    /// Those of the state directory and of workspaces.
    pub(crate) fn new(state: PathBuf, workspaces: PathBuf) -> Self {
        Self {
            directories: [("state", state), ("workspaces", workspaces)],
            seen: Vec::new(),
            looking: None,
            silent: false,
        }
    }

    /// Looks once. A disk that cannot be looked at is as it was last seen: that alone is a reason neither to stop nor to go on.
    pub(crate) async fn look(&mut self) -> Vec<Space> {
        let directories = self.directories.clone();
        let mut looking = self.looking.take().unwrap_or_else(|| {
            let look = move || {
                directories
                    .into_iter()
                    .filter_map(|(what, path)| space(what, path))
                    .collect()
            };
            Box::pin(task::blocking(look))
        });
        let looked = tokio::time::timeout(PATIENCE, &mut looking).await;
        if self.silent != looked.is_err() {
            self.silent = looked.is_err();
            let [(_, state), (_, workspaces)] = &self.directories;
            let (state, workspaces) = (state.display(), workspaces.display());
            if self.silent {
                tracing::warn!(%state, %workspaces, "a disk does not answer; whether it has room is not known");
            } else {
                tracing::info!(%state, %workspaces, "the disks answer again");
            }
        }
        match looked {
            Ok(found) => self.remember(found),
            Err(_elapsed) => self.looking = Some(looking),
        }
        self.seen.clone()
    }

    fn remember(&mut self, found: Vec<Space>) {
        for space in found {
            match self.seen.iter_mut().find(|seen| seen.what == space.what) {
                Some(seen) => *seen = space,
                None => self.seen.push(space),
            }
        }
    }

    /// Looks for as long as there is somebody to tell.
    pub(crate) async fn watch(mut self, metrics: Arc<Metrics>, events_tx: mpsc::Sender<Event>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn low(what: &'static str) -> Space {
        Space {
            what,
            directory: PathBuf::from("/state"),
            free: 1,
            whole: 100,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_as_it_was_and_is_asked_once() {
        let mut disks = Disks::new("/state".into(), "/workspaces".into());
        disks.remember(vec![low("state")]);
        disks.looking = Some(Box::pin(std::future::pending()));
        assert_eq!(disks.look().await, [low("state")]);
        assert!(disks.looking.is_some(), "the first look goes on");
    }

    #[test]
    fn a_disk_that_cannot_be_looked_at_is_as_it_was() {
        let mut disks = Disks::new("/state".into(), "/workspaces".into());
        disks.remember(vec![low("state")]);
        disks.remember(vec![low("workspaces")]);
        assert_eq!(disks.seen, [low("state"), low("workspaces")]);
    }
}
