//! Who may ask: anybody where there is no token, and only who has it where there is one.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use worker_config::Secret;

/// What a request has to bring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Option<Secret>);

// === impl Gate ===

impl Gate {
    /// A gate that opens for this token, or for everybody.
    pub(crate) fn new(token: Option<Secret>) -> Self {
        Self(token)
    }

    /// Whether a token opens the gate; what a WebSocket client says in its first frame.
    pub(crate) fn opens_for(&self, token: Option<&str>) -> bool {
        match &self.0 {
            None => true,
            Some(secret) => token.is_some_and(|token| same(token, secret.expose())),
        }
    }

    /// `Bearer <token>`, or `Basic` with the token as the whole credential or as its password.
    fn opens_for_headers(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some((scheme, value)) = given.and_then(|given| given.split_once(' ')) else {
            return self.opens_for(None);
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.opens_for(Some(value.trim()));
        }
        let decoded = STANDARD.decode(value.trim()).unwrap_or_default();
        let text = String::from_utf8(decoded).unwrap_or_default();
        let password = text.split_once(':').map(|(_, password)| password);
        scheme.eq_ignore_ascii_case("basic")
            && (self.opens_for(Some(&text)) || self.opens_for(password))
    }
}

/// Lets a request through that may come through.
///
/// The WebSocket routes say who they are in their first frame, and the health route says nothing about anybody.
pub(crate) async fn check(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = matches!(
        path,
        "/api/health" | "/api/ready" | "/api/events/in" | "/api/events/out" | "/api/logs/out"
    ) || (path.starts_with("/api/work_pools/") && path.ends_with("/workers/connect"));
    if open || gate.opens_for_headers(request.headers()) {
        return next.run(request).await;
    }
    let body = json!({
        "exception_message": "Unauthorized",
        "detail": "this server asks for its token: send `Authorization: Bearer <token>`",
    });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

/// Compares without telling by its time how much was right.
fn same(given: &str, secret: &str) -> bool {
    let (given, secret) = (given.as_bytes(), secret.as_bytes());
    given.len() == secret.len()
        && given
            .iter()
            .zip(secret)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}
