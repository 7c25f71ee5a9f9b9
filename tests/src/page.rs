//! The commands of a page of the documentation, as its reader finds them: in blocks marked `console`, after a prompt.
//!
//! `$ ` is the prompt of anybody and `# ` that of root. A line that ends in `\` goes on in the next one. What follows a command without a
//! prompt is what it prints, where `…` stands for anything. A comment that says `exit code N` is a promise, too.

use std::fs;

use crate::files::root;

/// A page with what it tells its reader to type.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the root of this repository.
    pub path: String,
    /// In the order of the page.
    pub commands: Vec<Command>,
}

/// One thing to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The line of the page that it begins in.
    pub line: usize,
    /// What is typed, perhaps in several lines.
    pub text: String,
    /// Whether root types it.
    pub as_root: bool,
    /// What it prints, line by line.
    pub prints: Vec<String>,
}

// === impl Page ===

impl Page {
    /// Reads a page of this repository.
    ///
    /// # Panics
    ///
    /// When there is no such page.
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            path: path.to_owned(),
            commands: commands(&text),
        }
    }
}

// === impl Command ===

impl Command {
    /// The exit code that the page promises.
    pub fn exit_code(&self) -> i32 {
        let comment = self.text.rsplit_once(" # ").map_or("", |(_, said)| said);
        let code = comment.split("exit code ").nth(1).unwrap_or("0");
        let digits = code.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The first line that the page promises and that was not printed.
    pub fn find_missing(&self, printed: &str) -> Option<&str> {
        let missing = |line: &&String| !printed.lines().any(|found| is_like(found, line));
        self.prints.iter().find(missing).map(String::as_str)
    }
}

// === functions ===

fn commands(text: &str) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let mut language = None;
    let mut indent = String::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = match language {
                None => {
                    " ".repeat(line.len() - line.trim_start().len())
                        .clone_into(&mut indent);
                    Some(fence.to_owned())
                }
                Some(_) => None,
            };
            goes_on = false;
            continue;
        }
        if language.as_deref() != Some("console") {
            continue;
        }
        // A block in a list is indented with it.
        let line = line.strip_prefix(&*indent).unwrap_or(line);
        let typed = line.strip_prefix("$ ").map(|text| (text, false));
        let typed = typed.or_else(|| line.strip_prefix("# ").map(|text| (text, true)));
        match (typed, found.last_mut()) {
            (_, Some(last)) if goes_on => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            (Some((text, as_root)), _) => found.push(Command {
                line: index + 1,
                text: text.to_owned(),
                as_root,
                prints: Vec::new(),
            }),
            (None, Some(last)) if !line.trim().is_empty() => last.prints.push(line.to_owned()),
            (None, _) => {}
        }
        goes_on = line.ends_with('\\');
    }
    found
}

/// Whether a line is what the page says, where `…` stands for anything.
fn is_like(line: &str, wanted: &str) -> bool {
    let mut rest = line;
    let mut parts = wanted.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.trim_start().strip_prefix(first) else {
        return false;
    };
    rest = after;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    wanted.ends_with('…') || rest.trim().is_empty()
}

#[cfg(test)]
mod tests;
