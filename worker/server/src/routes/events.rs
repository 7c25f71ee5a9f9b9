//! `/events`: what clients tell, and what they want to be told.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{any, get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{
    App,
    socket::{PING, accept, close, hear, introduce},
};
use crate::{
    body::{Args, Body},
    error::Error,
    events::{Event, EventFilter, filter::Order},
    store::{events, now, task_runs},
};

#[derive(Debug, Deserialize)]
struct EventQuery {
    #[serde(default)]
    filter: Option<EventFilter>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Where in a list of events a page begins. It goes to the client and comes back, so that nothing is kept here.
#[derive(Debug, Deserialize, Serialize)]
struct Place {
    filter: EventFilter,
    limit: usize,
    offset: usize,
}

#[derive(Debug, Deserialize)]
struct NextPage {
    #[serde(rename = "page-token")]
    token: String,
}

/// The first thing a subscriber says after it said who it is.
#[derive(Debug, Deserialize)]
struct FilterFrame {
    #[serde(rename = "type")]
    kind: String,
    filter: EventFilter,
    #[serde(default)]
    backfill: Option<bool>,
}

/// How many events a page has, at most and by default (3.8.8).
const PAGE: usize = 50;
/// How many earlier events a subscriber is told; the reference tells pages of 250 until there are no more (3.8.8).
const BACKLOG: usize = 1000;
/// What a client hears that may not be here.
const REFUSAL: &str = "authentication failed";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/events", post(create))
        .route("/events/filter", post(filter))
        .route("/events/filter/next", get(next_page))
        .route("/events/in", any(stream_in))
        .route("/events/out", any(stream_out))
}

async fn create(
    State(app): State<App>,
    Body(events): Body<Vec<Value>>,
) -> Result<StatusCode, Error> {
    for event in events {
        take_in(&app, event).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn filter(
    State(app): State<App>,
    headers: HeaderMap,
    Body(query): Body<EventQuery>,
) -> Result<Json<Value>, Error> {
    let limit = query.limit.unwrap_or(PAGE);
    if limit > PAGE {
        return Err(Error::field(
            &["limit"],
            format!("Input should be less than or equal to {PAGE}"),
        ));
    }
    let mut place = Place {
        filter: query.filter.unwrap_or_default(),
        limit,
        offset: 0,
    };
    // What happens from now on would move the pages that follow.
    place.filter.end_at(now());
    page(&app, &headers, place).await
}

async fn next_page(
    State(app): State<App>,
    headers: HeaderMap,
    Args(next): Args<NextPage>,
) -> Result<Json<Value>, Error> {
    let place = URL_SAFE_NO_PAD.decode(&next.token).ok();
    let place = place.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let place =
        place.ok_or_else(|| Error::Forbidden("this is no page token of ours".to_owned()))?;
    page(&app, &headers, place).await
}

async fn page(app: &App, headers: &HeaderMap, mut place: Place) -> Result<Json<Value>, Error> {
    let (filter, offset, limit) = (place.filter.clone(), place.offset, place.limit);
    let found = app
        .store
        .run(move |tx| events::filter(tx, &filter, offset, limit))
        .await?;
    place.offset += found.events.len();
    let next = if place.offset < found.total && !found.events.is_empty() {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place)?);
        let host = host.unwrap_or_default();
        Some(format!(
            "http://{host}/api/events/filter/next?page-token={token}"
        ))
    } else {
        None
    };
    let events: Vec<_> = found.events.iter().map(Event::body).collect();
    Ok(Json(
        json!({ "events": events, "total": found.total, "next_page": next }),
    ))
}

async fn stream_in(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            if introduce(&app, &mut socket, REFUSAL).await.is_none() {
                return;
            }
            // Events are taken one by one, so that a client that sends faster than they are stored has to wait.
            while let Some(Ok(message)) = socket.recv().await {
                let Message::Text(text) = message else {
                    continue;
                };
                let event = serde_json::from_str(&text).unwrap_or_default();
                if let Err(error) = take_in(&app, event).await {
                    tracing::debug!(%error, "event refused");
                    return close(&mut socket, close_code::PROTOCOL, "not an event").await;
                }
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

async fn stream_out(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    accept(upgrade).on_upgrade(async move |mut socket| {
        let drain = app.drain.clone();
        let serving = async {
            if introduce(&app, &mut socket, REFUSAL).await.is_some() {
                tell(&app, &mut socket).await;
            }
        };
        drain.run_until_cancelled(serving).await;
    })
}

/// Stores an event and what it says about a task run, and tells it to subscribers.
async fn take_in(app: &App, body: Value) -> Result<(), Error> {
    let event = Event::parse(body, now()).ok_or_else(|| {
        Error::field(
            &["event"],
            "not an event: it needs an event, an occurred and a resource",
        )
    })?;
    app.store
        .run(move |tx| {
            if event.name.starts_with("prefect.task-run.") {
                task_runs::observe(tx, event.body())?;
            }
            tx.publish(event)
        })
        .await
}

/// Sends a subscriber what it wants, for as long as it is there.
async fn tell(app: &App, socket: &mut WebSocket) {
    let Some(frame) = hear::<Value>(socket).await else {
        return;
    };
    let frame: FilterFrame = match serde_json::from_value(frame) {
        Ok(frame) => frame,
        Err(error) => {
            return close(
                socket,
                close_code::PROTOCOL,
                &format!("Invalid filter: {error}"),
            )
            .await;
        }
    };
    if frame.kind != "filter" {
        return close(socket, close_code::PROTOCOL, "Expected 'filter' message").await;
    }
    // Listening comes first, so that nothing falls between; what is in both is told once.
    let mut live = app.hub.subscribe();
    let mut told = HashSet::new();
    if frame.backfill.unwrap_or(true) {
        let mut filter = frame.filter.clone();
        filter.order = Some(Order::Desc);
        let Ok(found) = app
            .store
            .run(move |tx| events::filter(tx, &filter, 0, BACKLOG))
            .await
        else {
            return close(socket, close_code::ERROR, "the database is not to be had").await;
        };
        // The newest of them, in the order in which they happened.
        for event in found.events.into_iter().rev() {
            told.insert(event.id);
            if socket.send(Message::Text(event.frame())).await.is_err() {
                return;
            }
        }
    }
    let mut ping = tokio::time::interval(PING);
    loop {
        // Each branch is cancel-safe: a broadcast, a tick, or a message of the socket's own buffer.
        tokio::select! {
            event = live.recv() => {
                let event: Arc<Event> = match event {
                    Ok(event) => event,
                    // A subscriber that cannot keep up is sent away, so that it comes back and asks for what it missed.
                    Err(RecvError::Lagged(_)) => return close(socket, close_code::AGAIN, "too slow").await,
                    Err(RecvError::Closed) => return,
                };
                let is_new = !told.remove(&event.id);
                if is_new && frame.filter.wants(&event) && socket.send(Message::Text(event.frame())).await.is_err() {
                    return;
                }
            }
            _ = ping.tick() => {
                if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                if matches!(message, None | Some(Err(_) | Ok(Message::Close(_)))) {
                    return;
                }
            }
        }
    }
}
