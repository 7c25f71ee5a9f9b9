use std::{
    io::{self, Read},
    path::Path,
    process::Command,
};

use super::{JobGroup, locate};

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
