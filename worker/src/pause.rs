//! Whether this worker is paused: a file in its directory says it, so that it outlives the process. `worker pause` writes it, `worker resume`
//! removes it, and a worker that runs looks for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::{event::Event, metrics::Metrics, task};

/// How often the file is looked for. It is what somebody waits who pauses a worker.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file's name in the directory of a worker.
const FILE: &str = "paused";

/// What looks for the file.
#[derive(Debug)]
pub(crate) struct Pause {
    file: PathBuf,
    /// Why nothing is claimed, while that is so.
    reason: Option<String>,
}

/// Pauses the worker of a directory. False: it was paused already.
pub(crate) fn pause(directory: &Path) -> io::Result<bool> {
    let file = directory.join(FILE);
    if file.try_exists()? {
        return Ok(false);
    }
    fs::write(file, format!("{:.0}\n", Timestamp::now())).map(|()| true)
}

/// Resumes the worker of a directory. False: it was not paused.
pub(crate) fn resume(directory: &Path) -> io::Result<bool> {
    match fs::remove_file(directory.join(FILE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why the worker of a directory claims nothing, if it is paused.
pub(crate) fn find_reason(directory: &Path) -> io::Result<Option<String>> {
    read(&directory.join(FILE))
}

// === impl Pause ===

impl Pause {
    /// What is so when a worker begins.
    pub(crate) async fn look_in(directory: &Path, metrics: &Metrics) -> Self {
        let mut pause = Self {
            file: directory.join(FILE),
            reason: None,
        };
        pause.look(metrics).await;
        pause
    }

    /// Why nothing is to be claimed.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.clone()
    }

    /// Looks for as long as there is somebody to tell.
    pub(crate) async fn watch(
        mut self,
        metrics: Arc<Metrics>,
        soon: Arc<Notify>,
        events_tx: mpsc::Sender<Event>,
    ) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if !self.look(&metrics).await {
                continue;
            }
            if events_tx.send(Event::Paused(self.reason())).await.is_err() {
                return;
            }
            if self.reason.is_none() {
                // What became due meanwhile was not asked for.
                soon.notify_one();
            }
        }
    }

    /// Looks once; whether something has changed. A file that cannot be looked for is as it was.
    async fn look(&mut self, metrics: &Metrics) -> bool {
        let file = self.file.clone();
        let Ok(reason) = task::blocking(move || read(&file)).await else {
            return false;
        };
        if reason == self.reason {
            return false;
        }
        if let Some(reason) = &reason {
            tracing::warn!(reason, "claiming nothing; what runs goes on");
        } else {
            tracing::info!("this worker was resumed");
        }
        metrics.paused(reason.is_some());
        self.reason = reason;
        true
    }
}

// === functions ===

fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(since) => {
            // Somebody may have made the file by hand, with anything in it.
            let since = since.trim().parse::<Timestamp>().ok();
            let since = since.map_or_else(String::new, |since| format!(" since {since}"));
            Ok(Some(format!(
                "this worker is paused{since}, until `worker resume`"
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_until_somebody_ends_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let reason = || find_reason(directory.path()).expect("it is readable");
        assert_eq!(reason(), None);
        assert!(pause(directory.path()).expect("it is writable"));
        assert!(!pause(directory.path()).expect("it is writable"));
        assert!(reason().is_some_and(|reason| reason.contains("paused since 2")));
        assert!(resume(directory.path()).expect("it is writable"));
        assert!(!resume(directory.path()).expect("it is writable"));
        assert_eq!(reason(), None);
        fs::write(directory.path().join(FILE), "for the night").expect("writable");
        assert!(reason().is_some_and(|reason| reason.contains("is paused,")));
    }
}
