//! Settings that were read again: what of them may change while workers run, and what has to wait for the next start. Pure.

use worker_config::settings::{Difference, Settings, WorkerSettings};

/// What becomes of settings that were read again.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// What holds from now on: the new settings where they may change, the old ones elsewhere.
    pub(crate) settings: Settings,
    /// What has changed.
    pub(crate) taken: Vec<Difference>,
    /// What will change with the next start.
    pub(crate) waiting: Vec<Difference>,
}

/// Takes over what may change while workers run. Whatever a part reads once when it is made may not.
pub(crate) fn take_over(old: &Settings, new: &Settings) -> Reloaded {
    let mut settings = old.clone();
    take_over_worker(&mut settings.worker, &new.worker);
    for own in &mut settings.pools {
        if let Some(wanted) = new.pools.iter().find(|wanted| wanted.pool == own.pool) {
            take_over_worker(own, wanted);
        }
    }
    settings.pull.disk_floor = new.pull.disk_floor;
    settings.policy.clone_from(&new.policy);
    settings.logging.level.clone_from(&new.logging.level);
    Reloaded {
        taken: old.differences(&settings),
        waiting: settings.differences(new),
        settings,
    }
}

fn take_over_worker(now: &mut WorkerSettings, wanted: &WorkerSettings) {
    now.limit = wanted.limit;
    now.start_concurrency = wanted.start_concurrency;
    now.prefetch = wanted.prefetch;
    now.query_interval = wanted.query_interval;
    now.cancellation_interval = wanted.cancellation_interval;
    now.stop_grace = wanted.stop_grace;
}

// === impl Reloaded ===

impl Reloaded {
    /// Says in one line what has changed, and what only a restart changes.
    pub(crate) fn tell(&self) {
        let (changed, needs_restart) = (list(&self.taken), list(&self.waiting));
        match (self.taken.is_empty(), self.waiting.is_empty()) {
            (true, true) => tracing::info!("settings read again; nothing has changed"),
            (false, true) => tracing::info!(changed, "settings read again"),
            (true, false) => tracing::warn!(needs_restart, "settings read again"),
            (false, false) => tracing::warn!(changed, needs_restart, "settings read again"),
        }
    }
}

// === functions ===

fn list(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use worker_config::settings::{self, Sources};

    use super::*;

    #[test]
    fn what_a_part_reads_only_once_waits_for_the_next_start() {
        let old = settings::load(&Sources::default()).expect("the defaults are right");
        let mut new = old.clone();
        new.worker.limit = NonZeroU32::new(3);
        new.policy.allow_command = false;
        new.status.port = 9090;
        let reloaded = take_over(&old, &new);
        assert_eq!(
            list(&reloaded.taken),
            "policy.allow_command true -> false, worker.limit none -> 3"
        );
        assert_eq!(list(&reloaded.waiting), "status.port 8080 -> 9090");
        assert_eq!(reloaded.settings.worker.limit, NonZeroU32::new(3));
        assert_eq!(reloaded.settings.status.port, 8080);
        // It waits for as long as it takes.
        let again = take_over(&reloaded.settings, &new);
        assert_eq!(list(&again.taken), "");
        assert_eq!(list(&again.waiting), "status.port 8080 -> 9090");
    }
}
