//! The token that some servers want with each changing request.
//!
//! It is asked for once, before the first such request, and shared by all clones of a client. A server that answers 404 or 422
//! has no such protection. Tokens expire (after an hour by default); instead of comparing clocks with the server, its refusal
//! of an old token has us fetch the next.

use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::Request;
use serde::Deserialize;
use tokio::sync::Mutex;
use uuid::Uuid;

/// The state of one client.
#[derive(Debug)]
pub(crate) struct Csrf {
    enabled: bool,
    /// Names this client to the server, which ties the token to it.
    client: Uuid,
    token: Mutex<Token>,
}

/// What is known of the token.
#[derive(Clone, Debug)]
enum Token {
    Unknown,
    /// The server has no such protection.
    Off,
    Known(HeaderValue),
}

/// The part of the server's answer that matters.
#[derive(Deserialize)]
struct Answer {
    token: String,
}

const TOKEN_HEADER: HeaderName = HeaderName::from_static("prefect-csrf-token");
const CLIENT_HEADER: HeaderName = HeaderName::from_static("prefect-csrf-client");

// === impl Csrf ===

impl Csrf {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            client: Uuid::new_v4(),
            token: Mutex::new(Token::Unknown),
        }
    }

    /// Adds the token to a changing request, fetching it first if need be. Concurrent callers wait for one fetch.
    ///
    /// `fetch` makes a `GET` of `/csrf-token` with this query and gives status and body; its errors are passed on.
    pub(crate) async fn apply<E, F>(
        &self,
        request: &mut Request,
        fetch: impl FnOnce(String) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(StatusCode, Vec<u8>), E>>,
    {
        if !self.enabled || request.method().is_safe() {
            return Ok(());
        }
        let mut token = self.token.lock().await;
        if matches!(*token, Token::Unknown) {
            let (status, body) = fetch(format!("client={}", self.client)).await?;
            *token = parse(status, &body);
        }
        if let Token::Known(value) = &*token {
            let headers = request.headers_mut();
            headers.insert(TOKEN_HEADER, value.clone());
            let client = self.client.to_string();
            headers.insert(
                CLIENT_HEADER,
                HeaderValue::from_str(&client).expect("a UUID is a legal header value"),
            );
        }
        Ok(())
    }

    /// Whether this answer to `request` means that its token is missing or outdated. If so, the next request fetches a new one.
    pub(crate) async fn is_refused(
        &self,
        sent: Option<&HeaderValue>,
        status: StatusCode,
        body: &[u8],
    ) -> bool {
        // Seen: "Missing CSRF token.", "Missing client identifier.", "Invalid CSRF token or client identifier."
        let text = String::from_utf8_lossy(body);
        let refused = self.enabled
            && status == StatusCode::FORBIDDEN
            && (text.contains("CSRF token") || text.contains("client identifier"));
        if refused {
            let mut token = self.token.lock().await;
            // Another request may have fetched a new one meanwhile.
            let current = match &*token {
                Token::Known(value) => Some(value),
                Token::Unknown | Token::Off => None,
            };
            if current == sent {
                *token = Token::Unknown;
            }
        }
        refused
    }
}

/// The token that a request carries.
pub(crate) fn sent_token(request: &Request) -> Option<HeaderValue> {
    request.headers().get(TOKEN_HEADER).cloned()
}

fn parse(status: StatusCode, body: &[u8]) -> Token {
    if !status.is_success() {
        return Token::Off;
    }
    serde_json::from_slice::<Answer>(body)
        .ok()
        .and_then(|answer| HeaderValue::from_str(&answer.token).ok())
        .map_or(Token::Off, |mut value| {
            value.set_sensitive(true);
            Token::Known(value)
        })
}
