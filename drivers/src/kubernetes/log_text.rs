//! From the text of a container's log to lines, each with a place to go on from. Pure.
//!
//! The cluster stamps each entry of a log, in nanoseconds, and an entry is a line or a piece of a long one: then the stamp of the next piece is in the
//! middle of the line, where the runtime has cut it. Two entries may have the same stamp, so each counts as written one nanosecond after the one
//! before it at the earliest. That number is the same however the reading began, as long as it began a while before, and is the cursor. Both streams of
//! a container come as one.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::{
    job::{LogCursor, LogLine, OutputStream},
    lines::MAX_LINE,
};

/// Runtimes cut long lines after a multiple of this: containerd and Docker after 16 KiB, CRI-O after 8 KiB.
const CUT: usize = 4096;

/// The longest that a stamp is, with the blank behind it.
const LONGEST_STAMP: usize = 36;

/// The longest piece of a line that no runtime has cut.
const LONGEST_ENTRY: usize = 4 * MAX_LINE;

/// A log that is being read.
#[derive(Debug, Default)]
pub(super) struct LogText {
    /// What was not looked at yet.
    raw: Vec<u8>,
    /// Whether an entry has begun.
    is_open: bool,
    /// Whether it is none of the container's: a node that cannot read a log says so in its place.
    is_foreign: bool,
    /// How much of it there was.
    length: usize,
    /// Its number, as the cursor counts.
    last: u64,
    /// The beginning of a line whose end was not read yet, and when it was written.
    line: Vec<u8>,
    since: Option<Timestamp>,
    /// Where the reading has come to: what is not behind it is not told again.
    told: u64,
    lines: VecDeque<LogLine>,
}

// === impl LogText ===

impl LogText {
    /// A log of which the lines after this place are wanted.
    pub(super) fn after(cursor: LogCursor) -> Self {
        Self {
            told: cursor.stdout,
            ..Self::default()
        }
    }

    /// Takes in some bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.work(false);
    }

    /// There will be no more.
    pub(super) fn close(&mut self) {
        self.work(true);
        self.raw.clear();
        self.is_open = false;
        if !self.line.is_empty() {
            self.tell(self.last);
        }
    }

    /// The next line.
    pub(super) fn pop(&mut self) -> Option<LogLine> {
        self.lines.pop_front()
    }

    /// Puts lines behind those that were read, as they are.
    pub(super) fn lines_again(&mut self, lines: impl IntoIterator<Item = LogLine>) {
        self.lines.extend(lines);
    }

    fn work(&mut self, is_last: bool) {
        let raw = std::mem::take(&mut self.raw);
        let mut rest = raw.as_slice();
        while let Some(after) = self.step(rest, is_last) {
            rest = after;
        }
        self.raw = rest.to_vec();
    }

    /// Takes in what it can tell by itself, and gives what is behind it. None: there has to be more first.
    fn step<'a>(&mut self, rest: &'a [u8], is_last: bool) -> Option<&'a [u8]> {
        if rest.is_empty() {
            return None;
        }
        let is_cut = self.is_open && self.length > 0 && self.length.is_multiple_of(CUT);
        if !self.is_open || is_cut {
            let knows = is_last || rest.len() >= LONGEST_STAMP || rest.contains(&b'\n');
            if !knows {
                return None;
            }
            if let Some((stamp, after)) = split_stamp(rest) {
                self.begin(stamp);
                return Some(after);
            }
            // Where a runtime may have cut and has not, the line goes on.
            self.is_foreign = self.is_foreign || !is_cut;
            self.is_open = true;
        }
        let until_cut = CUT - self.length % CUT;
        let piece = &rest[..rest.len().min(until_cut)];
        let (text, end) = match piece.iter().position(|&byte| byte == b'\n') {
            Some(at) => (&piece[..at], Some(&rest[at + 1..])),
            None => (piece, None),
        };
        self.length += text.len();
        let is_wanted = self.last > self.told && !self.is_foreign;
        if is_wanted {
            self.line.extend_from_slice(text);
        }
        if end.is_none() && self.line.len() >= LONGEST_ENTRY {
            // Who goes on from here reads this entry again.
            self.tell(self.last - 1);
        }
        match end {
            Some(after) => {
                self.is_open = false;
                self.is_foreign = false;
                self.length = 0;
                if is_wanted {
                    self.tell(self.last);
                }
                Some(after)
            }
            None => Some(&rest[text.len()..]),
        }
    }

    /// An entry begins.
    fn begin(&mut self, stamp: Timestamp) {
        // A piece of a line is told in whole entries, so that the cursor after it is a place between two.
        if self.line.len() >= MAX_LINE / 2 {
            self.tell(self.last);
        }
        let nanos = u64::try_from(stamp.as_nanosecond()).unwrap_or(0);
        self.last = nanos.max(self.last + 1);
        self.is_open = true;
        self.length = 0;
        if self.last > self.told {
            self.since.get_or_insert(stamp);
        }
    }

    fn tell(&mut self, place: u64) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.lines.push_back(LogLine {
            stream: OutputStream::Stdout,
            timestamp: self.since.take().unwrap_or_default(),
            text: String::from_utf8_lossy(line).into_owned(),
            next: LogCursor {
                stdout: place,
                stderr: 0,
            },
        });
    }
}

/// The time an entry was written, and what follows it.
fn split_stamp(text: &[u8]) -> Option<(Timestamp, &[u8])> {
    let head = &text[..text.len().min(LONGEST_STAMP)];
    let end = head.iter().position(|&byte| byte == b' ');
    // An empty line may come without the blank.
    let end = end.or_else(|| head.iter().position(|&byte| byte == b'\n'))?;
    let is_stamp = end >= 20 && text[4] == b'-' && text[10] == b'T';
    let stamp = std::str::from_utf8(&text[..end]).ok()?;
    let stamp = is_stamp.then(|| stamp.parse().ok()).flatten()?;
    let after = if text[end] == b' ' { end + 1 } else { end };
    Some((stamp, &text[after..]))
}

#[cfg(test)]
mod tests;
