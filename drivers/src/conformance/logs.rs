//! What jobs write: in order, resumable, and harmless whatever it is.

use std::time::Duration;

use futures::StreamExt as _;

use super::{Behaviour, Scene, Subject, scene::within};
use crate::job::{Handle, LogCursor, LogLine, OutputStream};

/// So many lines that they do not come all at once.
const MANY: usize = 2000;

/// Each stream's lines come in the order they were written.
pub async fn lines_come_in_order(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Lines(MANY)).await;
    assert_numbered(subject, &scene.lines(&handle, LogCursor::default()).await);
    scene.destroy(handle.key).await;
}

/// A line says which stream it came from.
pub async fn streams_are_told_apart(subject: &dyn Subject) {
    let written = vec![
        (OutputStream::Stdout, b"one\n".as_slice()),
        (OutputStream::Stderr, b"two\n"),
    ];
    let lines = written_by(subject, &Behaviour::Write(written)).await;
    if subject.keeps_streams_apart() {
        assert_eq!(texts(&lines, OutputStream::Stdout), ["one"]);
        assert_eq!(texts(&lines, OutputStream::Stderr), ["two"]);
    } else {
        // Which of the two the engine took in first is chance.
        let mut both = texts(&lines, OutputStream::Stdout);
        both.sort_unstable();
        assert_eq!(both, ["one", "two"]);
    }
}

/// However often reading is broken off, the lines are the same.
pub async fn resuming_neither_loses_nor_repeats(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Lines(MANY)).await;
    let mut lines = Vec::new();
    for count in [1, 2, 500, 1000] {
        lines.extend(some_lines(&scene, &handle, &lines, count).await);
    }
    lines.extend(scene.lines(&handle, next(&lines)).await);
    assert_numbered(subject, &lines);
    scene.destroy(handle.key).await;
}

/// The worker's successor goes on where the worker was.
pub async fn resuming_after_a_restart_neither_loses_nor_repeats(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::Lines(MANY)).await;
    let mut lines = some_lines(&scene, &handle, &[], MANY / 3).await;
    let scene = scene.restart().await;
    scene.recover(&handle).await;
    lines.extend(scene.lines(&handle, next(&lines)).await);
    assert_numbered(subject, &lines);
    scene.destroy(handle.key).await;
}

/// What is no UTF-8 is replaced, and the lines around it are whole.
pub async fn bytes_that_are_not_text_do_no_harm(subject: &dyn Subject) {
    let written = vec![(
        OutputStream::Stdout,
        b"before\n\xff\xfe h\xc3\xa9\n\x00\nafter\n".as_slice(),
    )];
    let lines = written_by(subject, &Behaviour::Write(written)).await;
    let texts = texts(&lines, OutputStream::Stdout);
    assert_eq!(texts, ["before", "\u{fffd}\u{fffd} hé", "\0", "after"]);
}

/// Ten mebibytes without a line end cost patience, not memory.
pub async fn a_very_long_line_comes_whole_in_pieces(subject: &dyn Subject) {
    let length = 10 * 1024 * 1024;
    let lines = written_by(subject, &Behaviour::LongLine(length)).await;
    assert!(lines.len() > 1);
    assert!(
        lines.iter().all(
            |line| line.text.len() <= 1024 * 1024 && line.text.bytes().all(|byte| byte == b'x')
        )
    );
    assert_eq!(
        lines.iter().map(|line| line.text.len()).sum::<usize>(),
        length
    );
}

/// The last words of a job are not lost, although it is gone when they are read.
pub async fn what_was_written_at_the_end_is_read(subject: &dyn Subject) {
    let mut scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::LastWords).await;
    let first = some_lines(&scene, &handle, &[], 1).await;
    assert_eq!(first[0].text, "ready");
    scene.stop(&handle, Duration::from_secs(40)).await;
    scene.ended(handle.key).await;
    let lines = scene.lines(&handle, next(&first)).await;
    assert_eq!(texts(&lines, OutputStream::Stdout), ["last words"]);
    scene.destroy(handle.key).await;
}

/// The end of a job ends its last line.
pub async fn a_line_without_an_end_is_read(subject: &dyn Subject) {
    let written = vec![(OutputStream::Stdout, b"one\ntwo".as_slice())];
    let lines = written_by(subject, &Behaviour::Write(written)).await;
    assert_eq!(texts(&lines, OutputStream::Stdout), ["one", "two"]);
}

/// Lines come while the job runs, and the stream ends with the job.
pub async fn following_a_running_job_waits_for_its_end(subject: &dyn Subject) {
    let scene = Scene::new(subject).await;
    let handle = scene.start(&Behaviour::LinesThenWait(3)).await;
    let mut lines = scene.driver.logs(&handle, LogCursor::default());
    for _ in 0..6 {
        within("a line", lines.next())
            .await
            .expect("it has not ended")
            .expect("it can be read");
    }
    scene.stop(&handle, Duration::from_secs(40)).await;
    assert!(within("the end", lines.next()).await.is_none());
    scene.destroy(handle.key).await;
}

/// Everything a job wrote.
async fn written_by(subject: &dyn Subject, behaviour: &Behaviour) -> Vec<LogLine> {
    let scene = Scene::new(subject).await;
    let handle = scene.start(behaviour).await;
    let lines = scene.lines(&handle, LogCursor::default()).await;
    scene.destroy(handle.key).await;
    lines
}

/// The next so many lines after those.
async fn some_lines(
    scene: &Scene<'_>,
    handle: &Handle,
    after: &[LogLine],
    count: usize,
) -> Vec<LogLine> {
    let lines = scene
        .driver
        .logs(handle, next(after))
        .take(count)
        .collect::<Vec<_>>();
    let lines = within("lines", lines).await;
    lines
        .into_iter()
        .map(|line| line.expect("it can be read"))
        .collect()
}

fn next(lines: &[LogLine]) -> LogCursor {
    lines.last().map(|line| line.next).unwrap_or_default()
}

fn texts(lines: &[LogLine], stream: OutputStream) -> Vec<&str> {
    let lines = lines.iter().filter(|line| line.stream == stream);
    lines.map(|line| line.text.as_str()).collect()
}

fn assert_numbered(subject: &dyn Subject, lines: &[LogLine]) {
    for (stream, word) in [(OutputStream::Stdout, "out"), (OutputStream::Stderr, "err")] {
        let expected: Vec<_> = (1..=MANY)
            .map(|number| format!("{word} {number}"))
            .collect();
        let mut written = texts(lines, stream);
        if !subject.keeps_streams_apart() {
            written = texts(lines, OutputStream::Stdout);
            written.retain(|line| line.starts_with(word));
        }
        assert_eq!(written, expected);
    }
}
