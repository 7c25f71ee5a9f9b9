//! What the driver asks of a shim, as a line in its pipe.

use std::time::Duration;

use crate::job::{Intent, StopRequest};

/// The longest line. Anything longer is not ours, and a write of this size to a pipe is not torn.
const MAX_LINE: usize = 64;

/// Reads requests out of a pipe's bytes.
#[derive(Debug, Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
}

// === impl Requests ===

impl Requests {
    /// Takes in bytes and gives back the requests they complete. Lines that say nothing known are passed over.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<StopRequest> {
        self.buffer.extend_from_slice(bytes);
        let whole = self
            .buffer
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.buffer.drain(..whole).collect();
        if self.buffer.len() > MAX_LINE {
            self.buffer.clear();
        }
        lines
            .split(|&byte| byte == b'\n')
            .filter_map(|line| parse(std::str::from_utf8(line).ok()?))
            .collect()
    }
}

/// The line that asks for a stop.
pub(in crate::subprocess) fn stop_line(request: StopRequest) -> String {
    let intent = match request.intent {
        Intent::Cancel => "cancel",
        Intent::Reschedule => "reschedule",
        Intent::Plain => "plain",
    };
    format!("stop {intent} {}\n", request.grace.as_millis())
}

fn parse(line: &str) -> Option<StopRequest> {
    let mut words = line.split(' ');
    let ("stop", intent, grace) = (words.next()?, words.next()?, words.next()?) else {
        return None;
    };
    let intent = match intent {
        "cancel" => Intent::Cancel,
        "reschedule" => Intent::Reschedule,
        "plain" => Intent::Plain,
        _ => return None,
    };
    let grace = Duration::from_millis(grace.parse().ok()?);
    words
        .next()
        .is_none()
        .then_some(StopRequest { intent, grace })
}

#[cfg(test)]
mod tests;
