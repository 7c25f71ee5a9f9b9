//! One control group (version 2) for each job, where a part of the tree was delegated to this worker.
//!
//! It makes ending a tree one step that nothing can escape, and it tells when the kernel ended a process for lack of memory. Without it
//! everything works, by the means of `shim/tree`.

use std::{
    collections::HashMap,
    fs, io, iter,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::jobs_dir::found;
use crate::job::RunKey;

/// The part of the tree that jobs get their groups in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delegated {
    /// Where the groups of jobs are made.
    parent: PathBuf,
    /// Where the worker is, and shims stay.
    home: PathBuf,
}

/// The group of one job, as a shim is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobGroup {
    pub(super) path: PathBuf,
    /// Where the shim goes back to.
    pub(super) home: PathBuf,
}

/// How often each memory limit that a job lives under was reached, by group: its own and those around it.
pub(super) type LimitsReached = HashMap<PathBuf, u64>;

/// Writing this to a group's list of processes moves the writer there.
const MYSELF: &str = "0";

// === impl Delegated ===

impl Delegated {
    /// Looks whether this process may make groups below its own.
    ///
    /// At the very root of the machine it never does: the root belongs to the init system, even when we may write to it.
    ///
    /// It is found out once: whoever has stepped down into a leaf would find that one the next time.
    ///
    /// # Errors
    /// Why it may not, for the log.
    pub(super) fn detect() -> Result<Self, String> {
        static DETECTED: OnceLock<Result<Delegated, String>> = OnceLock::new();
        DETECTED.get_or_init(Self::look).clone()
    }

    fn look() -> Result<Self, String> {
        let home = own_group()?;
        if !home.join("cgroup.type").exists() {
            return Err(format!(
                "{} is the root of the machine's tree",
                home.display()
            ));
        }
        Self::below(&home)
    }

    /// Uses a given group.
    pub(super) fn below(parent: &Path) -> Result<Self, String> {
        let home = own_group()?;
        let trial = parent.join(format!("worker-trial-{}", std::process::id()));
        fs::create_dir(&trial)
            .and_then(|()| fs::remove_dir(&trial))
            .map_err(|error| format!("no group can be made in {}: {error}", parent.display()))?;
        let delegated = Self {
            parent: parent.to_owned(),
            home,
        };
        Ok(delegated.with_memory_accounted())
    }

    /// Whether the kernel counts what each job's group has of memory, and says when it ended a process for lack of it.
    pub(super) fn accounts_memory(&self) -> bool {
        fs::read_to_string(self.parent.join("cgroup.subtree_control"))
            .is_ok_and(|controllers| controllers.split_whitespace().any(|it| it == "memory"))
    }

    pub(super) fn group(&self, key: RunKey) -> JobGroup {
        JobGroup {
            path: self.parent.join(format!("worker-job-{key}")),
            home: self.home.clone(),
        }
    }

    /// Asks for memory accounting in the groups of jobs. A group whose children are accounted may hold no process itself, so the
    /// worker steps down into a leaf, if it is alone there; else jobs go without.
    fn with_memory_accounted(mut self) -> Self {
        let control = self.parent.join("cgroup.subtree_control");
        if fs::write(&control, "+memory").is_ok() || self.home != self.parent {
            return self;
        }
        let alone = fs::read_to_string(self.home.join("cgroup.procs"))
            .is_ok_and(|list| list.trim() == std::process::id().to_string());
        let leaf = self.parent.join("worker");
        if alone
            && (leaf.is_dir() || fs::create_dir(&leaf).is_ok())
            && fs::write(leaf.join("cgroup.procs"), MYSELF).is_ok()
        {
            self.home = leaf;
            if let Err(error) = fs::write(&control, "+memory") {
                tracing::debug!(%error, cgroup = %self.parent.display(), "memory of jobs is not accounted");
            }
        }
        self
    }
}

// === impl JobGroup ===

impl JobGroup {
    /// Spawns a process with this one inside the group, so that it is born there, and steps out again. After an error there is none.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::write(self.path.join("cgroup.procs"), MYSELF)?,
        }
        let spawned = command.spawn();
        let stepped_out = fs::write(self.home.join("cgroup.procs"), MYSELF);
        match (spawned, stepped_out) {
            (Ok(mut child), Err(error)) => {
                // Nobody would watch it, and to end its group would be to end ourselves.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
            (spawned, _) => spawned,
        }
    }

    /// Processes of the group that the kernel ended for lack of memory, where that is accounted.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        count(&self.path.join("memory.events"), "oom_kill ")
    }

    /// How often the limits that hold for this group were reached until now.
    pub(super) fn limits_reached(&self) -> LimitsReached {
        self.limits().collect()
    }

    /// The memory limit in bytes that was reached since then, the innermost first. There is none when it was the whole machine that ran
    /// out of memory.
    pub(super) fn memory_limit(&self, before: &LimitsReached) -> Option<u64> {
        let (group, _) = self
            .limits()
            .find(|(group, times)| times > before.get(group).unwrap_or(&0))?;
        let limit = fs::read_to_string(group.join("memory.max")).ok()?;
        limit.trim().parse().ok()
    }

    /// Groups whose memory is accounted, from this one outwards, with how often the limit of each was reached. The kernel counts that only
    /// where the limit is.
    fn limits(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let around = self.path.ancestors().skip(1);
        // Only the root of the tree, and what is outside of it, has no such file.
        let around = around.take_while(|group| group.join("cgroup.type").exists());
        // Its own is made with the job.
        let groups = iter::once(self.path.as_path()).chain(around);
        groups.filter_map(|group| {
            let times = count(&group.join("memory.events.local"), "oom ")?;
            Some((group.to_owned(), times))
        })
    }
}

/// Forces every process of a group to end. Gone is success.
pub(super) fn kill(group: &Path) -> io::Result<()> {
    found(fs::write(group.join("cgroup.kill"), "1")).map(drop)
}

/// Removes an empty group, with the groups that a job made within its own. Gone is success.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    let mut groups = vec![group.to_owned()];
    let mut next = 0;
    while let Some(group) = groups.get(next) {
        let entries: Vec<_> = found(fs::read_dir(group))?.into_iter().flatten().collect();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                groups.push(entry.path());
            }
        }
        next += 1;
    }
    // The innermost first.
    for group in groups.iter().rev() {
        found(fs::remove_dir(group))?;
    }
    Ok(())
}

/// A number of the kernel's lists of events. Nothing where there is no such list.
fn count(events: &Path, name: &str) -> Option<u64> {
    let events = fs::read_to_string(events).ok()?;
    let line = events.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// The directory of the group this process is in.
fn own_group() -> Result<PathBuf, String> {
    let mounts = read("/proc/self/mountinfo")?;
    let groups = read("/proc/self/cgroup")?;
    locate(&mounts, &groups).ok_or_else(|| "no cgroup of version 2 is mounted".to_owned())
}

/// Puts together where version 2 is mounted and which group of it this process is in.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = left.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(below))
    })
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests;
