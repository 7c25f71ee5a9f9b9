//! Rules of this house that neither compiler nor clippy knows: who may depend on whom, who may name what, how long a
//! file may be, which files there are.
//!
//! Each rule is a pure function over the text it judges, with a test that shows that it can fail, and one test that
//! holds the repository against it. What a rule finds is a [`Finding`] with file and line.

mod crates;
mod documents;
mod drivers;
mod sources;
mod tree;

use std::fmt;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// The file, relative to the root.
    file: String,
    /// The line, from 1; 0 when the file as a whole is meant.
    line: usize,
    /// What is wrong, and what would be right.
    text: String,
}

// === impl Finding ===

impl Finding {
    fn new(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// Fails with everything that was found.
#[track_caller]
fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
