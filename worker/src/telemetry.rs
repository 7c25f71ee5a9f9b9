//! How the worker speaks to its operator: lines on standard error, as text or JSON, and errors with their causes.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Registry, filter::filter_fn, fmt, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

use worker_config::settings::LoggingSettings;

/// How much is written, and the way to change it.
#[derive(Clone, Debug)]
pub(crate) struct Loudness(reload::Handle<EnvFilter, Registry>);

/// Writes each event as one line. Names that people chose and what engines, servers and jobs say may have line ends in them, and what follows one
/// would look like a line of the worker's own.
struct OneLine<W>(W);

/// Begins to write. Called once, by the command line. Of several pools, each line says which it is about.
pub(crate) fn init(logging: &LoggingSettings, several: bool) -> Loudness {
    let (filter, handle) = reload::Layer::new(filter(&logging.level));
    let lines = fmt::layer().with_target(false);
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(|line| tells_no_secret(line) && tells_news(line)));
    // A second initialisation only happens when commands call each other in a test; the first one stands.
    drop(if logging.json {
        // Of one pool, a line is in one span at most, that of its flow run.
        let lines = lines.json().flatten_event(true).with_span_list(several);
        registry.with(lines.with_writer(io::stderr)).try_init()
    } else {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        registry
            .with(lines.with_writer(|| OneLine(io::stderr())))
            .try_init()
    });
    Loudness(handle)
}

/// A level, or levels per part. Settings have been read, so what cannot be understood here is nothing that a person wrote.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::builder()
        .parse(level)
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

// === impl Loudness ===

impl Loudness {
    /// Writes as much as this level says from now on.
    pub(crate) fn set(&self, level: &str) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "the level of the log stays as it was");
        }
    }
}

// === impl OneLine ===

impl<W: Write> Write for OneLine<W> {
    /// The subscriber hands over each event whole, with the end of its line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = event.split_at(event.len() - usize::from(event.ends_with(b"\n")));
        let mut line: Vec<u8> = text
            .iter()
            .map(|byte| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    *byte
                }
            })
            .collect();
        line.extend(end);
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

// === functions ===

/// The WebSocket library writes each frame at its lowest levels, and the first one on a socket has the credential. The Docker client writes what it asks
/// for, and that has the environment of jobs.
fn tells_no_secret(line: &Metadata<'_>) -> bool {
    let tells = ["tungstenite", "bollard"];
    !tells
        .iter()
        .any(|library| line.target().starts_with(library))
        || *line.level() <= Level::INFO
}

/// What the Kubernetes client warns of, the driver tells, with what it is about and what to do.
fn tells_news(line: &Metadata<'_>) -> bool {
    let repeats = ["kube_client", "kube_runtime"];
    !repeats
        .iter()
        .any(|library| line.target().starts_with(library))
        || *line.level() > Level::WARN
}

/// An error with all its causes, once, from the outermost in: for where it leaves the program.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries print their cause as part of themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A name that people chose, for a line of a log: without line ends and escapes, and cut short.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    name.chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_may_be_of_a_part() {
        assert_eq!(filter("debug").to_string(), "debug");
        let parts = filter("info,worker=debug").to_string();
        let mut parts: Vec<&str> = parts.split(',').collect();
        parts.sort_unstable();
        assert_eq!(parts, ["info", "worker=debug"]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut written = Vec::new();
        let mut lines = OneLine(&mut written);
        lines
            .write_all(b"INFO run{name=x\r\n2026 ERROR y}: z\n")
            .expect("it is memory");
        lines
            .write_all("ERROR ü\n\n".as_bytes())
            .expect("it is memory");
        let written = String::from_utf8(written).expect("it was text");
        assert_eq!(written, "INFO run{name=x  2026 ERROR y}: z\nERROR ü \n");
    }
}
