//! The second and third pass: blocks, then Prefect variables.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::{
    TemplateError,
    placeholder::{self, BLOCK_PREFIX, Kind, Placeholder, VARIABLE_PREFIX},
};
use crate::python;

/// What a value refers to on the server, each thing once, in the order it is met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Block type slug and document name, of `{{ prefect.blocks.<slug>.<name> }}`.
    pub blocks: Vec<(String, String)>,
    /// Block document ids, of `{"$ref": {"block_document_id": "<id>"}}`.
    pub block_documents: Vec<String>,
    /// Names, of `{{ prefect.variables.<name> }}`.
    pub variables: Vec<String>,
}

/// What the server answered. None: it has no such thing.
#[derive(Clone, Default)]
pub struct Lookups {
    /// The `data` of block documents, by type slug and name, secrets included.
    pub blocks: BTreeMap<(String, String), Option<Map<String, Value>>>,
    /// The `data` of block documents by id, secrets included.
    pub block_documents: BTreeMap<String, Option<Map<String, Value>>>,
    /// The values of Prefect variables by name.
    pub variables: BTreeMap<String, Option<Value>>,
}

// === impl References ===

impl References {
    /// Whether nothing needs to be fetched.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.block_documents.is_empty() && self.variables.is_empty()
    }
}

// === impl Lookups ===

impl Lookups {
    /// Which of the references have not been looked up.
    pub fn missing(&self, references: References) -> References {
        let References {
            mut blocks,
            mut block_documents,
            mut variables,
        } = references;
        blocks.retain(|block| !self.blocks.contains_key(block));
        block_documents.retain(|id| !self.block_documents.contains_key(id));
        variables.retain(|name| !self.variables.contains_key(name));
        References {
            blocks,
            block_documents,
            variables,
        }
    }

    /// Adds what was looked up later.
    pub fn extend(&mut self, later: Self) {
        let Self {
            blocks,
            block_documents,
            variables,
        } = later;
        self.blocks.extend(blocks);
        self.block_documents.extend(block_documents);
        self.variables.extend(variables);
    }
}

impl fmt::Debug for Lookups {
    /// Names only: any value may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            block_documents,
            variables,
        } = self;
        f.debug_struct("Lookups")
            .field("blocks", &blocks.keys())
            .field("block_documents", &block_documents.keys())
            .field("variables", &variables.keys())
            .finish()
    }
}

/// What a value refers to. What [`expand_blocks`] put in is not searched for blocks again, though this would name them.
/// A malformed
/// block reference is left out; [`expand_blocks`] complains of it.
pub fn references(value: &Value) -> References {
    let mut found = References::default();
    collect(value, &mut found);
    found
}

/// Replaces block references by the data of the blocks, as `resolve_block_document_references` does (3.8.8).
///
/// # Errors
/// [`TemplateError::BlockNotFound`], [`TemplateError::NotLookedUp`], and [`TemplateError::Invalid`] for a reference that
/// is malformed, leads nowhere, or puts an object or array into a text.
pub fn expand_blocks(value: &Value, lookups: &Lookups) -> Result<Value, TemplateError> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        Value::String(text) => expand_blocks_in_text(text, lookups),
        Value::Array(items) => items
            .iter()
            .map(|item| expand_blocks(item, lookups))
            .collect(),
        Value::Object(fields) => match block_document_id(fields) {
            Some(id) => read(lookups.block_documents.get(id), || {
                format!("with id '{id}'")
            })
            .map(|data| Value::Object(data.clone())),
            None => fields
                .iter()
                .map(|(key, field)| Ok((key.clone(), expand_blocks(field, lookups)?)))
                .collect(),
        },
    }
}

/// Replaces Prefect variables by their values, as `resolve_variables` does (3.8.8). One that does not exist leaves an
/// empty text.
///
/// # Errors
/// [`TemplateError::NotLookedUp`].
pub fn expand_variables(value: &Value, lookups: &Lookups) -> Result<Value, TemplateError> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        Value::String(text) => expand_variables_in_text(text, lookups),
        Value::Array(items) => items
            .iter()
            .map(|item| expand_variables(item, lookups))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| Ok((key.clone(), expand_variables(field, lookups)?)))
            .collect(),
    }
}

