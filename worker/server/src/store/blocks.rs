//! Blocks: types, schemas and documents, with their secrets covered unless they are asked for.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Tx,
    filter::{Condition, Field, Page},
    states,
    value::Micros,
};
use crate::error::Error;

/// What is sent to create a block type, or to change one.
#[derive(Debug, Deserialize)]
pub(crate) struct TypeCreate {
    name: String,
    slug: String,
    #[serde(flatten)]
    about: TypeUpdate,
}

/// What is said about a block type.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct TypeUpdate {
    #[serde(default)]
    logo_url: Option<String>,
    #[serde(default)]
    documentation_url: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    code_example: Option<String>,
}

/// What is sent to create a block schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaCreate {
    #[serde(default)]
    fields: Map<String, Value>,
    block_type_id: Uuid,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default = "SchemaCreate::unversioned")]
    version: String,
}

/// What is sent to create a block document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentCreate {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    data: Map<String, Value>,
    block_schema_id: Uuid,
    block_type_id: Uuid,
    #[serde(default)]
    is_anonymous: bool,
}

/// What is sent to change a block document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentUpdate {
    #[serde(default)]
    block_schema_id: Option<Uuid>,
    #[serde(default)]
    data: Map<String, Value>,
    #[serde(default)]
    merge_existing_data: Option<bool>,
}

/// How a request names a block document.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Id(Uuid),
    Name { slug: String, name: String },
}

/// What block documents can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "b.id"),
    Field::text("name", "b.name"),
    Field::number("is_anonymous", "b.is_anonymous"),
    Field::text("block_type_id", "b.block_type_id"),
];
/// What block types can be filtered by.
pub(crate) const TYPE_FIELDS: &[Field] =
    &[Field::text("name", "t.name"), Field::text("slug", "t.slug")];
/// What block schemas can be filtered by.
pub(crate) const SCHEMA_FIELDS: &[Field] = &[
    Field::text("id", "s.id"),
    Field::text("block_type_id", "s.block_type_id"),
    Field::text("version", "s.version"),
];

/// What a secret looks like to those who did not ask for it.
const COVERED: &str = "********";
/// How deep blocks may lie in blocks; deeper is taken for a circle.
const DEPTH: usize = 10;

const TYPE: &str = "SELECT t.id, t.created, t.updated, t.name, t.slug, t.doc FROM block_type t";
const SCHEMA: &str = "SELECT s.id, s.created, s.updated, s.checksum, s.fields, s.capabilities, s.version, s.block_type_id
    FROM block_schema s";
const DOCUMENT: &str =
    "SELECT b.id, b.created, b.updated, b.name, b.data, b.block_schema_id, b.block_type_id,
    b.is_anonymous FROM block_document b JOIN block_type t ON t.id = b.block_type_id";

struct Document {
    id: String,
    created: Micros,
    updated: Micros,
    name: Option<String>,
    data: Map<String, Value>,
    schema: String,
    kind: String,
    is_anonymous: bool,
}

// === impl SchemaCreate ===

impl SchemaCreate {
    fn unversioned() -> String {
        "non-versioned".to_owned()
    }
}

// === impl Document ===

