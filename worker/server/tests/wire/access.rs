//! Who may ask.

use axum::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use worker_config::Secret;
use worker_server::{Faults, Server, ServerError, ServerOptions};

use crate::client::Api;

async fn guarded() -> Api {
    let options = ServerOptions {
        token: Some(Secret::new("s3cret")),
        ..ServerOptions::default()
    };
    let server = Server::start(options).await.expect("a server starts");
    Api {
        server,
        faults: Faults::new(),
    }
}

#[tokio::test]
async fn an_open_address_needs_a_token() {
    let options = ServerOptions {
        listen: "0.0.0.0:0".parse().expect("an address"),
        ..ServerOptions::default()
    };
    let error = Server::start(options).await.expect_err("it does not start");
    assert!(matches!(error, ServerError::TokenMissing(_)));
    assert!(error.to_string().contains("give it a token"), "{error}");
}

#[tokio::test]
async fn a_request_brings_the_token_in_one_of_the_ways_clients_know() {
    let api = guarded().await;
    let bearer = "authorization: Bearer s3cret\r\n".to_owned();
    let whole = format!("authorization: Basic {}\r\n", STANDARD.encode("s3cret"));
    let password = format!(
        "authorization: Basic {}\r\n",
        STANDARD.encode("admin:s3cret")
    );
    for header in [bearer, whole, password] {
        let answer = api
            .try_send(Method::GET, "/admin/version", &header, None)
            .await
            .expect("an answer");
        assert_eq!(answer.status, 200, "{header}");
    }
    for header in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: s3cret\r\n",
        "authorization: Basic !!\r\n",
    ] {
        let answer = api
            .try_send(Method::GET, "/admin/version", header, None)
            .await
            .expect("an answer");
        assert_eq!(answer.status, 401, "{header}");
        assert!(
            answer.text.contains("asks for its token") && !answer.text.contains("loopback"),
            "{}",
            answer.text
        );
    }
    let health = api.send(Method::GET, "/health", None).await;
    assert_eq!(health.status, 200);
}

#[tokio::test]
async fn the_address_is_a_url_for_clients() {
    let api = Api::start().await;
    let url = api.server.url();
    assert_eq!(url.path(), "/api");
    assert_eq!(url.port(), Some(api.server.address().port()));
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let api = Api::start().await;
    let text = "x".repeat(9 * 1024 * 1024);
    let answer = api
        .try_send(
            Method::POST,
            "/variables/",
            "",
            Some(&serde_json::json!({ "name": "v", "value": text })),
        )
        .await;
    // The server may close before everything is written; what counts is that nothing was stored.
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 422);
    }
    assert_eq!(
        api.send(Method::GET, "/variables/name/v", None)
            .await
            .status,
        404
    );
}
