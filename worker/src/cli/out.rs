//! What people and programs read: results on standard output, errors on standard error. The only file that prints.

use std::io::{IsTerminal, Write};

use comfy_table::{Table, presets};
use serde::Serialize;
use worker_api::types::{LogLevel, StateType};
use worker_drivers::{Finding, Verdict};

/// Where output goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// For programs.
    pub(crate) json: bool,
    colour: bool,
    /// Whether what is said beside results is lines of the log: then each line of standard error is JSON.
    log: bool,
}

// === impl Out ===

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            json,
            colour: !json && wanted && std::io::stdout().is_terminal(),
            log: false,
        }
    }

    /// The same beside a log, which may be JSON.
    pub(crate) fn beside_log(self, json: bool) -> Self {
        Self { log: json, ..self }
    }

    /// Whether what is said beside results is lines of the log.
    pub(crate) fn is_log(self) -> bool {
        self.log
    }

    /// A line for people. Programs get none.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            line(text);
        }
    }

    /// A result for programs: one JSON document a line. People get none.
    pub(crate) fn json(self, value: &impl Serialize) {
        if self.json {
            line(&serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// A table for people.
    pub(crate) fn table(self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(header.iter().copied());
        for row in rows {
            table.add_row(row);
        }
        for text in table.lines() {
            self.say(text.trim_end());
        }
    }

    /// One line of a flow run's log.
    pub(crate) fn log(self, time: &str, level: LogLevel, text: &str) {
        let shown = self.paint(
            match level.0 {
                40.. => Some(31),
                30.. => Some(33),
                ..20 => Some(2),
                _ => None,
            },
            &format!("{:7}", level.as_str()),
        );
        self.say(&format!("{} {shown} {text}", self.paint(Some(2), time)));
    }

    /// A state's name in its colour.
    pub(crate) fn state(self, kind: Option<&StateType>, name: &str) -> String {
        let colour = match kind {
            Some(StateType::Completed) => Some(32),
            Some(StateType::Failed | StateType::Crashed) => Some(31),
            Some(StateType::Running) => Some(34),
            Some(StateType::Cancelled | StateType::Cancelling) => Some(33),
            _ => None,
        };
        self.paint(colour, name)
    }

    /// One thing that a look found.
    pub(crate) fn finding(self, finding: &Finding) {
        let (word, colour) = match finding.verdict {
            Verdict::Ok => ("ok", 32),
            Verdict::Warning => ("warning", 33),
            Verdict::Problem => ("problem", 31),
        };
        let word = self.paint(Some(colour), &format!("{word:8}"));
        self.say(&format!("{word} {}: {}", finding.what, finding.detail));
    }

    /// What failed, where, and what to do, with every cause once.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let text = crate::telemetry::chain(error.as_ref());
        if self.log {
            tracing::error!("{text}");
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Without a standard error there is nobody to tell.
        drop(if self.json {
            writeln!(stderr, "{}", serde_json::json!({"error": text}))
        } else {
            writeln!(stderr, "error: {text}")
        });
    }

    /// Something to know, on standard error.
    pub(crate) fn notice(self, text: &str) {
        if self.log {
            tracing::info!("{text}");
        } else if !self.json {
            drop(writeln!(std::io::stderr().lock(), "{text}"));
        }
    }

    fn paint(self, colour: Option<u8>, text: &str) -> String {
        match colour.filter(|_| self.colour) {
            Some(colour) => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

/// A result that is the same for people and programs: a script, a page.
pub(crate) fn write_all(bytes: &[u8]) {
    drop(std::io::stdout().lock().write_all(bytes));
}

fn line(text: &str) {
    // A reader that has gone (`worker ps | head`) has read enough.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}
