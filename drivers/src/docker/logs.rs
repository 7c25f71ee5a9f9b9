//! What a container writes, resumable by the time it was written.
//!
//! The engine stamps what it keeps, frame by frame, in nanoseconds. Frames of one stream never go back in time, but two may have the same stamp:
//! the pieces of one long line do. So each frame counts as written one nanosecond after the one before it at the earliest. That number is the same
//! however the reading began, as long as it began a while before, and is the cursor.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;

use super::{Shared, act, error, state};
use crate::{
    driver::{DriverError, LogStream},
    job::{Handle, LogCursor, LogLine, OutputStream, Phase, RunKey},
    lines::MAX_LINE,
};

/// How far before the cursor a reading begins. The two streams of a container are written down by two hands, each in order, and one may be this late
/// at the very most.
const BEFORE: i64 = 5;
/// How long to wait before an engine that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

const NANOS: u64 = 1_000_000_000;

type Frames = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// Follows the output of one container.
struct Follower {
    shared: Arc<Shared>,
    key: RunKey,
    container: String,
    cursor: LogCursor,
    frames: Option<Frames>,
    reading: Reading,
    ended: bool,
    /// Whether the container has ended, and what it wrote is read once more from the cursor on: who follows to the end may miss the last line.
    is_last: bool,
    /// Whether it was said that the engine does not answer: once is enough.
    complained: bool,
}

/// What was read of the two streams and is not told yet.
#[derive(Default)]
struct Reading {
    stdout: Side,
    stderr: Side,
    lines: VecDeque<LogLine>,
}

/// One of the two streams.
#[derive(Default)]
struct Side {
    /// The last frame, as the cursor counts.
    last: u64,
    /// The beginning of a line whose end was not read yet, and when it was written.
    open: Vec<u8>,
    since: Option<Timestamp>,
}

/// The output of a container from a place on, until it has ended and everything was read.
pub(super) fn follow(shared: Arc<Shared>, handle: &Handle, from: LogCursor) -> LogStream {
    let follower = Follower {
        shared,
        key: handle.key,
        container: state::container_of(handle).to_owned(),
        cursor: from,
        frames: None,
        reading: Reading::default(),
        ended: false,
        is_last: false,
        complained: false,
    };
    stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((line, follower))
    })
    .boxed()
}

// === impl Follower ===

