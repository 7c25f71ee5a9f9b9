//! Blocks and variables.

use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Api, id};

async fn schema(api: &Api) -> (String, String) {
    let kind = api
        .post("/block_types/", json!({ "name": "Creds", "slug": "creds" }))
        .await;
    let fields = json!({ "properties": { "user": {}, "password": {} }, "secret_fields": ["password", "extra.*"] });
    let schema = api
        .post(
            "/block_schemas/",
            json!({ "block_type_id": kind["id"], "fields": fields }),
        )
        .await;
    let again = api
        .post(
            "/block_schemas/",
            json!({ "block_type_id": kind["id"], "fields": fields }),
        )
        .await;
    assert_eq!(schema["id"], again["id"], "the same schema is made once");
    (id(&kind), id(&schema))
}

async fn document(api: &Api, ids: &(String, String), name: &str, data: Value) -> Value {
    let body =
        json!({ "name": name, "block_type_id": ids.0, "block_schema_id": ids.1, "data": data });
    api.post("/block_documents/", body).await
}

#[tokio::test]
async fn secrets_are_covered_unless_they_are_asked_for() {
    let api = Api::start().await;
    let ids = schema(&api).await;
    let data = json!({ "user": "u", "password": "p", "extra": { "a": { "b": 1 } } });
    let inner = document(&api, &ids, "inner", data.clone()).await;
    assert_eq!(
        inner["data"],
        json!({ "user": "u", "password": "********", "extra": { "a": { "b": "********" } } })
    );
    let outer = json!({ "user": { "$ref": { "block_document_id": inner["id"] } } });
    document(&api, &ids, "outer", outer).await;
    let path = "/block_types/slug/creds/block_documents/name/outer";
    let covered = api.get(path).await;
    assert_eq!(covered["data"]["user"], inner["data"]);
    let open = api.get(&format!("{path}?include_secrets=true")).await;
    assert_eq!(open["data"]["user"], data);
    let by_id = api
        .get(&format!(
            "/block_documents/{}?include_secrets=true",
            id(&inner)
        ))
        .await;
    assert_eq!(by_id["data"], data);
    assert_eq!(by_id["block_type"]["slug"], "creds");
}

#[tokio::test]
async fn a_document_can_be_changed_found_and_deleted() {
    let api = Api::start().await;
    let ids = schema(&api).await;
    let made = id(&document(&api, &ids, "d", json!({ "user": "u", "password": "p" })).await);
    let twice = json!({ "name": "d", "block_type_id": ids.0, "block_schema_id": ids.1 });
    assert_eq!(
        api.send(Method::POST, "/block_documents/", Some(&twice))
            .await
            .status,
        409
    );
    api.patch(
        &format!("/block_documents/{made}"),
        json!({ "data": { "user": "v" } }),
    )
    .await;
    let found = api
        .post(
            "/block_documents/filter",
            json!({ "include_secrets": true, "block_types": { "slug": { "any_": ["creds"] } } }),
        )
        .await;
    assert_eq!(found[0]["data"], json!({ "user": "v", "password": "p" }));
    assert_eq!(
        api.send(Method::DELETE, &format!("/block_documents/{made}"), None)
            .await
            .status,
        204
    );
    let gone = api
        .send(
            Method::GET,
            "/block_types/slug/creds/block_documents/name/d",
            None,
        )
        .await;
    assert_eq!(
        (gone.status, &gone.json()["detail"]),
        (404, &json!("Block document not found"))
    );
}

#[tokio::test]
async fn blocks_in_a_circle_are_an_error_and_not_the_end() {
    let api = Api::start().await;
    let ids = schema(&api).await;
    let made = document(&api, &ids, "loop", json!({})).await;
    let path = format!("/block_documents/{}", id(&made));
    api.patch(
        &path,
        json!({ "data": { "user": { "$ref": { "block_document_id": made["id"] } } } }),
    )
    .await;
    assert_eq!(api.send(Method::GET, &path, None).await.status, 409);
    assert_eq!(api.get("/health").await, true);
}

#[tokio::test]
async fn variables_keep_their_json() {
    let api = Api::start().await;
    let value = json!({ "b": [1, null], "a": "x" });
    let made = api
        .post(
            "/variables/",
            json!({ "name": "v", "value": value, "tags": ["t"] }),
        )
        .await;
    assert_eq!(api.get("/variables/name/v").await["value"], value);
    let twice = api
        .send(
            Method::POST,
            "/variables/",
            Some(&json!({ "name": "v", "value": 1 })),
        )
        .await;
    assert_eq!(twice.status, 409);
    api.patch("/variables/name/v", json!({ "value": null }))
        .await;
    assert_eq!(
        api.get(&format!("/variables/{}", id(&made))).await["value"],
        Value::Null
    );
    let found = api
        .post(
            "/variables/filter",
            json!({ "variables": { "name": { "like_": "v" } } }),
        )
        .await;
    assert_eq!(found[0]["tags"], json!(["t"]));
    assert_eq!(
        api.send(Method::DELETE, "/variables/name/v", None)
            .await
            .status,
        204
    );
    let gone = api.send(Method::GET, "/variables/name/v", None).await;
    assert_eq!(
        (gone.status, &gone.json()["detail"]),
        (404, &json!("Variable not found."))
    );
}