impl Document {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            updated: row.get(2)?,
            name: row.get(3)?,
            data: states::json(row, 4)?.unwrap_or_default(),
            schema: row.get(5)?,
            kind: row.get(6)?,
            is_anonymous: row.get(7)?,
        })
    }

    fn view(&self, tx: &Tx<'_>, secrets: bool) -> Result<Value, Error> {
        let schema = one(tx, SCHEMA, "s.id = ?", &[&self.schema], |row| {
            schema_view(row)
        })?
        .unwrap_or_default();
        let kind = one(tx, TYPE, "t.id = ?", &[&self.kind], type_view)?.unwrap_or_default();
        let mut schema_with_type = schema.clone();
        schema_with_type["block_type"] = kind.clone();
        Ok(json!({
            "id": self.id, "created": self.created, "updated": self.updated, "name": self.name,
            "data": self.resolve(tx, secrets, DEPTH)?, "block_schema_id": self.schema,
            "block_schema": schema_with_type, "block_type_id": self.kind, "block_type_name": kind["name"],
            "block_type": kind, "block_document_references": {}, "is_anonymous": self.is_anonymous,
        }))
    }

    /// The data with the blocks it refers to in place, each with its own secrets covered.
    fn resolve(&self, tx: &Tx<'_>, secrets: bool, depth: usize) -> Result<Value, Error> {
        let mut data = Value::Object(self.data.clone());
        if !secrets {
            let fields: Option<Value> = one(tx, SCHEMA, "s.id = ?", &[&self.schema], |row| {
                states::json(row, 4)
            })?
            .flatten();
            let paths = fields
                .as_ref()
                .and_then(|fields| fields.get("secret_fields"))
                .and_then(Value::as_array);
            for path in paths.into_iter().flatten().filter_map(Value::as_str) {
                let path: Vec<&str> = path.split('.').collect();
                cover(&mut data, &path);
            }
        }
        inline(tx, &mut data, secrets, depth)?;
        Ok(data)
    }
}

/// Makes a block type.
pub(crate) fn create_type(tx: &Tx<'_>, kind: &TypeCreate) -> Result<Value, Error> {
    if one(tx, TYPE, "t.slug = ?", &[&kind.slug], type_view)?.is_some() {
        return Err(Error::Conflict(format!(
            "Block type with name \"{}\" already exists",
            kind.name
        )));
    }
    tx.execute(
        "INSERT INTO block_type VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
        params![
            Uuid::new_v4().to_string(),
            kind.slug,
            kind.name,
            Micros(tx.now),
            serde_json::to_string(&kind.about)?
        ],
    )?;
    read_type(tx, &kind.slug)
}

/// Changes what is said about a block type.
pub(crate) fn update_type(tx: &Tx<'_>, id: Uuid, about: &TypeUpdate) -> Result<(), Error> {
    let changed = tx.execute(
        "UPDATE block_type SET updated = ?2, doc = json_patch(doc, ?3) WHERE id = ?1",
        params![
            id.to_string(),
            Micros(tx.now),
            serde_json::to_string(about)?
        ],
    )?;
    match changed {
        0 => Err(Error::not_found("Block type not found")),
        _ => Ok(()),
    }
}

/// Deletes a block type with its schemas and documents.
pub(crate) fn delete_type(tx: &Tx<'_>, id: Uuid) -> Result<(), Error> {
    match tx.execute("DELETE FROM block_type WHERE id = ?", [id.to_string()])? {
        0 => Err(Error::not_found("Block type not found")),
        _ => Ok(()),
    }
}

/// Deletes a block schema with its documents.
pub(crate) fn delete_schema(tx: &Tx<'_>, id: Uuid) -> Result<(), Error> {
    match tx.execute("DELETE FROM block_schema WHERE id = ?", [id.to_string()])? {
        0 => Err(Error::not_found("Block schema not found")),
        _ => Ok(()),
    }
}

/// Reads the block type of a slug.
pub(crate) fn read_type(tx: &Tx<'_>, slug: &str) -> Result<Value, Error> {
    one(tx, TYPE, "t.slug = ?", &[slug], type_view)?
        .ok_or_else(|| Error::not_found("Block type not found"))
}