impl Follower {
    async fn next(&mut self) -> Option<Result<LogLine, DriverError>> {
        loop {
            if let Some(line) = self.reading.lines.pop_front() {
                self.cursor = line.next;
                return Some(Ok(line));
            }
            if self.ended {
                return None;
            }
            let Some(frames) = &mut self.frames else {
                if let Err(error) = self.open()
                    && let Some(said) = self.failed(error).await
                {
                    return Some(Err(said));
                }
                continue;
            };
            match frames.next().await {
                Some(Ok(frame)) => {
                    self.complained = false;
                    self.reading.take(frame, self.cursor);
                }
                Some(Err(error)) if error::is_missing(&error) => self.gone(),
                Some(Err(error)) => {
                    // What the engine does not keep, under log drivers that cannot be read, it will not have later either.
                    if error::status(&error) == Some(501) {
                        self.unreadable(&error::message(&error));
                    } else if let Some(said) = self.failed(error::unavailable(&error)).await {
                        return Some(Err(said));
                    }
                }
                None if self.is_last => {
                    self.reading.close(self.cursor);
                    self.ended = true;
                }
                None => match self.has_ended().await {
                    Ok(true) => {
                        self.is_last = true;
                        self.frames = None;
                    }
                    // The engine went away; the container may live.
                    Ok(false) => {
                        self.frames = None;
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(error) => {
                        if let Some(said) = self.failed(error).await {
                            return Some(Err(said));
                        }
                    }
                },
            }
        }
    }

    fn open(&mut self) -> Result<(), DriverError> {
        let latest = self.cursor.stdout.max(self.cursor.stderr) / NANOS;
        let since = i64::try_from(latest).unwrap_or(0) - BEFORE;
        let options = LogsOptions {
            follow: !self.is_last,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: i32::try_from(since.max(0)).unwrap_or(0),
            ..LogsOptions::default()
        };
        let frames = self.shared.work()?.logs(&self.container, Some(options));
        self.frames = Some(frames.boxed());
        // What was read of an unfinished line comes again.
        self.reading = Reading::default();
        Ok(())
    }

    async fn has_ended(&mut self) -> Result<bool, DriverError> {
        let phase = act::phase_of(&self.shared, self.key, &self.container).await?;
        Ok(matches!(phase, None | Some(Phase::Exited(_))))
    }

    /// The engine may recover; meanwhile nobody is served in a busy loop. Gives the error back when it is the first.
    async fn failed(&mut self, error: DriverError) -> Option<DriverError> {
        self.frames = None;
        tokio::time::sleep(RETRY).await;
        (!std::mem::replace(&mut self.complained, true)).then_some(error)
    }

    fn gone(&mut self) {
        self.say("[output was removed before it was read]".to_owned());
    }

    fn unreadable(&mut self, reason: &str) {
        self.say(format!(
            "[the engine keeps no output of this container: {reason}]"
        ));
    }

    fn say(&mut self, text: String) {
        self.reading.close(self.cursor);
        let next = self
            .reading
            .lines
            .back()
            .map_or(self.cursor, |line| line.next);
        self.reading.lines.push_back(LogLine {
            stream: OutputStream::Stderr,
            timestamp: Timestamp::now(),
            text,
            next,
        });
        self.ended = true;
    }
}

// === impl Reading ===

impl Reading {
    /// Takes in one frame: a stamp, a blank, and a line or a piece of one.
    fn take(&mut self, frame: LogOutput, told: LogCursor) {
        let (stream, message) = match frame {
            LogOutput::StdErr { message } => (OutputStream::Stderr, message),
            LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => (OutputStream::Stdout, message),
        };
        let Some((stamp, text)) = split_stamp(&message) else {
            return;
        };
        let nanos = u64::try_from(stamp.as_nanosecond()).unwrap_or(0);
        let side = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        side.last = nanos.max(side.last + 1);
        if side.last <= place(told, stream) {
            return;
        }
        let (text, is_whole) = match text.strip_suffix(b"\n") {
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
            None => (text, false),
        };
        // A piece is told in whole frames, so that the cursor after it is a place between two frames.
        if !side.open.is_empty() && side.open.len() + text.len() > MAX_LINE {
            self.tell(stream, told, true);
        }
        let side = self.side(stream);
        side.since.get_or_insert(stamp);
        side.open.extend_from_slice(text);
        if is_whole || side.open.len() >= MAX_LINE {
            self.tell(stream, told, false);
        }
    }

    /// Tells what is left without a line end.
    fn close(&mut self, told: LogCursor) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            if !self.side(stream).open.is_empty() {
                self.tell(stream, told, false);
            }
        }
    }

    /// Makes a line of what is open. `before`: the last frame is not a part of it.
    fn tell(&mut self, stream: OutputStream, told: LogCursor, before: bool) {
        let mut next = self.lines.back().map_or(told, |line| line.next);
        let side = self.side(stream);
        let text = String::from_utf8_lossy(&side.open).into_owned();
        side.open.clear();
        let timestamp = side.since.take().unwrap_or_default();
        let last = side.last - u64::from(before);
        match stream {
            OutputStream::Stdout => next.stdout = last,
            OutputStream::Stderr => next.stderr = last,
        }
        self.lines.push_back(LogLine {
            stream,
            timestamp,
            text,
            next,
        });
    }

    fn side(&mut self, stream: OutputStream) -> &mut Side {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}

fn place(cursor: LogCursor, stream: OutputStream) -> u64 {
    match stream {
        OutputStream::Stdout => cursor.stdout,
        OutputStream::Stderr => cursor.stderr,
    }
}

/// The time a frame was written, and what was written.
fn split_stamp(frame: &[u8]) -> Option<(Timestamp, &[u8])> {
    let end = frame.iter().position(|&byte| byte == b' ')?;
    let stamp = std::str::from_utf8(&frame[..end]).ok()?.parse().ok()?;
    Some((stamp, &frame[end + 1..]))
}

#[cfg(test)]
mod tests;
