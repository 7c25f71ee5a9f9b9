use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
};

use super::{JobGroup, locate, remove};

const UNIFIED: &str =
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID: &str = "41 40 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      42 40 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn the_group_is_found_below_the_mount() {
    let groups = "4:memory:/elsewhere\n0::/system.slice/worker.service\n";
    assert_eq!(
        locate(UNIFIED, groups).as_deref(),
        Some(Path::new("/sys/fs/cgroup/system.slice/worker.service"))
    );
    assert_eq!(
        locate(HYBRID, groups).as_deref(),
        Some(Path::new(
            "/sys/fs/cgroup/unified/system.slice/worker.service"
        ))
    );
}

#[test]
fn a_mount_of_a_part_of_the_tree_is_taken_for_what_it_is() {
    let mounts = "30 24 0:26 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(
        locate(mounts, "0::/kubepods/pod1/main\n").as_deref(),
        Some(Path::new("/sys/fs/cgroup/main"))
    );
    assert_eq!(locate(mounts, "0::/other\n"), None);
}

#[test]
fn a_machine_without_version_2_has_none() {
    assert_eq!(locate("", "4:memory:/x\n"), None);
    assert_eq!(locate(UNIFIED, "4:memory:/x\n"), None);
}

#[test]
fn a_job_whose_shim_cannot_go_back_is_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let group = JobGroup {
        path: directory.path().join("job"),
        home: directory.path().join("gone"),
    };
    // Only the job has the other end, which it holds open until it ends.
    let (mut reads, writes) = io::pipe().expect("a pipe");
    let mut command = Command::new("sleep");
    command.arg("600").stdout(writes);
    let spawned = group.spawn(&mut command);
    drop(command);
    assert!(spawned.is_err(), "{spawned:?}");
    let read = reads.read_to_end(&mut Vec::new());
    assert_eq!(read.expect("its end is told"), 0);
}

#[test]
fn groups_that_a_job_made_within_its_own_go_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let group = directory.path().join("job");
    fs::create_dir_all(group.join("inner/deep")).expect("groups of the job");
    fs::create_dir(group.join("other")).expect("another");
    remove(&group).expect("it is removed");
    assert!(!group.exists());
    remove(&group).expect("gone is success");
}

/// A job's group within a unit's within a slice's, as directories: which of their limits is which, and how often each was reached.
struct Tree {
    directory: tempfile::TempDir,
    job: JobGroup,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("slice/unit/job");
        fs::create_dir_all(directory.path().join("slice/unit")).expect("groups");
        let home = PathBuf::new();
        let tree = Self {
            directory,
            job: JobGroup { path, home },
        };
        tree.account("slice", "4096");
        tree.account("slice/unit", "2048");
        tree
    }

    /// Makes the group of the job, which is not there before it starts.
    fn start_job(&self) {
        fs::create_dir(&self.job.path).expect("a group");
        self.account("slice/unit/job", "max");
    }

    fn account(&self, group: &str, limit: &str) {
        self.write(group, "cgroup.type", "domain\n");
        self.write(group, "memory.max", &format!("{limit}\n"));
        self.reached(group, 0);
    }

    fn write(&self, group: &str, file: &str, text: &str) {
        let path = self.directory.path().join(group).join(file);
        fs::write(path, text).expect("a file of the group");
    }

    fn reached(&self, group: &str, times: u64) {
        let events = format!("low 0\nhigh 0\nmax 7\noom {times}\noom_kill 9\noom_group_kill 0\n");
        self.write(group, "memory.events.local", &events);
    }
}

#[test]
fn the_limit_that_ended_a_job_may_be_one_around_it() {
    let tree = Tree::new();
    let before = tree.job.limits_reached();
    tree.start_job();
    tree.reached("slice/unit", 1);
    assert_eq!(tree.job.memory_limit(&before), Some(2048));
    tree.write("slice/unit/job", "memory.max", "1024\n");
    tree.reached("slice/unit/job", 1);
    assert_eq!(tree.job.memory_limit(&before), Some(1024));
}

#[test]
fn a_limit_that_was_reached_before_the_job_did_not_end_it() {
    let tree = Tree::new();
    tree.reached("slice/unit", 3);
    let before = tree.job.limits_reached();
    tree.start_job();
    assert_eq!(tree.job.memory_limit(&before), None, "it was the machine");
    tree.reached("slice", 1);
    assert_eq!(tree.job.memory_limit(&before), Some(4096));
}

#[test]
fn a_group_without_accounting_does_not_hide_the_limits_around_it() {
    let tree = Tree::new();
    let before = tree.job.limits_reached();
    tree.start_job();
    for file in ["memory.max", "memory.events.local"] {
        fs::remove_file(tree.job.path.join(file)).expect("its accounting is off");
    }
    tree.reached("slice/unit", 1);
    assert_eq!(tree.job.memory_limit(&before), Some(2048));
}
