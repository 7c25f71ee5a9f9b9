//! What a worker needs of its machine: settings that are understood, a state directory, room on the disk.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use worker_config::settings::Settings;
use worker_drivers::Finding;

use crate::{
    disk::{self, Space},
    pause, state_dir,
};

pub(super) fn settings(notices: &[String]) -> Vec<Finding> {
    if notices.is_empty() {
        return vec![Finding::ok("settings", "understood")];
    }
    let notices = notices.iter();
    notices
        .map(|notice| Finding::warning("settings", notice.clone()))
        .collect()
}

/// The directories that a worker writes to, and the room that they have.
pub(super) fn directories(settings: &Settings) -> Vec<Finding> {
    let state = &settings.worker.state_dir;
    let workspaces = settings.pull.workspaces.as_ref();
    let mut findings = vec![writable("state", state, "--state-dir")];
    findings.extend(workspaces.map(|path| writable("workspaces", path, "--workspaces")));
    let disks = [("state", Some(state)), ("workspaces", workspaces)];
    for (what, path) in disks {
        let space = path.and_then(|path| disk::space(what, path.clone()));
        findings.extend(space.map(|space| room(&space, settings)));
    }
    findings
}

/// Workers of this machine that claim nothing, because somebody wanted it.
pub(super) fn paused(state_dir: &Path) -> Vec<Finding> {
    let known = state_dir::known(state_dir).unwrap_or_default();
    let paused = known.into_iter().filter_map(|one| {
        let reason = pause::find_reason(&one.path).ok()??;
        let detail = format!("'{}' of work pool '{}': {reason}", one.worker, one.pool);
        Some(Finding::warning("worker", detail))
    });
    paused.collect()
}

fn writable(what: &str, path: &Path, flag: &str) -> Finding {
    // What is not there yet would be made where something is. Nothing is made now: it might belong to another user than the worker's.
    let there = path.ancestors().find(|path| path.exists());
    let flags = AccessFlags::W_OK | AccessFlags::X_OK;
    let place = path.display();
    match access(there.unwrap_or(path), flags) {
        Ok(()) if there == Some(path) => Finding::ok(what, format!("{place} can be written")),
        Ok(()) => Finding::ok(what, format!("{place} can be made")),
        Err(error) => Finding::problem(
            what,
            format!("{place} cannot be written: {error}; choose another with {flag}"),
        ),
    }
}

fn room(space: &Space, settings: &Settings) -> Finding {
    let floor = settings.pull.disk_floor;
    let Space {
        what,
        directory,
        free,
        whole,
    } = space;
    let free_there = format!(
        "{} has {} MB free of {} MB",
        directory.display(),
        free / 1_000_000,
        whole / 1_000_000
    );
    let least = floor.of(*whole);
    let what = format!("disk of {what}");
    if *free < least {
        let detail = format!(
            "{free_there}, which is below the floor of {floor}, so nothing is claimed; make room, or set --disk-floor"
        );
        Finding::problem(what, detail)
    } else {
        Finding::ok(what, free_there)
    }
}
