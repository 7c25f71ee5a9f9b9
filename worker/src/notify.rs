//! What systemd is told of this process, by the protocol of `sd_notify(3)`: that it is ready, what it is doing, that its loop turns,
//! and that it needs time to end.
//!
//! Whoever starts this process says by `NOTIFY_SOCKET` that it wants to know. Nobody else is told anything.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// How long a worker that cannot poll yet is not ready. Then it is, and its status says what it waits for: an API that is down when
/// the machine starts must not fail the unit, nor hold up what comes after it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much time the end is given with each word about it. It is asked for again each second, so it only has to be enough for a machine
/// that is very busy.
const MORE_TIME: Duration = Duration::from_secs(30);

/// What is meant for this process alone, and no job of its.
pub(crate) const VARIABLES: [&str; 4] = [
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How the worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether it could take a flow run.
    pub(crate) ready: bool,
    /// Whether it was told to end.
    pub(crate) ending: bool,
    /// Whether what works for it turns.
    pub(crate) alive: bool,
    /// One line for people.
    pub(crate) status: String,
}

/// Who started this process and wants to know how it is.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    /// How often the supervisor must hear that the loop turns.
    watchdog: Option<Duration>,
    began: Instant,
    told: Told,
}

/// What the supervisor knows.
#[derive(Clone, Debug, Default)]
struct Told {
    ready: bool,
    ending: bool,
    status: String,
    alive_at: Option<Instant>,
}

// === impl Supervisor ===

impl Supervisor {
    /// The supervisor that the environment names, if it names one.
    pub(crate) fn find(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let address = variable("NOTIFY_SOCKET")?;
        match connect(&address) {
            Ok(socket) => Some(Self {
                socket,
                watchdog: watchdog(&variable),
                began: Instant::now(),
                told: Told::default(),
            }),
            Err(error) => {
                tracing::warn!(?address, %error, "the supervisor cannot be told anything");
                None
            }
        }
    }

    /// Tells what is new since the last time, and once in a while that the worker lives. To be called each second by what proves it.
    pub(crate) fn tell(&mut self, report: &Report) {
        let (words, told) = self.words(report, Instant::now());
        if words.is_empty() {
            return;
        }
        if self.send(&words) {
            self.told = told;
        }
    }

    /// Tells that settings are being read again. One who waits for the end of it, as `systemctl reload` does, is told by [`Self::reloaded`].
    pub(crate) fn reloading(&mut self) {
        // Who was not told yet that the worker is ready would take the end of this for it.
        if !self.told.ready {
            return;
        }
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Tells that settings were read again, well or not.
    pub(crate) fn reloaded(&mut self) {
        if self.told.ready && !self.send("READY=1") {
            // It is said with the next word.
            self.told.ready = false;
        }
    }

    /// Whether it was said. What could not be is said the next time: the socket is full for a moment, or the supervisor is being restarted.
    fn send(&self, words: &str) -> bool {
        let sent = self.socket.send(words.as_bytes());
        if let Err(error) = &sent {
            tracing::debug!(%error, "the supervisor was not told");
        }
        sent.is_ok()
    }

    /// What to say, and what is known when it was heard.
    fn words(&self, report: &Report, now: Instant) -> (String, Told) {
        let mut told = self.told.clone();
        let mut words = Vec::new();
        if !told.ready && (report.ready || now.duration_since(self.began) >= PATIENCE) {
            told.ready = true;
            words.push("READY=1".to_owned());
        }
        if report.ending {
            if !told.ending {
                told.ending = true;
                words.push("STOPPING=1".to_owned());
            }
            words.push(format!("EXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros()));
        }
        let status = report.status.replace('\n', " ");
        if told.status != status {
            words.push(format!("STATUS={status}"));
            told.status = status;
        }
        let due = |every| {
            let heard = told.alive_at.map(|at| now.duration_since(at));
            heard.is_none_or(|heard| heard >= every)
        };
        if report.alive && self.watchdog.is_some_and(due) {
            told.alive_at = Some(now);
            words.push("WATCHDOG=1".to_owned());
        }
        (words.join("\n"), told)
    }
}

/// A socket that never makes the loop wait.
fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often to say that the worker lives: three times as often as is asked for. None where nobody asks, or asks another process.
fn watchdog(variable: &impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").map(|limit| Duration::from_micros(limit) / 3)
}

#[cfg(test)]
mod tests;
