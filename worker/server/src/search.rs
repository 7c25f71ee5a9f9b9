//! Searching for words in a text, in the reference's language for it (3.8.8).

use serde::{Deserialize, Serialize};

/// The words that somebody looks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    query: String,
}

// === impl Text ===

impl Text {
    /// Any of the bare words, each word with a `+`, and none with a `-` or `!`; a phrase stands in quotes.
    pub(crate) fn wants(&self, text: &str) -> bool {
        let (text, query) = (text.to_lowercase(), self.query.to_lowercase());
        let (mut found, mut asked) = (false, false);
        for term in terms(&query) {
            let bare = term.trim_start_matches(['+', '-', '!']).trim_matches('"');
            if bare.is_empty() {
                // A sign alone asks for nothing.
                continue;
            }
            let is_there = text.contains(bare);
            match term.chars().next() {
                Some('+') if !is_there => return false,
                Some('-' | '!') if is_there => return false,
                Some('+' | '-' | '!') => {}
                _ => (found, asked) = (found || is_there, true),
            }
        }
        found || !asked
    }
}

/// The words of a search; what stands in quotes is one.
fn terms(query: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        let sign = rest.len() - rest.trim_start_matches(['+', '-', '!']).len();
        let end = match rest.get(sign..).and_then(|bare| bare.strip_prefix('"')) {
            Some(phrase) => sign + 1 + phrase.find('"').map_or(phrase.len(), |end| end + 1),
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (term, after) = rest.split_at(end);
        terms.push(term);
        rest = after.trim_start();
    }
    terms
}

#[cfg(test)]
mod tests;
