//! Follows what a job writes to its two files.
//!
//! Nothing is kept between two reads but how far they came, and no file is open while nothing is read: a thousand quiet jobs cost nothing.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Shared, act,
    jobs_dir::{Part, found},
    run_blocking, unavailable,
};
use crate::{
    driver::{DriverError, LogStream},
    job::{LogCursor, LogLine, OutputStream, Phase, RunKey},
    lines,
};

/// How much of a file is read at once: a few of the longest lines.
const CHUNK: usize = 4 * lines::MAX_LINE;
/// How long a follower waits for news before it looks by itself: never in vain, as far as we know.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long it waits after an error.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the output of one job.
struct Follower {
    shared: Arc<Shared>,
    key: RunKey,
    cursor: LogCursor,
    lines: VecDeque<LogLine>,
    woken: watch::Receiver<()>,
    ended: bool,
}

/// What one look at a job's output gave.
struct Look {
    lines: VecDeque<LogLine>,
    cursor: LogCursor,
    /// Whether there is more to read right now.
    more: bool,
    /// Whether nothing can follow.
    ended: bool,
}

/// The output of a job from a place on, until it has ended and everything was read.
pub(super) fn follow(shared: Arc<Shared>, key: RunKey, from: LogCursor) -> LogStream {
    let woken = shared.followers().entry(key).or_default().subscribe();
    let follower = Follower {
        shared,
        key,
        cursor: from,
        lines: VecDeque::new(),
        woken,
        ended: false,
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
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if self.ended {
                return None;
            }
            // What is written from here on wakes us again.
            self.woken.borrow_and_update();
            match self.look().await {
                Ok(Look {
                    lines,
                    cursor,
                    more,
                    ended,
                }) => {
                    self.cursor = cursor;
                    self.ended = ended;
                    let quiet = lines.is_empty() && !more && !ended;
                    self.lines = lines;
                    if quiet {
                        // Told or not, the next thing is to look.
                        tokio::time::timeout(LOOK_AGAIN, self.woken.changed())
                            .await
                            .ok();
                    }
                }
                Err(error) => {
                    // The file system may recover; meanwhile nobody is served in a busy loop.
                    tokio::time::sleep(RETRY).await;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn look(&self) -> Result<Look, DriverError> {
        let (shared, key, cursor) = (Arc::clone(&self.shared), self.key, self.cursor);
        run_blocking(move || {
            look(&shared, key, cursor)
                .map_err(|error| unavailable(&shared.jobs.file(key, Part::Stdout), &error))
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followers = self.shared.followers();
        // This receiver is still counted.
        if followers
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            followers.remove(&self.key);
        }
    }
}

/// Reads on from a place.
fn look(shared: &Shared, key: RunKey, mut cursor: LogCursor) -> io::Result<Look> {
    // In this order: what was written before the end is in the files when the end is seen.
    let seen = act::look(shared, key)?;
    let mut lines = VecDeque::new();
    let Some(seen) = seen else {
        lines.push_back(gone(OutputStream::Stderr, cursor));
        return Ok(Look {
            lines,
            cursor,
            more: false,
            ended: true,
        });
    };
    let ended = matches!(seen.phase, Phase::Exited(_));
    let mut more = false;
    for (stream, part) in [
        (OutputStream::Stdout, Part::Stdout),
        (OutputStream::Stderr, Part::Stderr),
    ] {
        let Some(file) = found(File::open(shared.jobs.file(key, part)))? else {
            // Before the start there is no file. After it, somebody has removed it.
            if ended && seen.started {
                lines.push_back(gone(stream, cursor));
            }
            continue;
        };
        let from = *place(&mut cursor, stream);
        let chunk = read_chunk(file, from)?;
        if chunk.length < from {
            *place(&mut cursor, stream) = chunk.length;
            lines.push_back(gone(stream, cursor));
            more = true;
            continue;
        }
        let read_all = from + chunk.bytes.len() as u64 >= chunk.length;
        more |= !read_all;
        for (text, length) in lines::split(&chunk.bytes, ended && read_all) {
            *place(&mut cursor, stream) += length as u64;
            lines.push_back(LogLine {
                stream,
                timestamp: chunk.written,
                text,
                next: cursor,
            });
        }
    }
    Ok(Look {
        lines,
        cursor,
        more,
        ended: ended && !more,
    })
}

/// A part of a file of output.
struct Chunk {
    bytes: Vec<u8>,
    /// The length of the whole file.
    length: u64,
    /// When its last byte was written, at the latest.
    written: Timestamp,
}

fn read_chunk(mut file: File, from: u64) -> io::Result<Chunk> {
    let metadata = file.metadata()?;
    let length = metadata.len();
    let left = usize::try_from(length.saturating_sub(from))
        .unwrap_or(CHUNK)
        .min(CHUNK);
    let mut bytes = vec![0; left];
    if left > 0 {
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut bytes)?;
    }
    // What is read late, after a restart say, is not from now.
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    let now = Timestamp::now();
    let written = modified.map_or(now, |modified| modified.min(now));
    Ok(Chunk {
        bytes,
        length,
        written,
    })
}

fn place(cursor: &mut LogCursor, stream: OutputStream) -> &mut u64 {
    match stream {
        OutputStream::Stdout => &mut cursor.stdout,
        OutputStream::Stderr => &mut cursor.stderr,
    }
}

fn gone(stream: OutputStream, next: LogCursor) -> LogLine {
    LogLine {
        stream,
        timestamp: Timestamp::now(),
        text: "[output was removed before it was read]".to_owned(),
        next,
    }
}