/// Block types that meet a condition.
pub(crate) fn filter_types(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<Value>, Error> {
    condition.list(tx, TYPE, "t.name", page, type_view)
}

/// Makes a block schema, or finds the same one.
pub(crate) fn create_schema(tx: &Tx<'_>, schema: &SchemaCreate) -> Result<Value, Error> {
    let kind = schema.block_type_id.to_string();
    let fields = serde_json::to_string(&schema.fields)?;
    let same = [kind.as_str(), &fields, &schema.version];
    let condition = "s.block_type_id = ? AND s.fields = ? AND s.version = ?";
    let found = one(tx, SCHEMA, condition, &same, schema_view)?;
    let mut view = if let Some(found) = found {
        found
    } else {
        let id = Uuid::new_v4().to_string();
        tx.execute(
            "INSERT INTO block_schema VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
            params![
                id,
                kind,
                // The reference hashes the fields; clients only use it to find a schema again, and make one when they do not.
                format!("embedded:{id}"),
                schema.version,
                Micros(tx.now),
                fields,
                serde_json::to_string(&schema.capabilities)?
            ],
        )
        .map_err(|_| Error::Conflict(format!("there is no block type {kind}")))?;
        one(tx, SCHEMA, "s.id = ?", &[&id], schema_view)?.unwrap_or_default()
    };
    view["block_type"] = one(tx, TYPE, "t.id = ?", &[&kind], type_view)?.unwrap_or_default();
    Ok(view)
}

/// Reads a block schema.
pub(crate) fn read_schema(tx: &Tx<'_>, id: Uuid) -> Result<Value, Error> {
    one(tx, SCHEMA, "s.id = ?", &[&id.to_string()], schema_view)?
        .ok_or_else(|| Error::not_found("Block schema not found"))
}

/// Reads the block schema of a checksum.
pub(crate) fn read_schema_by_checksum(tx: &Tx<'_>, checksum: &str) -> Result<Value, Error> {
    one(tx, SCHEMA, "s.checksum = ?", &[checksum], schema_view)?
        .ok_or_else(|| Error::not_found("Block schema not found"))
}

/// Block schemas that meet a condition, the newest first.
pub(crate) fn filter_schemas(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
) -> Result<Vec<Value>, Error> {
    condition.list(tx, SCHEMA, "s.created DESC", page, schema_view)
}

/// Makes a block document.
pub(crate) fn create_document(tx: &Tx<'_>, document: &DocumentCreate) -> Result<Value, Error> {
    if document.name.is_none() && !document.is_anonymous {
        return Err(Error::field(
            &["name"],
            "Value error, Names must be provided for block documents.",
        ));
    }
    let id = Uuid::new_v4();
    tx.execute(
        "INSERT INTO block_document VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)",
        params![
            id.to_string(),
            document.block_type_id.to_string(),
            document.block_schema_id.to_string(),
            document.name,
            document.is_anonymous,
            Micros(tx.now),
            serde_json::to_string(&document.data)?
        ],
    )
    .map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Conflict("Block already exists".to_owned())
        }
        _ => error.into(),
    })?;
    read_document(tx, &Key::Id(id), false)
}

/// Reads a block document.
pub(crate) fn read_document(tx: &Tx<'_>, key: &Key, secrets: bool) -> Result<Value, Error> {
    find_document(tx, key)?.view(tx, secrets)
}

/// Changes a block document.
pub(crate) fn update_document(tx: &Tx<'_>, id: Uuid, update: &DocumentUpdate) -> Result<(), Error> {
    let found = find_document(tx, &Key::Id(id))?;
    let merge = update.merge_existing_data.unwrap_or(true);
    let mut data = if merge { found.data } else { Map::new() };
    data.extend(update.data.clone());
    tx.execute(
        "UPDATE block_document SET updated = ?2, data = ?3, block_schema_id = coalesce(?4, block_schema_id) WHERE id = ?1",
        params![
            id.to_string(),
            Micros(tx.now),
            serde_json::to_string(&data)?,
            update.block_schema_id.map(|id| id.to_string())
        ],
    )?;
    Ok(())
}

/// Deletes a block document.
pub(crate) fn delete_document(tx: &Tx<'_>, id: Uuid) -> Result<(), Error> {
    match tx.execute("DELETE FROM block_document WHERE id = ?", [id.to_string()])? {
        0 => Err(Error::not_found("Block document not found")),
        _ => Ok(()),
    }
}

