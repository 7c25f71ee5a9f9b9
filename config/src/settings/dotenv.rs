//! The `.env` file of the working directory, read as python-dotenv reads it (1.x, which the reference uses).

use std::{collections::BTreeMap, sync::LazyLock};

use regex::{Captures, Regex};

use super::{Notes, Sources, files};

/// `KEY=value`, perhaps exported, perhaps quoted over several lines, perhaps with a comment. A key may be without value.
static BINDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?x) ^ (?:export[\t\x20]+)?
        (?: '(?<quoted_key>[^']+)' | (?<key>[^=\#\s]+) ) [\t\x20]*
        (?: = (?:
            [\t\x20]* '(?<single>(?:\\'|[^'])*)' [\t\x20]* (?:\#[^\r\n]*)?
          | [\t\x20]* "(?<double>(?:\\"|[^"])*)" [\t\x20]* (?:\#[^\r\n]*)?
          | (?<plain>[\t\x20]*(?:[^\r\n'"\t\x20][^\r\n]*)?)
        ) )?
        [\t\x20]* (?:\r?\n|\r|$)"#,
    )
    .expect("the pattern is constant")
});

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$\{(?<name>[^}:]*)(?::-(?<default>[^}]*))?\}").expect("the pattern is constant")
});

static COMMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s+#.*").expect("the pattern is constant"));

/// The variables of `.env` in the working directory.
pub(super) fn read(sources: &Sources, notes: &mut Notes) -> BTreeMap<String, String> {
    files::read_text(&sources.directory.join(".env"), notes)
        .map(|text| parse(&text, &sources.environment))
        .unwrap_or_default()
}

/// Lines that are no bindings are passed over. `${NAME}` finds variables from further up, then those of `environment`.
fn parse(text: &str, environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    while !rest.is_empty() {
        let Some(found) = BINDING.captures(rest) else {
            rest = after_line(rest).trim_start();
            continue;
        };
        rest = rest[found.get_match().end()..].trim_start();
        let key = found.name("quoted_key").or_else(|| found.name("key"));
        if let (Some(key), Some(value)) = (key, value(&found)) {
            let value = interpolate(&value, &variables, environment);
            variables.insert(key.as_str().to_owned(), value);
        }
    }
    variables
}

fn after_line(text: &str) -> &str {
    text.find('\n').map_or("", |end| &text[end..])
}

fn value(found: &Captures<'_>) -> Option<String> {
    if let Some(single) = found.name("single") {
        return Some(unescape(single.as_str(), r"\'"));
    }
    if let Some(double) = found.name("double") {
        return Some(unescape(double.as_str(), r#"\'"abfnrtv"#));
    }
    let plain = found.name("plain")?;
    Some(COMMENT.replace(plain.as_str(), "").trim().to_owned())
}

/// Only what is `known` is an escape; any other backslash is one.
fn unescape(text: &str, known: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = rest.as_str().chars().next();
        match next.filter(|next| c == '\\' && known.contains(*next)) {
            None => out.push(c),
            Some(escaped) => {
                rest.next();
                out.push(match escaped {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    itself => itself,
                });
            }
        }
    }
    out
}

fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> String {
    let answer = |found: &Captures<'_>| {
        let name = &found["name"];
        let default = found.name("default").map_or("", |default| default.as_str());
        let value = variables.get(name).or_else(|| environment.get(name));
        value.map_or_else(|| default.to_owned(), Clone::clone)
    };
    REFERENCE.replace_all(text, answer).into_owned()
}

#[cfg(test)]
mod tests;