fn collect(value: &Value, found: &mut References) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => {
            for placeholder in placeholder::find(text) {
                match placeholder.kind {
                    Kind::Block => {
                        if let Some((slug, name, _)) = block_parts(&placeholder) {
                            push_once(&mut found.blocks, (slug, name));
                        }
                    }
                    Kind::Variable => {
                        push_once(&mut found.variables, variable_name(&placeholder));
                    }
                    Kind::Standard | Kind::Environment => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => match block_document_id(fields) {
            Some(id) => push_once(&mut found.block_documents, id.to_owned()),
            None => fields.values().for_each(|field| collect(field, found)),
        },
    }
}

fn push_once<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// An object of that form is replaced as a whole, whatever else is in it. What does not have the form is plain data.
pub(super) fn block_document_id(fields: &Map<String, Value>) -> Option<&str> {
    fields
        .get("$ref")?
        .get("block_document_id")?
        .as_str()
        .filter(|id| !id.is_empty())
}

fn expand_blocks_in_text(text: &str, lookups: &Lookups) -> Result<Value, TemplateError> {
    let placeholders = placeholder::find(text);
    if let [only] = placeholders.as_slice()
        && only.kind == Kind::Block
        && only.is_whole(text)
    {
        return read_block(only, lookups);
    }
    let expanded = placeholder::replace(text, &placeholders, |placeholder| {
        if placeholder.kind != Kind::Block {
            return Ok(None);
        }
        block_text(placeholder, lookups).map(Some)
    })?;
    Ok(Value::String(expanded))
}

/// A block's value as a part of a text.
pub(super) fn block_text(
    placeholder: &Placeholder<'_>,
    lookups: &Lookups,
) -> Result<String, TemplateError> {
    match read_block(placeholder, lookups)? {
        Value::Array(_) | Value::Object(_) => Err(TemplateError::invalid(
            placeholder.name,
            "is an object or array and cannot be part of a text; name one value in it, as '.value' or '.url'",
        )),
        scalar => Ok(python::str(&scalar)),
    }
}

pub(super) fn read_block(
    placeholder: &Placeholder<'_>,
    lookups: &Lookups,
) -> Result<Value, TemplateError> {
    let Some((slug, name, path)) = block_parts(placeholder) else {
        return Err(TemplateError::invalid(
            placeholder.name,
            "must be prefect.blocks.<block type slug>.<block document name>",
        ));
    };
    let key = (slug, name);
    let data = read(lookups.blocks.get(&key), || {
        format!("'{}' of type '{}'", key.1, key.0)
    })?;
    let path = path.as_deref();
    let value = match (data.get("value"), path) {
        (Some(value), path) if data.len() == 1 && !path.is_some_and(points_to_value) => {
            match path {
                Some(path) => placeholder::find_in_value(value, path),
                None => Some(Cow::Borrowed(value)),
            }
        }
        (_, Some(path)) => placeholder::find_in_map(data, path),
        (_, None) => Some(Cow::Owned(Value::Object(data.clone()))),
    };
    value.map(Cow::into_owned).ok_or_else(|| {
        TemplateError::invalid(placeholder.name, "the block has nothing at that path")
    })
}

fn points_to_value(path: &str) -> bool {
    path.strip_prefix("value")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn read<T>(found: Option<&Option<T>>, what: impl FnOnce() -> String) -> Result<&T, TemplateError> {
    match found {
        Some(Some(found)) => Ok(found),
        Some(None) => Err(TemplateError::BlockNotFound(what())),
        None => Err(TemplateError::NotLookedUp(format!("block {}", what()))),
    }
}

/// Slug, name and what is left. Removing the prefix wherever it occurs is the reference's way.
fn block_parts(placeholder: &Placeholder<'_>) -> Option<(String, String, Option<String>)> {
    let parts = placeholder.name.replace(BLOCK_PREFIX, "");
    let mut parts = parts.splitn(3, '.').map(str::to_owned);
    let slug = parts.next().filter(|slug| !slug.is_empty())?;
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some((slug, name, parts.next()))
}

fn expand_variables_in_text(text: &str, lookups: &Lookups) -> Result<Value, TemplateError> {
    let placeholders = placeholder::find(text);
    if let [only] = placeholders.as_slice()
        && only.kind == Kind::Variable
        && only.is_whole(text)
    {
        let value = read_variable(only, lookups)?;
        return Ok(value
            .cloned()
            .unwrap_or_else(|| Value::String(String::new())));
    }
    let expanded = placeholder::replace(text, &placeholders, |placeholder| {
        if placeholder.kind != Kind::Variable {
            return Ok(None);
        }
        let value = read_variable(placeholder, lookups)?;
        Ok(Some(value.map(python::str).unwrap_or_default()))
    })?;
    Ok(Value::String(expanded))
}

pub(super) fn read_variable<'a>(
    placeholder: &Placeholder<'_>,
    lookups: &'a Lookups,
) -> Result<Option<&'a Value>, TemplateError> {
    let name = variable_name(placeholder);
    match lookups.variables.get(&name) {
        Some(value) => Ok(value.as_ref()),
        None => Err(TemplateError::NotLookedUp(format!("variable '{name}'"))),
    }
}

fn variable_name(placeholder: &Placeholder<'_>) -> String {
    placeholder.name.replace(VARIABLE_PREFIX, "")
}
