//! Deployments: a flow plus where its code is and how it is run.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worker_api::types::{ConcurrencyOptions, DeploymentId, FlowId};

use super::{
    Tx,
    filter::{Condition, Field, Page},
    notices, pools, queues,
    schedules::{self, ScheduleCreate},
    states,
    value::Micros,
};
use crate::{
    error::Error,
    validation::{self, Required},
};

/// A deployment as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeploymentView {
    pub(crate) id: String,
    created: Micros,
    updated: Micros,
    pub(crate) name: String,
    pub(crate) flow_id: String,
    pub(crate) paused: bool,
    schedules: Vec<schedules::ScheduleView>,
    /// Deprecated in the reference, and always null.
    concurrency_limit: Option<u32>,
    global_concurrency_limit: Option<Value>,
    pub(crate) work_queue_id: Option<String>,
    pub(crate) work_queue_name: Option<String>,
    pub(crate) work_pool_name: Option<String>,
    last_polled: Option<Micros>,
    status: &'static str,
    created_by: Option<()>,
    updated_by: Option<()>,
    #[serde(flatten)]
    pub(crate) doc: Map<String, Value>,
}

/// What is sent to create a deployment, or to change one. Read only to check it; [`DeploymentBody`] keeps which keys
/// were there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: Option<String>,
    flow_id: Option<FlowId>,
    paused: Option<bool>,
    schedules: Option<Vec<ScheduleCreate>>,
    concurrency_limit: Option<u32>,
    #[serde(rename = "concurrency_options")]
    _concurrency_options: Option<ConcurrencyOptions>,
    #[serde(rename = "global_concurrency_limit_id")]
    global_concurrency_limit_id: Option<Value>,
    enforce_parameter_schema: Option<bool>,
    parameter_openapi_schema: Option<Value>,
    parameters: Option<Map<String, Value>>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(rename = "labels")]
    _labels: Option<Map<String, Value>>,
    #[serde(rename = "pull_steps")]
    _pull_steps: Option<Vec<Map<String, Value>>>,
    work_queue_name: Option<String>,
    work_pool_name: Option<String>,
    #[serde(rename = "storage_document_id")]
    _storage_document_id: Option<uuid::Uuid>,
    #[serde(rename = "infrastructure_document_id")]
    _infrastructure_document_id: Option<uuid::Uuid>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "path")]
    _path: Option<String>,
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "entrypoint")]
    _entrypoint: Option<String>,
    job_variables: Option<Map<String, Value>>,
    #[serde(rename = "version_info")]
    _version_info: Option<Map<String, Value>>,
}

/// What is sent, and which keys were there: a key that is absent changes nothing.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct DeploymentBody(Map<String, Value>);

/// What deployments can be filtered by.
pub(crate) const FIELDS: &[Field] = &[
    Field::text("id", "d.id"),
    Field::text("name", "d.name"),
    Field::number("paused", "d.paused"),
    Field::tags("tags", "d.doc ->> '$.tags'"),
    Field::text("work_queue_name", "q.name"),
    Field::text("work_queue_id", "d.work_queue_id"),
];

/// Keys that have a column of their own, or mean one.
const APART: &[&str] = &[
    "name",
    "flow_id",
    "paused",
    "schedules",
    "concurrency_limit",
    "global_concurrency_limit_id",
    "work_queue_name",
    "work_pool_name",
    "version_info",
];
/// Keys of old clients, which the reference takes and ignores.
const IGNORED: &[&str] = &[
    "worker_pool_queue_id",
    "worker_pool_name",
    "worker_pool_queue_name",
    "work_pool_queue_name",
];

const SELECT: &str = "SELECT d.id, d.created, d.updated, d.name, d.flow_id, d.paused, d.concurrency_limit,
    d.work_queue_id, q.name, p.name, max(coalesce(y.last_polled, q.last_polled), coalesce(q.last_polled, y.last_polled)), d.doc,
    max(coalesce(q.last_polled, 0), coalesce(y.last_polled, 0)) > ?1 - 60000000,
    (SELECT count(*) FROM lease l WHERE l.deployment_id = d.id AND l.expires > ?1)";
/// Deployments with all that they belong to.
pub(crate) const FROM: &str = "FROM deployment d JOIN flow f ON f.id = d.flow_id
    LEFT JOIN deployment_poll y ON y.deployment_id = d.id
    LEFT JOIN work_queue q ON q.id = d.work_queue_id LEFT JOIN work_pool p ON p.id = q.work_pool_id";

