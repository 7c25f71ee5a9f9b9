//! Which hooks an end calls for.

use super::*;

fn exit(end: End, reported: bool) -> ExitRecord {
    let mut exit = ExitRecord::new(end);
    exit.reported = reported;
    exit
}

#[test]
fn hooks_are_for_engines_that_failed_without_a_word() {
    let called = |end, reported| called_for(&exit(end, reported), None);
    assert_eq!(called(End::Code(1), false), Some("crashed"));
    assert_eq!(called(End::Signal(9), false), Some("crashed"));
    assert_eq!(called(End::Code(1), true), None);
    assert_eq!(called(End::Code(0), false), None);
    assert_eq!(called(End::Lost("?".to_owned()), false), None);
}

#[test]
fn a_stop_says_which_hooks_there_are() {
    let called = |intent| called_for(&exit(End::Signal(15), false), Some(intent));
    assert_eq!(called(Intent::Cancel), Some("cancellation"));
    assert_eq!(called(Intent::Plain), None);
    assert_eq!(called(Intent::Reschedule), None);
}
