use bollard::container::LogOutput;

use super::Reading;
use crate::{
    job::{LogCursor, LogLine},
    lines::MAX_LINE,
};

fn stdout(text: &str) -> LogOutput {
    LogOutput::StdOut {
        message: text.to_owned().into(),
    }
}

fn stderr(text: &str) -> LogOutput {
    LogOutput::StdErr {
        message: text.to_owned().into(),
    }
}

fn read(frames: &[LogOutput], from: LogCursor) -> Vec<LogLine> {
    let mut reading = Reading::default();
    for frame in frames {
        reading.take(frame.clone(), from);
    }
    reading.close(from);
    reading.lines.into()
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn reading_goes_on_after_any_line_however_the_stamps_are() {
    let frames = [
        stdout("2026-11-21T15:00:00.000000001Z one\n"),
        stderr("2026-11-21T15:00:00.000000001Z two\n"),
        stdout("2026-11-21T15:00:00.000000001Z three\n"),
        stdout("2026-11-21T15:00:00.000000001Z fo"),
        stdout("2026-11-21T15:00:00.000000001Z ur\n"),
        stderr("2026-11-21T15:00:00.000000000Z five\r\n"),
        stdout("2026-11-21T15:00:01Z six"),
    ];
    let all = read(&frames, LogCursor::default());
    assert_eq!(texts(&all), ["one", "two", "three", "four", "five", "six"]);
    for (count, line) in (1..).zip(&all) {
        let rest = read(&frames, line.next);
        assert_eq!(texts(&rest), texts(&all[count..]), "after {}", line.text);
    }
}

#[test]
fn a_line_without_end_comes_in_pieces_of_whole_frames() {
    let piece = "x".repeat(16 * 1024);
    let frames: Vec<_> = (0..9)
        .map(|_| stdout(&format!("2026-11-21T15:00:00.5Z {piece}")))
        .collect();
    let all = read(&frames, LogCursor::default());
    let lengths: Vec<_> = all.iter().map(|line| line.text.len()).collect();
    assert_eq!(lengths, [MAX_LINE, MAX_LINE, piece.len()]);
    let rest = read(&frames, all[0].next);
    assert_eq!(rest, all[1..]);
}

#[test]
fn a_frame_that_does_not_fit_begins_the_next_piece() {
    let piece = "x".repeat(MAX_LINE / 2 + 1);
    let frames: Vec<_> = (0..3)
        .map(|_| stdout(&format!("2026-11-21T15:00:00.5Z {piece}")))
        .collect();
    let all = read(&frames, LogCursor::default());
    assert_eq!(all.len(), 3);
    assert_eq!(read(&frames, all[0].next), all[1..]);
}

#[test]
fn empty_lines_are_lines_and_what_has_no_stamp_is_passed_over() {
    let frames = [stdout("2026-11-21T15:00:00Z \n"), stdout("nonsense")];
    assert_eq!(texts(&read(&frames, LogCursor::default())), [""]);
}