// === impl DeploymentView ===

impl DeploymentView {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id: String = row.get(0)?;
        let (created, updated): (Micros, Micros) = (row.get(1)?, row.get(2)?);
        let limit: Option<u32> = row.get(6)?;
        let taken: u32 = row.get(13)?;
        let global_concurrency_limit = limit.map(|limit| {
            json!({
                "id": id, "created": created, "updated": updated, "name": format!("deployment:{id}"),
                "active": true, "limit": limit, "active_slots": taken, "slot_decay_per_second": 0.0,
            })
        });
        let paused = row.get(5)?;
        Ok(Self {
            id,
            created,
            updated,
            name: row.get(3)?,
            flow_id: row.get(4)?,
            paused,
            schedules: Vec::new(),
            concurrency_limit: None,
            global_concurrency_limit,
            work_queue_id: row.get(7)?,
            work_queue_name: row.get(8)?,
            work_pool_name: row.get(9)?,
            last_polled: row.get(10)?,
            status: if row.get(12)? { "READY" } else { "NOT_READY" },
            created_by: None,
            updated_by: None,
            doc: states::json(row, 11)?.unwrap_or_default(),
        })
    }

    /// One of its objects, empty when it has none.
    pub(super) fn object(&self, key: &str) -> Map<String, Value> {
        self.doc
            .get(key)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    }

    /// Whether its parameters have to fit their schema.
    pub(super) fn enforces(&self) -> bool {
        self.doc.get("enforce_parameter_schema") == Some(&Value::Bool(true))
    }

    /// Its tags.
    pub(super) fn tags(&self) -> Vec<String> {
        let tags = self.doc.get("tags").and_then(Value::as_array);
        let tags = tags.into_iter().flatten().filter_map(Value::as_str);
        tags.map(str::to_owned).collect()
    }
}

// === impl DeploymentBody ===

