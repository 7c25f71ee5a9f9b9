//! Finds and ends the processes a job leaves behind.
//!
//! The shim is the reaper of its descendants: whoever loses its parent becomes its child. So nothing that a job started, however it
//! cut itself loose, is ever anywhere but below the shim, and when the shim has no child left there is nothing left.

use std::{fs, io::Read as _};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// The variable by which a process is known to belong to a job even when its shim was killed.
pub(in crate::subprocess) const JOB_VARIABLE: &str = "WORKER__JOB";

/// The most that is read of a process's environment.
const MAX_ENVIRONMENT: u64 = 4 * 1024 * 1024;

/// Forces every descendant of a process to end, once: what they start meanwhile is for the next call.
pub(super) fn kill_descendants(of: Pid) {
    let mut found = children(of);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    for pid in found {
        // It may have ended by itself, or not be ours to end: the caller looks again in any case.
        kill(pid, Signal::SIGKILL).ok();
    }
}

/// Collects those of this process's children that have ended, except one. Whether any is left.
pub(super) fn reap_all() -> bool {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Err(Errno::ECHILD) => return false,
            // It was collected; a signal without a name ended it.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Collects the children that have ended, but not the job, whose status belongs to somebody else.
pub(super) fn reap_orphans(this: Pid, job: Pid) {
    for pid in children(this) {
        if pid != job {
            waitpid(pid, Some(WaitPidFlag::WNOHANG)).ok();
        }
    }
}

/// Forces every process to end that carries the mark of a job in its environment. How many there were.
///
/// For jobs whose shim was killed. A process that threw its environment away is not found.
pub(in crate::subprocess) fn kill_marked(mark: &str) -> usize {
    let mark = format!("{JOB_VARIABLE}={mark}");
    let marked = processes().filter(|&pid| pid != Pid::this() && is_marked(pid, mark.as_bytes()));
    marked
        .filter(|&pid| kill(pid, Signal::SIGKILL).is_ok())
        .count()
}

fn is_marked(pid: Pid, mark: &[u8]) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let mut environment = Vec::new();
    file.take(MAX_ENVIRONMENT)
        .read_to_end(&mut environment)
        .is_ok()
        && environment
            .split(|&byte| byte == 0)
            .any(|entry| entry == mark)
}

/// The children of all threads of a process. None, when it has gone.
fn children(of: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(parse_pid)),
            // The thread has gone, or this kernel keeps no such lists.
            Err(_) if thread.path().exists() => return children_by_parent(of),
            Err(_) => {}
        }
    }
    found
}

/// The slow way, for kernels without lists of children.
fn children_by_parent(of: Pid) -> Vec<Pid> {
    processes().filter(|&pid| parent(pid) == Some(of)).collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, after) = stat.rsplit_once(") ")?;
    parse_pid(after.split(' ').nth(1)?)
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| parse_pid(entry.file_name().to_str()?))
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests;
