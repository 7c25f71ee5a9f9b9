//! The secret texts that a job was made with, and the reasons for its end that may not quote them.

use std::collections::BTreeMap;

use serde_json::Value;

use worker_config::template::Lookups;

use crate::journal::NotStarted;

/// What stands in the place of a secret, as the reference writes it.
const COVER: &str = "********";

/// The shortest text that is covered. A shorter one is in many words that are none of its business.
const SHORTEST: usize = 4;

/// Words in the names of variables whose values are secrets.
const TELLING: [&str; 10] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASS",
    "CREDENTIAL",
    "AUTH",
    "CUSTOM_HEADERS",
    "DSN",
    "CONNECTION",
    "DATABASE_URL",
];

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

    /// And what an environment holds under a name that speaks of a secret.
    pub(crate) fn with_environment(mut self, environment: &BTreeMap<String, String>) -> Self {
        let told = |name: &str| {
            TELLING
                .iter()
                .any(|word| name.to_uppercase().contains(word))
        };
        let values = environment.iter().filter(|(name, _)| told(name));
        self.0.extend(values.map(|(_, value)| value.clone()));
        self.0.retain(|text| text.len() >= SHORTEST);
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
        self
    }

    /// The same document, with nothing in any of its texts that may not be shown.
    pub(crate) fn cover_all(&self, document: Value) -> Value {
        match document {
            Value::String(text) => Value::String(self.covered(text)),
            Value::Array(items) => items.into_iter().map(|item| self.cover_all(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter();
                fields
                    .map(|(name, value)| (name, self.cover_all(value)))
                    .collect()
            }
            other => other,
        }
    }

    /// The same reason, with nothing in it that may not be shown.
    pub(crate) fn cover(&self, why: NotStarted) -> NotStarted {
        match why {
            NotStarted::Failed(reason) => NotStarted::Failed(self.covered(reason)),
            NotStarted::PutBack(reason) => NotStarted::PutBack(self.covered(reason)),
            other => other,
        }
    }

    /// The same text, with nothing in it that may not be shown.
    pub(crate) fn covered(&self, text: String) -> String {
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