impl DeploymentBody {
    fn fields(&self) -> Result<Fields, Error> {
        let mut map = self.0.clone();
        map.retain(|key, _| !IGNORED.contains(&key.as_str()));
        let fields: Fields = crate::body::parse_value(Value::Object(map))?;
        if fields.global_concurrency_limit_id.is_some() {
            return Err(Error::Unprocessable(
                "the embedded API has no global concurrency limits: give the deployment a concurrency_limit".to_owned(),
            ));
        }
        if fields.concurrency_limit == Some(0) {
            return Err(Error::field(
                &["concurrency_limit"],
                "Input should be greater than 0",
            ));
        }
        Ok(fields)
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The keys that are kept as they came.
    fn doc(&self) -> impl Iterator<Item = (String, Value)> {
        self.0
            .iter()
            .filter(|(key, _)| !APART.contains(&key.as_str()) && !IGNORED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
    }
}

/// Makes a deployment, or changes the one of this flow and name; schedules are replaced, even by none (3.8.8).
///
/// Says whether it was made.
pub(crate) fn upsert(
    tx: &mut Tx<'_>,
    body: &DeploymentBody,
) -> Result<(DeploymentView, bool), Error> {
    let fields = body.fields()?;
    let (Some(name), Some(flow_id)) = (&fields.name, fields.flow_id) else {
        let key = if fields.name.is_none() {
            "name"
        } else {
            "flow_id"
        };
        return Err(Error::Body {
            kind: "missing",
            loc: vec!["body".into(), key.into()],
            msg: "Field required".to_owned(),
        });
    };
    check_new(tx, &fields)?;
    let found = find(
        tx,
        "d.flow_id = ?2 AND d.name = ?3",
        [&flow_id.to_string(), name],
    )?;
    let before = found.as_ref().map(serde_json::to_value).transpose()?;
    let is_new = found.is_none();
    let (id, mut doc) = match found {
        Some(found) => (found.id, found.doc),
        None => (DeploymentId::random().to_string(), initial(flow_id)),
    };
    if is_new {
        tx.prepare_cached(
            "INSERT INTO deployment VALUES (?1, ?2, ?3, ?4, ?4, NULL, 0, NULL, '{}')",
        )?
        .execute(params![id, flow_id.to_string(), name, Micros(tx.now)])
        .map_err(|_| Error::Conflict(format!("there is no flow {flow_id}")))?;
    }
    doc.extend(body.doc());
    write(tx, &id, body, &fields, &doc)?;
    schedules::delete_runs(tx, &id)?;
    schedules::replace(tx, &id, fields.schedules.as_deref().unwrap_or_default())?;
    let after = read_text(tx, &id)?;
    match before {
        Some(before) => notices::deployment_updated(tx, &id, &before, &after)?,
        None => notices::deployment(tx, &id, "created")?,
    }
    Ok((after, is_new))
}

/// Changes a deployment. Schedules that all have a slug are merged by slug and never removed (3.8.8).
pub(crate) fn update(
    tx: &mut Tx<'_>,
    id: DeploymentId,
    body: &DeploymentBody,
) -> Result<(), Error> {
    let fields = body.fields()?;
    let mut deployment = find(tx, "d.id = ?2", [&id.to_string()])?
        .ok_or_else(|| Error::not_found("Deployment not found."))?;
    let before = serde_json::to_value(&deployment)?;
    if let Some(given) = &fields.schedules {
        schedules::merge(tx, &deployment.id, given)?;
    }
    if let Some(pool) = &fields.work_pool_name {
        let template = pools::read(tx, pool)?.template()?;
        let given = fields.job_variables.clone().unwrap_or_default();
        if let Some(schema) = template.get("variables") {
            validation::check(&Value::Object(given), schema, Required::Ignored, false)
                .map_err(|error| Error::Conflict(format!("Error creating deployment: {error}")))?;
        }
    }
    deployment.doc.extend(body.doc());
    if deployment.enforces()
        && let Some(schema) = deployment
            .doc
            .get("parameter_openapi_schema")
            .filter(|schema| schema.is_object())
    {
        let parameters = Value::Object(deployment.object("parameters"));
        validation::check(&parameters, schema, Required::Ignored, false)
            .map_err(|error| Error::Conflict(format!("Error updating deployment: {error}")))?;
    }
    write(tx, &deployment.id, body, &fields, &deployment.doc)?;
    notices::deployment_updated(tx, &deployment.id, &before, &read_text(tx, &deployment.id)?)?;
    schedules::delete_runs(tx, &deployment.id)
}

/// Reads a deployment.
pub(crate) fn read(tx: &Tx<'_>, id: DeploymentId) -> Result<DeploymentView, Error> {
    read_text(tx, &id.to_string())
}

/// Reads the deployment of a flow and a name.
pub(crate) fn read_by_name(tx: &Tx<'_>, flow: &str, name: &str) -> Result<DeploymentView, Error> {
    find(tx, "f.name = ?2 AND d.name = ?3", [flow, name])?
        .ok_or_else(|| Error::not_found("Deployment not found"))
}

/// Deployments that meet a condition.
pub(crate) fn filter(
    tx: &Tx<'_>,
    condition: Condition,
    sort: Option<&str>,
    page: Page,
) -> Result<Vec<DeploymentView>, Error> {
    let order = match sort.unwrap_or("NAME_ASC") {
        "NAME_ASC" => "d.name, d.id",
        "NAME_DESC" => "d.name DESC, d.id",
        "CREATED_DESC" => "d.created DESC, d.id",
        "UPDATED_DESC" => "d.updated DESC, d.id",
        _ => {
            return Err(Error::field(
                &["sort"],
                "The embedded API does not sort by this",
            ));
        }
    };
    let condition = condition.after(tx.now.as_microsecond());
    let mut found = condition.list(
        tx,
        &format!("{SELECT} {FROM}"),
        order,
        page,
        DeploymentView::read,
    )?;
    for deployment in &mut found {
        deployment.schedules = schedules::of_deployment(tx, &deployment.id)?;
    }
    Ok(found)
}

/// Holds or resumes a deployment's schedules; on hold, the runs they have made ahead go away.
pub(crate) fn pause(tx: &mut Tx<'_>, id: DeploymentId, paused: bool) -> Result<(), Error> {
    let changed = tx.execute(
        "UPDATE deployment SET paused = ?2, updated = ?3 WHERE id = ?1",
        params![id.to_string(), paused, Micros(tx.now)],
    )?;
    match (changed, paused) {
        (0, _) => Err(Error::not_found("Deployment not found")),
        (_, true) => schedules::delete_runs(tx, &id.to_string()),
        (_, false) => Ok(()),
    }
}

/// Deletes a deployment and its flow runs that are still scheduled.
pub(crate) fn delete(tx: &Tx<'_>, id: DeploymentId) -> Result<(), Error> {
    let id = id.to_string();
    notices::deployment(tx, &id, "deleted")?;
    tx.execute(
        "DELETE FROM flow_run WHERE deployment_id = ? AND state_type = 'SCHEDULED' AND run_count = 0
            AND state_name <> 'AwaitingConcurrencySlot'",
        [&id],
    )?;
    match tx.execute("DELETE FROM deployment WHERE id = ?", [&id])? {
        0 => Err(Error::not_found("Deployment not found")),
        _ => Ok(()),
    }
}

/// The checks of a new deployment. Parameters are checked only when the request itself asks for it (3.8.8).
fn check_new(tx: &Tx<'_>, fields: &Fields) -> Result<(), Error> {
    if fields.enforce_parameter_schema == Some(true)
        && let (Some(parameters), Some(schema)) =
            (&fields.parameters, &fields.parameter_openapi_schema)
        && schema.is_object()
    {
        validation::check(
            &Value::Object(parameters.clone()),
            schema,
            Required::Ignored,
            false,
        )
        .map_err(|error| Error::field(&["parameters"], format!("Value error, {error}")))?;
    }
    let Some(pool) = &fields.work_pool_name else {
        return Ok(());
    };
    let template = pools::read(tx, pool)?.template()?;
    match &fields.job_variables {
        Some(given) if !given.is_empty() => {
            validation::check_job_variables(&template, &[given], Required::Ignored).map_err(
                |error| Error::Unprocessable(format!("Error creating deployment: {error}")),
            )
        }
        _ => Ok(()),
    }
}

/// What a deployment says that nobody asked to say anything.
fn initial(flow_id: FlowId) -> Map<String, Value> {
    let Value::Object(doc) = json!({
        "version": null, "description": null, "concurrency_options": null, "job_variables": {}, "parameters": {},
        "tags": [], "labels": { "prefect.flow.id": flow_id }, "parameter_openapi_schema": {}, "path": null,
        "pull_steps": [], "entrypoint": null, "storage_document_id": null, "infrastructure_document_id": null,
        "enforce_parameter_schema": true,
    }) else {
        return Map::new();
    };
    doc
}

fn write(
    tx: &Tx<'_>,
    id: &str,
    body: &DeploymentBody,
    fields: &Fields,
    doc: &Map<String, Value>,
) -> Result<(), Error> {
    let queue = match (&fields.work_pool_name, &fields.work_queue_name) {
        (Some(pool), Some(queue)) => Some(queues::ensure(tx, pool, queue)?.id),
        (Some(pool), None) => Some(pools::read(tx, pool)?.default_queue_id),
        (None, Some(queue)) if !body.has("work_pool_name") => {
            return Err(Error::Unprocessable(format!(
                "the embedded API has no work queues outside of pools: name the work pool of queue '{queue}'"
            )));
        }
        (None, _) => None,
    };
    tx.prepare_cached(
        "UPDATE deployment SET updated = ?2, doc = ?3, paused = coalesce(?4, paused),
            concurrency_limit = CASE WHEN ?5 THEN ?6 ELSE concurrency_limit END,
            work_queue_id = CASE WHEN ?7 THEN ?8 ELSE work_queue_id END WHERE id = ?1",
    )?
    .execute(params![
        id,
        Micros(tx.now),
        serde_json::to_string(doc)?,
        fields.paused,
        body.has("concurrency_limit"),
        fields.concurrency_limit,
        body.has("work_pool_name"),
        queue,
    ])?;
    Ok(())
}

fn read_text(tx: &Tx<'_>, id: &str) -> Result<DeploymentView, Error> {
    find(tx, "d.id = ?2", [id])?.ok_or_else(|| Error::not_found("Deployment not found"))
}

fn find<const N: usize>(
    tx: &Tx<'_>,
    condition: &str,
    values: [&str; N],
) -> Result<Option<DeploymentView>, Error> {
    let mut all: Vec<&dyn rusqlite::ToSql> = Vec::with_capacity(N + 1);
    let now = Micros(tx.now);
    all.push(&now);
    all.extend(values.iter().map(|value| value as &dyn rusqlite::ToSql));
    let found = tx
        .prepare_cached(&format!("{SELECT} {FROM} WHERE {condition}"))?
        .query_row(all.as_slice(), DeploymentView::read)
        .optional()?;
    let Some(mut deployment) = found else {
        return Ok(None);
    };
    deployment.schedules = schedules::of_deployment(tx, &deployment.id)?;
    Ok(Some(deployment))
}
