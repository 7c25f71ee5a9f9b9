//! What each key of `worker.toml` is, as people read about it: the words of `reference.toml` beside what the code knows.
//!
//! Tests hold that file against the code, so nothing is said here that does not hold.

use super::{keys::KEYS, sources};

const REFERENCE: &str = include_str!("../../reference.toml");

/// How a value stands in the file that is no default.
const EXAMPLE: &str = "  # example";

/// One key of `worker.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    /// The section it is in.
    pub section: &'static str,
    /// Its name in that section.
    pub name: &'static str,
    /// What it is for.
    pub about: String,
    /// Its value in TOML: the default, or an example.
    pub value: String,
    /// Whether the value is an example, because there is no default or one that depends on the machine.
    pub is_example: bool,
    /// The variables of ours that set it, the last one winning.
    pub variables: Vec<String>,
    /// The variable of Prefect that says the same.
    pub prefect_variable: Option<String>,
    /// The flag that sets it.
    pub flag: Option<&'static str>,
}

/// Every key there is, in the order of the file.
///
/// # Panics
/// Never: a test has read it.
pub fn reference() -> Vec<KeyReference> {
    let mut section = "";
    let mut about = String::new();
    let mut found = Vec::new();
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let Some(text) = line.strip_prefix("# ") else {
            about.clear();
            continue;
        };
        match text.split_once(" = ") {
            Some((name, value)) if !name.contains(' ') => {
                found.push(entry(&format!("{section}.{name}"), about.trim(), value));
                about.clear();
            }
            // Several lines are one text.
            _ => about = format!("{about} {text}"),
        }
    }
    found
}

fn entry(id: &str, about: &str, value: &str) -> KeyReference {
    let key = KEYS
        .iter()
        .find(|key| key.id == id)
        .expect("a test reads the whole file");
    let example = value.strip_suffix(EXAMPLE);
    let spelled = |path: &str| format!("PREFECT_{}", path.replace('.', "_").to_ascii_uppercase());
    KeyReference {
        section: key.section(),
        name: key.name(),
        about: about.to_owned(),
        value: example.unwrap_or(value).to_owned(),
        is_example: example.is_some(),
        variables: key.variables(),
        prefect_variable: key.prefect.map(spelled),
        flag: sources::flag_of(id),
    }
}

#[cfg(test)]
mod tests;
