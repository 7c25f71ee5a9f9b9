//! Base job templates: how a pool's template and job variables become a job configuration.
//!
//! Behaves as `BaseJobConfiguration.from_template_and_values` of the reference (3.8.8), in two pure phases, because
//! blocks and variables live on the server: [`BaseJobTemplate::fill`] leaves their placeholders in place,
//! [`Filled::references`] says what to fetch, and [`Filled::complete`] puts it in. Fetching is left to the caller,
//! and the typed options of a driver to that driver.

mod apply;
mod configuration;
mod lookup;
mod merge;
mod placeholder;
mod step;

use std::fmt;

use serde_json::{Map, Value};

use self::{apply::apply_to_fields, merge::merge_job_variables, placeholder::Kind};
pub use self::{
    apply::apply_values,
    configuration::JobConfiguration,
    lookup::{Lookups, References, expand_blocks, expand_variables, references},
    step::{block_type, environment_names, expand_once},
};

/// A work pool's base job template: the shape of a job, and the variables that fill it.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseJobTemplate {
    configuration: Map<String, Value>,
    variables: Map<String, Value>,
}

/// A job configuration in which only block references and Prefect variables are still open.
#[derive(Clone, PartialEq)]
pub struct Filled {
    configuration: Value,
    /// Blocks are put in once: what they brought along is not searched for more of them.
    blocks_are_in: bool,
}

/// Why a template gives no job configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is `{}` or null: nobody has filled it in yet.
    #[error("the base job template is empty; save one for the work pool, or let a worker do it")]
    Empty,
    /// One of the two sections of a template is missing.
    #[error(
        "the base job template has no '{0}'; it must have both 'job_configuration' and 'variables'"
    )]
    MissingSection(&'static str),
    /// A part of the template or a job variable cannot be used as it is.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field of the template or of the job configuration, or the placeholder.
        field: String,
        /// What is wrong with it and what would be right. It names no values.
        reason: String,
    },
    /// A block the template or a job variable refers to does not exist.
    #[error(
        "block not found: {0}; the deployment or the work pool refers to it, create it or correct the reference"
    )]
    BlockNotFound(String),
    /// Something a placeholder refers to was not fetched before [`Filled::complete`].
    #[error("{0} was not looked up")]
    NotLookedUp(String),
}

// === impl BaseJobTemplate ===

impl BaseJobTemplate {
    /// Takes a template as the API stores it.
    ///
    /// # Errors
    /// [`TemplateError::Empty`] for `{}` and null; [`TemplateError::MissingSection`] when `job_configuration` or
    /// `variables` is missing; [`TemplateError::Invalid`] when something is not an object that must be one.
    pub fn parse(template: &Value) -> Result<Self, TemplateError> {
        let sections = match template {
            Value::Null => return Err(TemplateError::Empty),
            Value::Object(sections) if sections.is_empty() => return Err(TemplateError::Empty),
            Value::Object(sections) => sections,
            _ => return Err(TemplateError::not_an_object("base job template")),
        };
        let configuration = section(sections, "job_configuration")?;
        let variables = section(sections, "variables")?;
        if let Some(properties) = variables.get("properties")
            && !properties.is_object()
        {
            return Err(TemplateError::not_an_object("variables.properties"));
        }
        Ok(Self {
            configuration: configuration.clone(),
            variables: variables.clone(),
        })
    }

    /// The shape of a job, with its placeholders.
    pub fn job_configuration(&self) -> &Map<String, Value> {
        &self.configuration
    }

    /// The JSON schema of the job variables.
    pub fn variables(&self) -> &Map<String, Value> {
        &self.variables
    }

    /// Every job variable and its value: the schema's defaults, then the deployment's, then the flow run's.
    ///
    /// The worker reads job variables of its own from it, which no template needs to mention. A default of null
    /// means that there is none.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when the job variables cannot be merged.
    pub fn merged_variables(
        &self,
        deployment: &Map<String, Value>,
        flow_run: &Map<String, Value>,
    ) -> Result<Map<String, Value>, TemplateError> {
        let mut variables = self.defaults();
        variables.extend(merge_job_variables(deployment, flow_run)?);
        Ok(variables)
    }

