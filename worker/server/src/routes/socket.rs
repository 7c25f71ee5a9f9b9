//! Sockets as Prefect's clients use them: they announce it by a subprotocol, and say who they are in their first frame.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::App;

/// How long a client may take to say who it is and what it wants.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a silent client is asked whether it is there.
pub(super) const PING: Duration = Duration::from_secs(20);
/// The largest event; the reference's largest is 1.5 MB.
const FRAME: usize = 2 * 1024 * 1024;
/// The longest reason that fits a closing frame.
const REASON: usize = 123;
/// The subprotocol by which Prefect's clients announce that they will say who they are.
const PROTOCOL: &str = "prefect";

/// Takes the socket with its limits.
pub(super) fn accept(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(FRAME)
        .max_frame_size(FRAME)
}

/// Hears who a client is. The socket is closed, for this reason, when it may not be here.
pub(super) async fn introduce(app: &App, socket: &mut WebSocket, refusal: &str) -> Option<()> {
    let frame: Value = hear(socket).await?;
    let token = frame.get("token").and_then(Value::as_str);
    if frame.get("type") != Some(&"auth".into()) || !app.gate.opens_for(token) {
        close(socket, close_code::POLICY, refusal).await;
        return None;
    }
    let welcome = json!({ "type": "auth_success" }).to_string();
    socket.send(Message::text(welcome)).await.ok()
}

/// The next JSON a client says, if it says any in time.
pub(super) async fn hear<T: DeserializeOwned>(socket: &mut WebSocket) -> Option<T> {
    let hearing = async {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).ok();
            }
        }
        None
    };
    tokio::time::timeout(HANDSHAKE, hearing)
        .await
        .ok()
        .flatten()
}

/// Sends a client away.
pub(super) async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let reason = reason.get(..reason.floor_char_boundary(REASON));
    let frame = CloseFrame {
        code,
        reason: reason.unwrap_or_default().into(),
    };
    if let Err(error) = socket.send(Message::Close(Some(frame))).await {
        tracing::debug!(%error, "client was gone already");
    }
}
