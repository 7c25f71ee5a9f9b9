//! What of a job's environment may not be read in its manifest, and where it is kept instead. Pure.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

/// Where the values of variables that are credentials reach a job from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A Secret that somebody keeps, for a variable: `PREFECT_API_KEY` and `PREFECT_API_AUTH_STRING` may have one.
    pub named: BTreeMap<String, SecretKey>,
    /// What becomes of the others.
    pub rest: Keep,
    /// Whether all other plain variables are kept with them, credentials or not.
    pub whole_environment: bool,
}

/// A value in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// The Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What becomes of a credential for which nobody keeps a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// It is in a Secret of the job's own, which goes with the job.
    #[default]
    OwnSecret,
    /// It does not reach the job, which has it from elsewhere or does without.
    Nowhere,
}

/// The values of a Secret. Printing shows names only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValues(pub BTreeMap<String, String>);

/// The variables that always are credentials, or may have one in them.
const CREDENTIALS: [&str; 3] = [
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
];

/// What the settings of the reference for all this begin with (prefect-kubernetes 0.8.0).
const PREFIX: &str = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_";

// === impl Credentials ===

impl Credentials {
    /// What the reference's settings and `WORKER_KUBERNETES_SECRETS` (`own` or `none`) say.
    pub fn find(environment: &BTreeMap<String, String>) -> Self {
        let set = |name: &str| {
            let value = environment.get(&format!("{PREFIX}{name}"));
            value.filter(|value| !value.is_empty())
        };
        let named = [
            ("PREFECT_API_KEY", "API_KEY"),
            ("PREFECT_API_AUTH_STRING", "API_AUTH_STRING"),
        ];
        let named = named.into_iter().filter_map(|(variable, setting)| {
            let secret = SecretKey {
                name: set(&format!("{setting}_SECRET_NAME"))?.clone(),
                key: set(&format!("{setting}_SECRET_KEY"))?.clone(),
            };
            Some((variable.to_owned(), secret))
        });
        let is_none = environment
            .get("WORKER_KUBERNETES_SECRETS")
            .is_some_and(|said| said.eq_ignore_ascii_case("none"));
        let whole = set("STORE_ENV_AS_SECRET");
        Self {
            named: named.collect(),
            rest: if is_none {
                Keep::Nowhere
            } else {
                Keep::OwnSecret
            },
            whole_environment: whole.is_some_and(|said| {
                ["1", "true", "t", "yes", "y", "on"].contains(&said.to_lowercase().as_str())
            }),
        }
    }

    /// Takes the credentials out of a container's list of variables, and puts references in their places. Gives what the job's own Secret, of this
    /// name, has to hold.
    pub(super) fn hide(&self, variables: &mut Vec<Value>, own: &str) -> Option<SecretValues> {
        let elsewhere: Vec<String> = variables
            .iter()
            .filter(|entry| entry.get("valueFrom").is_some())
            .filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned()))
            .collect();
        let mut values = BTreeMap::new();
        let written = std::mem::take(variables);
        for entry in written {
            let Some((name, value)) = plain(&entry) else {
                variables.push(entry);
                continue;
            };
            let is_credential = CREDENTIALS.contains(&name);
            if is_credential && elsewhere.iter().any(|one| one == name) {
                // Who wrote the manifest has seen to it.
                continue;
            }
            match self.named.get(name) {
                Some(secret) => variables.push(reference(name, &secret.name, &secret.key)),
                None if is_credential && self.rest == Keep::Nowhere => {}
                None if is_credential || self.whole_environment => {
                    let key = key_for(name, values.len());
                    variables.push(reference(name, own, &key));
                    values.insert(key, value.to_owned());
                }
                None => variables.push(entry),
            }
        }
        (!values.is_empty()).then_some(SecretValues(values))
    }
}

// === impl SecretValues ===

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An entry that has a value, and one worth hiding.
fn plain(entry: &Value) -> Option<(&str, &str)> {
    let fields: &Map<String, Value> = entry.as_object()?;
    let value = fields.get("value")?.as_str()?;
    Some((fields.get("name")?.as_str()?, value))
}

/// A variable's name, where that may be a key of a Secret.
fn key_for(name: &str, index: usize) -> String {
    let fits = |one: u8| one.is_ascii_alphanumeric() || b"_.-".contains(&one);
    if name.len() <= 253 && !name.starts_with("..") && name != "." && name.bytes().all(fits) {
        name.to_owned()
    } else {
        format!("variable-{index}")
    }
}

fn reference(variable: &str, secret: &str, key: &str) -> Value {
    let reference = json!({"name": secret, "key": key});
    json!({"name": variable, "valueFrom": {"secretKeyRef": reference}})
}

#[cfg(test)]
mod tests;
