//! The job configuration: a resolved template, still JSON.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

use super::{TemplateError, apply::apply_values};
use crate::python;

/// A resolved template. What every driver has is read through the typed methods; the rest is the driver's own.
#[derive(Clone, Default, PartialEq)]
pub struct JobConfiguration(Map<String, Value>);

// === impl JobConfiguration ===

impl JobConfiguration {
    /// A field as it is.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// All fields, given away.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// The command somebody configured; an empty one counts as none.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when it is not a text.
    pub fn command(&self) -> Result<Option<String>, TemplateError> {
        self.text("command")
    }

    /// The environment somebody configured. Values are written as Python's `str` writes them; null means that the job
    /// must not have the variable, wherever else it would come from.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when it is not an object, or a name in it is none that a variable can have.
    pub fn env(&self) -> Result<BTreeMap<String, Option<String>>, TemplateError> {
        let env = self.object("env")?.into_iter().flatten();
        env.map(|(name, value)| variable(name, value)).collect()
    }

    /// [`JobConfiguration::env`] of a Kubernetes pool, where it may also be a list as containers have it. Of a list, entries with a name and
    /// a value count, and the last of a name; the others are for the driver to put into its manifest.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] also when an entry of a list is not an object.
    pub fn env_or_list(&self) -> Result<BTreeMap<String, Option<String>>, TemplateError> {
        let Some(Value::Array(entries)) = self.0.get("env") else {
            return self.env();
        };
        let mut env = BTreeMap::new();
        for entry in entries {
            let Value::Object(entry) = entry else {
                return Err(TemplateError::invalid(
                    "env",
                    "each entry of the list must be an object with a name",
                ));
            };
            match (entry.get("name"), entry.get("value")) {
                (Some(Value::String(name)), Some(value)) => env.extend([variable(name, value)?]),
                (Some(Value::String(_)) | None, _) => {}
                (Some(_), _) => {
                    return Err(TemplateError::invalid(
                        "env",
                        "a name in the list must be a text",
                    ));
                }
            }
        }
        Ok(env)
    }

    /// The labels somebody configured.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when it is not an object of texts.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, TemplateError> {
        let labels = self.object("labels")?.into_iter().flatten();
        labels
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                _ => Err(TemplateError::invalid(
                    format!("labels.{name}"),
                    "must be a text; put it in quotes",
                )),
            })
            .collect()
    }

    /// The name somebody configured, with `{{ ctx.flow.* }}` and `{{ ctx.flow_run.* }}` filled from the JSON of both.
    /// None: the flow run's own name is to be used.
    ///
    /// As in the reference, a placeholder that is the whole name and leads nowhere stays as it is written.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when it is not a text.
    pub fn name(
        &self,
        flow: &Value,
        flow_run: &Value,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<String>, TemplateError> {
        let Some(name) = self.text("name")? else {
            return Ok(None);
        };
        let Value::Object(context) = json!({"ctx": {"flow": flow, "flow_run": flow_run}}) else {
            return Ok(Some(name));
        };
        let rendered = match apply_values(&Value::String(name.clone()), &context, environment) {
            Some(rendered) => rendered,
            None => Value::String(name),
        };
        Ok(python::is_truthy(&rendered).then(|| python::str(&rendered)))
    }

    fn text(&self, field: &str) -> Result<Option<String>, TemplateError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(TemplateError::invalid(field, "must be a text")),
        }
    }

    fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>, TemplateError> {
        match self.0.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(TemplateError::not_an_object(field)),
        }
    }
}

/// One environment variable. A name that none can have would past this point be another variable than the one that was meant, or none.
fn variable(name: &str, value: &Value) -> Result<(String, Option<String>), TemplateError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(TemplateError::invalid(
            format!("env.{name}"),
            "is not a name that an environment variable can have",
        ));
    }
    let value = (!value.is_null()).then(|| python::str(value));
    Ok((name.to_owned(), value))
}

impl From<Map<String, Value>> for JobConfiguration {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl fmt::Debug for JobConfiguration {
    /// Field names only: any value may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
