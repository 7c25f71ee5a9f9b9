//! Reads the inputs of a step or the data of a block: names, kinds and what is missing. Pure.

use serde_json::{Map, Value};
use worker_config::secret::Secret;

use super::SourceError;

/// A mapping of inputs, and where it is among them.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    map: Option<&'a Map<String, Value>>,
    /// The name of the input that it is, for errors; nothing for the step's own.
    at: &'a str,
}

// === impl Inputs ===

impl<'a> Inputs<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map: Some(map),
            at: "",
        }
    }

    /// What is there: `null` and an empty text count as nothing, which is what blocks have where people left a field out.
    pub(super) fn find(&self, name: &str) -> Option<&'a Value> {
        self.map?
            .get(name)
            .filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// Whether the input is given at all, be it empty.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(name))
    }

    pub(super) fn find_text(&self, name: &str) -> Result<Option<&'a str>, SourceError> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a text")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, SourceError> {
        self.find_text(name)?
            .ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(super) fn find_string(&self, name: &str) -> Result<Option<String>, SourceError> {
        Ok(self.find_text(name)?.map(str::to_owned))
    }

    pub(super) fn find_secret(&self, name: &str) -> Result<Option<Secret>, SourceError> {
        Ok(self.find_text(name)?.map(Secret::new))
    }

    /// A truth value, also as the text that templates leave.
    pub(super) fn find_bool(&self, name: &str) -> Result<Option<bool>, SourceError> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    pub(super) fn find_number(&self, name: &str) -> Result<Option<f64>, SourceError> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(name, "must be a positive number")),
        }
    }

    /// A mapping below this one; empty where there is none.
    pub(super) fn map(&self, name: &'a str) -> Result<Self, SourceError> {
        match self.find(name) {
            None => Ok(Self {
                map: None,
                at: name,
            }),
            Some(Value::Object(map)) => Ok(Self {
                map: Some(map),
                at: name,
            }),
            Some(_) => Err(self.wrong(name, "must be a mapping")),
        }
    }

    /// Everything in it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.into_iter().flatten()
    }

    /// Refuses inputs that the step does not have, as the reference does.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), SourceError> {
        match self
            .entries()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(self.wrong(name, "is not known to this step")),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, name: &str, problem: &str) -> SourceError {
        let input = if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.at)
        };
        SourceError::Input {
            input,
            problem: problem.to_owned(),
        }
    }
}
