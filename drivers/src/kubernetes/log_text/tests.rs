use proptest::prelude::*;

use super::LogText;
use crate::job::{LogCursor, LogLine};

const STAMP: &str = "2026-11-21T10:00:00.123456789Z ";

/// Reads a log that comes in pieces of this size.
fn read(log: &[u8], size: usize, from: LogCursor) -> Vec<LogLine> {
    let mut text = LogText::after(from);
    let mut lines = Vec::new();
    for piece in log.chunks(size) {
        text.feed(piece);
        lines.extend(std::iter::from_fn(|| text.pop()));
    }
    text.close();
    lines.extend(std::iter::from_fn(|| text.pop()));
    lines
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn lines_lose_their_stamps_and_the_last_needs_no_end() {
    let log = format!("{STAMP}one\n{STAMP}\n{STAMP}two \u{e9}\n{STAMP}three");
    let lines = read(log.as_bytes(), 7, LogCursor::default());
    assert_eq!(texts(&lines), ["one", "", "two \u{e9}", "three"]);
    assert_eq!(lines[0].timestamp.to_string(), STAMP.trim_end());
}

#[test]
fn entries_of_the_same_moment_are_told_apart() {
    let log = format!("{STAMP}one\n{STAMP}two\n{STAMP}three\n");
    let lines = read(log.as_bytes(), 1000, LogCursor::default());
    let rest = read(log.as_bytes(), 1000, lines[0].next);
    assert_eq!(texts(&rest), ["two", "three"]);
    let none = read(log.as_bytes(), 1000, lines[2].next);
    assert_eq!(none, []);
}

#[test]
fn a_line_that_was_cut_is_whole_again() {
    let piece = "x".repeat(16384);
    let log = format!("{STAMP}{piece}{STAMP}rest\n{STAMP}next\n");
    let lines = read(log.as_bytes(), 1000, LogCursor::default());
    assert_eq!(texts(&lines), [format!("{piece}rest").as_str(), "next"]);
    // One that is longer still comes in pieces, each with a place to go on from.
    let log = format!("{STAMP}{piece}{STAMP}{piece}{STAMP}rest\n");
    let lines = read(log.as_bytes(), 1000, LogCursor::default());
    assert_eq!(texts(&lines), [format!("{piece}{piece}").as_str(), "rest"]);
    let rest = read(log.as_bytes(), 1000, lines[0].next);
    assert_eq!(texts(&rest), ["rest"]);
}

#[test]
fn what_a_node_says_in_the_place_of_a_log_is_no_line() {
    let log = format!("{STAMP}one\nrpc error: container not found");
    assert_eq!(
        texts(&read(log.as_bytes(), 9, LogCursor::default())),
        ["one"]
    );
    let log = format!("unable to read\n{STAMP}one\n");
    assert_eq!(
        texts(&read(log.as_bytes(), 9, LogCursor::default())),
        ["one"]
    );
}

#[test]
fn what_only_looks_like_a_stamp_stays() {
    let log = format!("{STAMP}at {STAMP}it began\n");
    let lines = read(log.as_bytes(), 5, LogCursor::default());
    assert_eq!(texts(&lines), [format!("at {STAMP}it began")]);
}

proptest! {
    #[test]
    fn reading_can_begin_anywhere_and_in_any_pieces(
        written in prop::collection::vec("[a-z \u{e9}]{0,30}", 1..20),
        size in 1_usize..50,
        stop in any::<prop::sample::Index>(),
    ) {
        let log: Vec<String> = written.iter().map(|line| format!("{STAMP}{line}\n")).collect();
        let log = log.concat();
        let lines = read(log.as_bytes(), size, LogCursor::default());
        let seen = texts(&lines);
        prop_assert_eq!(&seen, &written);
        let stop = stop.index(lines.len());
        let rest = read(log.as_bytes(), size, lines[stop].next);
        prop_assert_eq!(texts(&rest), &written[stop + 1..]);
    }
}