/// Block documents that meet a condition, by name.
pub(crate) fn filter_documents(
    tx: &Tx<'_>,
    condition: Condition,
    page: Page,
    secrets: bool,
) -> Result<Vec<Value>, Error> {
    let found = condition.list(tx, DOCUMENT, "b.name", page, Document::read)?;
    found
        .iter()
        .map(|document| document.view(tx, secrets))
        .collect()
}

fn find_document(tx: &Tx<'_>, key: &Key) -> Result<Document, Error> {
    let found = match key {
        Key::Id(id) => one(tx, DOCUMENT, "b.id = ?", &[&id.to_string()], Document::read)?,
        Key::Name { slug, name } => {
            let condition = "t.slug = ? AND b.name = ?";
            one(tx, DOCUMENT, condition, &[slug, name], Document::read)?
        }
    };
    found.ok_or_else(|| Error::not_found("Block document not found"))
}

fn type_view(row: &Row<'_>) -> rusqlite::Result<Value> {
    let about: Map<String, Value> = states::json(row, 5)?.unwrap_or_default();
    let mut view = json!({
        "id": row.get::<_, String>(0)?, "created": row.get::<_, Micros>(1)?, "updated": row.get::<_, Micros>(2)?,
        "name": row.get::<_, String>(3)?, "slug": row.get::<_, String>(4)?, "logo_url": null,
        "documentation_url": null, "description": null, "code_example": null, "is_protected": false,
    });
    if let Value::Object(view) = &mut view {
        view.extend(about);
    }
    Ok(view)
}

fn schema_view(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?, "created": row.get::<_, Micros>(1)?, "updated": row.get::<_, Micros>(2)?,
        "checksum": row.get::<_, String>(3)?, "fields": states::json::<Value>(row, 4)?,
        "capabilities": states::json::<Value>(row, 5)?, "version": row.get::<_, String>(6)?,
        "block_type_id": row.get::<_, String>(7)?,
    }))
}

fn one<T>(
    tx: &Tx<'_>,
    select: &str,
    condition: &str,
    values: &[&str],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    let found = tx
        .prepare_cached(&format!("{select} WHERE {condition}"))?
        .query_row(rusqlite::params_from_iter(values), read)
        .optional()?;
    Ok(found)
}

/// Covers what a path leads to. `*` stands for every key, and at the end for everything below.
fn cover(value: &mut Value, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        if !value.is_null() {
            *value = COVERED.into();
        }
        return;
    };
    match value {
        Value::Object(fields) if *first == "*" => {
            for (key, field) in fields.iter_mut() {
                // What is covered is the value; a reference to another block is that block's own business.
                if key != "$ref" {
                    cover_below(field, rest);
                }
            }
        }
        Value::Object(fields) => {
            if let Some(field) = fields.get_mut(*first) {
                cover(field, rest);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cover(item, path)),
        _ => {}
    }
}

fn cover_below(value: &mut Value, rest: &[&str]) {
    match value {
        Value::Object(fields) if rest.is_empty() => {
            for (key, field) in fields.iter_mut() {
                if key != "$ref" {
                    cover_below(field, rest);
                }
            }
        }
        other => cover(other, rest),
    }
}

/// Puts the data of other blocks in the place of references to them.
fn inline(tx: &Tx<'_>, value: &mut Value, secrets: bool, depth: usize) -> Result<(), Error> {
    let reference = value
        .pointer("/$ref/block_document_id")
        .and_then(Value::as_str)
        .and_then(|id| id.parse().ok());
    if let Some(id) = reference {
        if depth == 0 {
            return Err(Error::Conflict(
                "block documents refer to each other in a circle".to_owned(),
            ));
        }
        *value = find_document(tx, &Key::Id(id))?.resolve(tx, secrets, depth - 1)?;
        return Ok(());
    }
    match value {
        Value::Object(fields) => fields
            .values_mut()
            .try_for_each(|field| inline(tx, field, secrets, depth)),
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| inline(tx, item, secrets, depth)),
        _ => Ok(()),
    }
}
