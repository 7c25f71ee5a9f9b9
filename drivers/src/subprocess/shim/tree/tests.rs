use std::process::Command;

use nix::unistd::Pid;

use super::{children, children_by_parent, parent};

#[test]
fn both_ways_find_a_child() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
    let pid = Pid::from_raw(child.id().cast_signed());
    assert!(children(Pid::this()).contains(&pid));
    assert!(children_by_parent(Pid::this()).contains(&pid));
    assert_eq!(parent(pid), Some(Pid::this()));
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    assert!(!children(Pid::this()).contains(&pid));
}

#[test]
fn a_process_that_has_gone_has_no_children() {
    assert_eq!(children(Pid::from_raw(i32::MAX)), []);
    assert_eq!(parent(Pid::from_raw(i32::MAX)), None);
}