    /// Puts job variables and environment placeholders in. Block references and Prefect variables stay.
    ///
    /// `environment` answers for `{{ $NAME }}`; one that always answers `None` switches those off.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] when the job variables cannot be merged.
    pub fn fill(
        &self,
        deployment: &Map<String, Value>,
        flow_run: &Map<String, Value>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Filled, TemplateError> {
        let defaults = self.defaults();
        let mut configuration = self.configuration.clone();
        if let Some(env) = defaults.get("env")
            && crate::python::is_truthy(env)
        {
            merge_env(&mut configuration, env)?;
        }
        let variables = self.merged_variables(deployment, flow_run)?;
        if configuration.get("env").is_some_and(Value::is_object)
            && let Some(env) = variables.get("env")
            && crate::python::is_truthy(env)
        {
            merge_env(&mut configuration, env)?;
        }
        let configuration = apply_to_fields(&configuration, &variables, environment);
        Ok(Filled {
            configuration: Value::Object(configuration),
            blocks_are_in: false,
        })
    }

    /// Names in the template's placeholders that no job variable declares, in the order they are met.
    ///
    /// They resolve as unset, like the reference's; most often they are spelling mistakes.
    pub fn unknown_placeholders(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for field in self.configuration.values() {
            placeholder::visit(field, &mut |placeholder| {
                if placeholder.kind != Kind::Standard {
                    return;
                }
                let first = placeholder::segments(placeholder.name).next();
                let known =
                    first.is_some_and(|name| self.properties().any(|(key, _)| *key == name));
                if !known && !unknown.iter().any(|name| name == placeholder.name) {
                    unknown.push(placeholder.name.to_owned());
                }
            });
        }
        unknown
    }

    fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.variables
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    fn defaults(&self) -> Map<String, Value> {
        self.properties()
            .filter_map(|(name, schema)| Some((name, schema.get("default")?)))
            .filter(|(_, default)| !default.is_null())
            .map(|(name, default)| (name.clone(), default.clone()))
            .collect()
    }
}

// === impl Filled ===

impl Filled {
    /// What must be fetched from the server before the next step.
    ///
    /// A block's data may itself name Prefect variables: where there are blocks, ask again after [`Filled::with_blocks`],
    /// which then names variables only.
    pub fn references(&self) -> References {
        let mut references = references(&self.configuration);
        if self.blocks_are_in {
            references.blocks.clear();
            references.block_documents.clear();
        }
        references
    }

    /// Puts the blocks in, unless they are.
    ///
    /// # Errors
    /// [`TemplateError::BlockNotFound`], [`TemplateError::NotLookedUp`], and [`TemplateError::Invalid`] for a
    /// reference that is malformed, leads nowhere, or puts an object or array into a text.
    pub fn with_blocks(&self, lookups: &Lookups) -> Result<Self, TemplateError> {
        if self.blocks_are_in {
            return Ok(self.clone());
        }
        Ok(Self {
            configuration: expand_blocks(&self.configuration, lookups)?,
            blocks_are_in: true,
        })
    }

    /// Puts blocks, unless they are in, and then Prefect variables in.
    ///
    /// # Errors
    /// As [`Filled::with_blocks`].
    pub fn complete(&self, lookups: &Lookups) -> Result<JobConfiguration, TemplateError> {
        let filled = self.with_blocks(lookups)?;
        match expand_variables(&filled.configuration, lookups)? {
            Value::Object(configuration) => Ok(JobConfiguration::from(configuration)),
            _ => Err(TemplateError::not_an_object("job_configuration")),
        }
    }
}

impl fmt::Debug for Filled {
    /// Field names only: any value may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self
            .configuration
            .as_object()
            .into_iter()
            .flat_map(Map::keys);
        f.debug_set().entries(fields).finish()
    }
}

// === impl TemplateError ===

impl TemplateError {
    fn not_an_object(field: impl Into<String>) -> Self {
        Self::invalid(field, "must be an object")
    }

    fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Whether there is a placeholder of any kind in a value.
pub fn has_placeholder(value: &Value) -> bool {
    let mut found = false;
    placeholder::visit(value, &mut |_| found = true);
    found
}

fn section<'a>(
    sections: &'a Map<String, Value>,
    name: &'static str,
) -> Result<&'a Map<String, Value>, TemplateError> {
    match sections.get(name) {
        None => Err(TemplateError::MissingSection(name)),
        Some(Value::Object(section)) => Ok(section),
        Some(_) => Err(TemplateError::not_an_object(name)),
    }
}

/// Lays `env` over an object under `env`; anything else there, a placeholder for one, is replaced.
fn merge_env(configuration: &mut Map<String, Value>, env: &Value) -> Result<(), TemplateError> {
    match (configuration.get_mut("env"), env) {
        (Some(Value::Object(present)), Value::Object(env)) => {
            present.extend(
                env.iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
            Ok(())
        }
        (Some(Value::Object(_)), _) => Err(TemplateError::not_an_object("env")),
        _ => {
            configuration.insert("env".to_owned(), env.clone());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
