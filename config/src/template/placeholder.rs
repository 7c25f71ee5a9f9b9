//! What `{{ name }}` looks like, and how a name leads into values.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::Regex;
use serde_json::{Map, Value};

/// Prefix of a reference to a block.
pub(super) const BLOCK_PREFIX: &str = "prefect.blocks.";
/// Prefix of a reference to a Prefect variable.
pub(super) const VARIABLE_PREFIX: &str = "prefect.variables.";

/// One `{{ name }}` in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder<'a> {
    /// What stands between the braces, without blanks.
    pub name: &'a str,
    /// Who answers for it.
    pub kind: Kind,
    /// Where it is, braces and all.
    pub range: Range<usize>,
}

/// Who answers for a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The job variables.
    Standard,
    /// A block on the server.
    Block,
    /// A Prefect variable on the server.
    Variable,
    /// The worker's own environment.
    Environment,
}

/// The reference's pattern. Python's `\w` is exactly letters, numbers and `_`, which is less than `\w` here, and its
/// `\s` has four more control characters (compared over all code points with `CPython` 3.11).
static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{\{[\s\x1c-\x1f]*([\p{L}\p{N}_.\-\[\]$]+)[\s\x1c-\x1f]*\}\}")
        .expect("the pattern is constant")
});

static DECIMAL_DIGIT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\d$").expect("the pattern is constant"));

// === impl Placeholder ===

impl Placeholder<'_> {
    /// Whether there is nothing else in the text.
    pub(super) fn is_whole(&self, text: &str) -> bool {
        self.range == (0..text.len())
    }
}

/// The placeholders of a text from left to right.
pub(super) fn find(text: &str) -> Vec<Placeholder<'_>> {
    PATTERN
        .captures_iter(text)
        .map(|captures| {
            let whole = captures.get_match();
            let name = captures.get(1).expect("the pattern has one group").as_str();
            Placeholder {
                name,
                kind: Kind::of(name),
                range: whole.range(),
            }
        })
        .collect()
}

/// Shows every placeholder in a value; keys are never searched.
pub(super) fn visit(value: &Value, see: &mut dyn FnMut(&Placeholder<'_>)) {
    match value {
        Value::String(text) => find(text).iter().for_each(see),
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Object(fields) => fields.values().for_each(|field| visit(field, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces the placeholders for which `answer` has a text, in one pass from left to right: what was put in is not
/// searched again.
pub(super) fn replace<E>(
    text: &str,
    placeholders: &[Placeholder<'_>],
    mut answer: impl FnMut(&Placeholder<'_>) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for placeholder in placeholders {
        if let Some(replacement) = answer(placeholder)? {
            out.push_str(&text[done..placeholder.range.start]);
            out.push_str(&replacement);
            done = placeholder.range.end;
        }
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// The steps of a name: `a.b[0].c` has `a`, `b`, `0` and `c`.
pub(super) fn segments(name: &str) -> impl Iterator<Item = String> {
    name.replace('[', ".")
        .replace(']', "")
        .split('.')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Follows a name into a map, as the reference's `get_from_dict` does.
pub(super) fn find_in_map<'a>(map: &'a Map<String, Value>, name: &str) -> Option<Cow<'a, Value>> {
    let mut segments = segments(name);
    let first = segments.next()?;
    if python_int(&first).is_some() {
        return None;
    }
    follow(map.get(&first)?, segments)
}

/// Follows a name into any value.
pub(super) fn find_in_value<'a>(value: &'a Value, name: &str) -> Option<Cow<'a, Value>> {
    follow(value, segments(name))
}

fn follow(value: &Value, segments: impl Iterator<Item = String>) -> Option<Cow<'_, Value>> {
    let mut value = Cow::Borrowed(value);
    for segment in segments {
        value = step(&value, &segment)?;
    }
    Some(value)
}

/// A segment that Python reads as an integer is an index and nothing else: it never finds the key of an object, and it
/// picks a character out of a text.
fn step<'a>(value: &Cow<'a, Value>, segment: &str) -> Option<Cow<'a, Value>> {
    let index = python_int(segment);
    if let Value::String(text) = value.as_ref() {
        let index = from_either_end(index?, text.chars().count())?;
        let character = text.chars().nth(index)?;
        return Some(Cow::Owned(Value::String(character.into())));
    }
    let Cow::Borrowed(value) = value else {
        return None;
    };
    match (value, index) {
        (Value::Object(fields), None) => fields.get(segment).map(Cow::Borrowed),
        (Value::Array(items), Some(index)) => {
            let index = from_either_end(index, items.len())?;
            items.get(index).map(Cow::Borrowed)
        }
        _ => None,
    }
}

fn from_either_end(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length)
        .contains(&index)
        .then(|| usize::try_from(index).ok())?
}

/// Reads what Python's `int` reads of the characters a placeholder can have: a minus, digits of any script, and single
/// underscores between them. What is beyond any list becomes the largest number.
fn python_int(segment: &str) -> Option<i64> {
    let (negative, digits) = match segment.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, segment),
    };
    let mut number: i64 = 0;
    let mut after_digit = false;
    for c in digits.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        number = number.saturating_mul(10).saturating_add(decimal_digit(c)?);
        after_digit = true;
    }
    // Not `i64::MIN`, so that adding a length cannot overflow.
    after_digit.then_some(if negative { -number } else { number })
}

fn decimal_digit(c: char) -> Option<i64> {
    if c.is_ascii() {
        return c.to_digit(10).map(i64::from);
    }
    let is_digit = |c: char| DECIMAL_DIGIT.is_match(c.encode_utf8(&mut [0; 4]));
    if !is_digit(c) {
        return None;
    }
    // Unicode keeps decimal digits in runs of ten that start with their zero.
    let before = (1..)
        .map_while(|back| char::from_u32(u32::from(c) - back))
        .take_while(|&c| is_digit(c))
        .count();
    i64::try_from(before % 10).ok()
}

// === impl Kind ===

impl Kind {
    fn of(name: &str) -> Self {
        if name.starts_with(BLOCK_PREFIX) {
            Self::Block
        } else if name.starts_with(VARIABLE_PREFIX) {
            Self::Variable
        } else if name.starts_with('$') {
            Self::Environment
        } else {
            Self::Standard
        }
    }
}

#[cfg(test)]
mod tests;
