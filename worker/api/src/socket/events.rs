//! The two sockets for events: one to tell them, one to be told.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Introduction, Socket, SocketError};
use crate::{
    ApiError, Client,
    request::Call,
    types::{Event, EventFilter, ReceivedEvent},
};

/// Tells events to the server.
#[derive(Debug)]
pub struct EventSink {
    socket: Socket,
}

/// Is told events by the server.
#[derive(Debug)]
pub struct EventStream {
    socket: Socket,
    /// The latest ones, because the server may tell an event twice: from its store and live.
    told: VecDeque<Uuid>,
}

/// Some of the events that the server has.
#[derive(Debug, Deserialize)]
struct Page {
    events: Vec<ReceivedEvent>,
}

/// How many events the server looks for at once (3.8.8).
pub const EVENTS_PAGE: usize = 50;

/// How many events are remembered: more than the server sends from its store at a time would take (1,000, 3.8.8).
const REMEMBERED: usize = 1_024;

/// How far ahead a subscription reaches, since a filter must name an end.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 365);

// === impl Client ===

impl Client {
    /// Tells events without a socket. `POST /events`: 204.
    pub async fn post_events(&self, events: &[Event]) -> Result<(), ApiError> {
        self.execute(Call::post(&["events"]).json(&events)).await
    }

    /// Those of these events, at most [`EVENTS_PAGE`], that the server has. None of them may have happened before. `POST /events/filter`.
    pub async fn find_events(&self, ids: &[Uuid], since: Timestamp) -> Result<Vec<Uuid>, ApiError> {
        let query = json!({
            "filter": {"id": {"id": ids}, "occurred": {"since": since}},
            "limit": EVENTS_PAGE,
        });
        let call = Call::post(&["events", "filter"]).json(&query);
        let page: Page = self.fetch(call).await?;
        Ok(page.events.into_iter().map(|event| event.id).collect())
    }

    /// Opens the socket that events are told on, `/events/in`. Cloud knows a client by its headers, a server by its first frame.
    pub async fn open_event_sink(&self) -> Result<EventSink, SocketError> {
        let introduction = if self.is_cloud() {
            Introduction::Headers
        } else {
            Introduction::Frame
        };
        let call = Call::get(&["events", "in"]);
        let socket = self.open_socket(call, introduction).await?;
        Ok(EventSink { socket })
    }

    /// Subscribes to events, `/events/out`. Those that the server has stored come first.
    pub async fn subscribe(&self, filter: &EventFilter) -> Result<EventStream, SocketError> {
        let call = Call::get(&["events", "out"]);
        let mut socket = self.open_socket(call, Introduction::Frame).await?;
        socket.send(&frame(filter)).await?;
        Ok(EventStream {
            socket,
            told: VecDeque::with_capacity(REMEMBERED),
        })
    }
}

fn frame(filter: &EventFilter) -> Value {
    json!({
        "type": "filter",
        "filter": {
            "occurred": {
                "since": filter.since,
                "until": Timestamp::now().saturating_add(AHEAD).unwrap_or(Timestamp::MAX),
            },
            "event": { "name": filter.names },
            "any_resource": { "id": [filter.resource] },
        },
    })
}

// === impl EventSink ===

impl EventSink {
    /// Sends events, and waits until the server has them. Those that it may not have are to be sent again, on another socket.
    pub async fn send(&mut self, events: &[Event]) -> Result<(), SocketError> {
        for event in events {
            self.socket.send(event).await?;
        }
        self.socket.confirm().await
    }

    /// Waits until the socket is gone, and keeps it alive until then. Dropping the future loses nothing.
    pub async fn gone(&mut self) -> SocketError {
        loop {
            // The server says nothing here; a later one might.
            if let Err(error) = self.socket.receive().await {
                return error;
            }
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

// === impl EventStream ===

impl EventStream {
    /// Waits for the next event. Dropping the future loses nothing. An event that cannot be read is left out.
    pub async fn next(&mut self) -> Result<ReceivedEvent, SocketError> {
        loop {
            let mut frame = self.socket.receive().await?;
            let Ok(event) = serde_json::from_value::<ReceivedEvent>(frame["event"].take()) else {
                tracing::debug!("an event that cannot be read was left out");
                continue;
            };
            if !self.told.contains(&event.id) {
                if self.told.len() == REMEMBERED {
                    self.told.pop_front();
                }
                self.told.push_back(event.id);
                return Ok(event);
            }
        }
    }
}
