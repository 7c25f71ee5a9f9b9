use super::*;
use crate::examination::Verdict;

#[test]
fn what_jobs_would_ask_for_in_vain_is_said() {
    let info = |memory_limit| SystemInfo {
        memory_limit: Some(memory_limit),
        ..SystemInfo::default()
    };
    let socket = "unix:///var/run/docker.sock";
    assert_eq!(shortcomings(socket, &info(true)), []);
    let found = shortcomings(socket, &info(false));
    assert!(found[0].detail.contains("mem_limit"), "{found:?}");
    assert_eq!(found[0].verdict, Verdict::Warning);
    assert_eq!(shortcomings("tcp://127.0.0.1:2375", &info(true)), []);
    assert_eq!(shortcomings("tcp://10.0.0.1:2375", &info(true)).len(), 1);
}

#[test]
fn an_engine_that_does_not_let_us_in_is_no_engine_that_is_away() {
    let socket = "unix:///var/run/docker.sock";
    assert!(advice(socket, "Permission denied (os error 13)").contains("group"));
    assert!(advice(socket, "No such file or directory").contains("start the engine"));
}
