//! The secret texts that a job was made with, and the reasons for its end that may not quote them.

use serde_json::Value;

use worker_config::template::Lookups;

use crate::journal::NotStarted;

/// What stands in the place of a secret, as the reference writes it.
const COVER: &str = "********";

/// The shortest text that is covered. A shorter one is in many words that are none of its business.
const SHORTEST: usize = 4;

/// Texts that may not be shown, the longest first.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

// === impl Secrets ===

impl Secrets {
    /// What blocks hold. Variables are no secrets.
    pub(crate) fn of(lookups: &Lookups) -> Self {
        let mut texts = Vec::new();
        let documents = lookups
            .blocks
            .values()
            .chain(lookups.block_documents.values());
        for value in documents.flatten().flat_map(|data| data.values()) {
            collect(value, &mut texts);
        }
        texts.retain(|text| text.len() >= SHORTEST);
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(texts)
    }

    /// The same reason, with nothing in it that may not be shown.
    pub(crate) fn cover(&self, why: NotStarted) -> NotStarted {
        match why {
            NotStarted::Failed(reason) => NotStarted::Failed(self.covered(reason)),
            NotStarted::PutBack(reason) => NotStarted::PutBack(self.covered(reason)),
            other => other,
        }
    }

    fn covered(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, secret| text.replace(secret.as_str(), COVER))
    }
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests;
