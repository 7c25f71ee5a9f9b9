//! `/block_types`, `/block_schemas` and `/block_documents`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, patch, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::App;
use crate::{
    body::{Args, Body, Params},
    error::Error,
    store::{
        blocks::{
            self, DocumentCreate, DocumentUpdate, FIELDS, Key, SCHEMA_FIELDS, SchemaCreate,
            TYPE_FIELDS, TypeCreate, TypeUpdate,
        },
        filter::{Condition, Page},
    },
};

#[derive(Debug, Deserialize)]
struct BlockQuery {
    #[serde(default)]
    block_types: Option<Map<String, Value>>,
    #[serde(default)]
    block_schemas: Option<Map<String, Value>>,
    #[serde(default)]
    block_documents: Option<Map<String, Value>>,
    #[serde(default)]
    include_secrets: bool,
    #[serde(flatten)]
    page: Page,
}

#[derive(Debug, Deserialize)]
struct Secrets {
    #[serde(default)]
    include_secrets: bool,
}

type Answer = Result<Json<Value>, Error>;
type Answers = Result<Json<Vec<Value>>, Error>;
type Made = Result<(StatusCode, Json<Value>), Error>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/block_types/", post(create_type))
        .route("/block_types/filter", post(filter_types))
        .route("/block_types/{id}", patch(update_type).delete(remove_type))
        .route("/block_types/slug/{slug}", get(read_type))
        .route(
            "/block_types/slug/{slug}/block_documents",
            get(documents_of_type),
        )
        .route(
            "/block_types/slug/{slug}/block_documents/name/{name}",
            get(read_by_name),
        )
        .route("/block_schemas/", post(create_schema))
        .route("/block_schemas/filter", post(filter_schemas))
        .route(
            "/block_schemas/{id}",
            get(read_schema).delete(remove_schema),
        )
        .route("/block_schemas/checksum/{checksum}", get(read_by_checksum))
        .route("/block_documents/", post(create))
        .route("/block_documents/filter", post(filter))
        .route(
            "/block_documents/{id}",
            get(read).patch(update).delete(remove),
        )
}

async fn create_type(State(app): State<App>, Body(kind): Body<TypeCreate>) -> Made {
    let view = app
        .store
        .run(move |tx| blocks::create_type(tx, &kind))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn update_type(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Body(about): Body<TypeUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| blocks::update_type(tx, id, &about))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_type(
    State(app): State<App>,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, Error> {
    app.store.run(move |tx| blocks::delete_type(tx, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_schema(
    State(app): State<App>,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| blocks::delete_schema(tx, id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read_type(State(app): State<App>, Params(slug): Params<String>) -> Answer {
    app.store
        .run(move |tx| blocks::read_type(tx, &slug))
        .await
        .map(Json)
}

async fn filter_types(State(app): State<App>, Body(query): Body<BlockQuery>) -> Answers {
    let mut condition = Condition::default();
    condition.add("block_types", query.block_types.as_ref(), TYPE_FIELDS)?;
    app.store
        .run(move |tx| blocks::filter_types(tx, condition, query.page))
        .await
        .map(Json)
}

async fn documents_of_type(
    State(app): State<App>,
    Params(slug): Params<String>,
    Args(secrets): Args<Secrets>,
) -> Answers {
    app.store
        .run(move |tx| {
            blocks::read_type(tx, &slug)?;
            let mut condition = Condition::default();
            condition.and("t.slug = ?", [slug.into()]);
            blocks::filter_documents(tx, condition, Page::default(), secrets.include_secrets)
        })
        .await
        .map(Json)
}

async fn create_schema(State(app): State<App>, Body(schema): Body<SchemaCreate>) -> Made {
    let view = app
        .store
        .run(move |tx| blocks::create_schema(tx, &schema))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read_schema(State(app): State<App>, Params(id): Params<Uuid>) -> Answer {
    app.store
        .run(move |tx| blocks::read_schema(tx, id))
        .await
        .map(Json)
}

async fn read_by_checksum(State(app): State<App>, Params(checksum): Params<String>) -> Answer {
    app.store
        .run(move |tx| blocks::read_schema_by_checksum(tx, &checksum))
        .await
        .map(Json)
}

async fn filter_schemas(State(app): State<App>, Body(query): Body<BlockQuery>) -> Answers {
    let mut condition = Condition::default();
    condition.add("block_schemas", query.block_schemas.as_ref(), SCHEMA_FIELDS)?;
    app.store
        .run(move |tx| blocks::filter_schemas(tx, condition, query.page))
        .await
        .map(Json)
}

async fn create(State(app): State<App>, Body(document): Body<DocumentCreate>) -> Made {
    let view = app
        .store
        .run(move |tx| blocks::create_document(tx, &document))
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Args(secrets): Args<Secrets>,
) -> Answer {
    let key = Key::Id(id);
    app.store
        .run(move |tx| blocks::read_document(tx, &key, secrets.include_secrets))
        .await
        .map(Json)
}

async fn read_by_name(
    State(app): State<App>,
    Params((slug, name)): Params<(String, String)>,
    Args(secrets): Args<Secrets>,
) -> Answer {
    let key = Key::Name { slug, name };
    app.store
        .run(move |tx| blocks::read_document(tx, &key, secrets.include_secrets))
        .await
        .map(Json)
}

async fn filter(State(app): State<App>, Body(query): Body<BlockQuery>) -> Answers {
    let mut condition = Condition::default();
    condition.add("block_documents", query.block_documents.as_ref(), FIELDS)?;
    condition.add("block_types", query.block_types.as_ref(), TYPE_FIELDS)?;
    app.store
        .run(move |tx| blocks::filter_documents(tx, condition, query.page, query.include_secrets))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(id): Params<Uuid>,
    Body(update): Body<DocumentUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| blocks::update_document(tx, id, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(id): Params<Uuid>) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| blocks::delete_document(tx, id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
