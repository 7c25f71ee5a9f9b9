//! Spans as a collector reads them: the message `ExportTraceServiceRequest` of OTLP 1.0 in protobuf's encoding. Pure.
//!
//! These few messages are written by hand, because what would write them from their definitions is larger than all of them.

use jiff::Timestamp;

use worker_config::settings::TracesSettings;

use super::Span;

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

/// `SPAN_KIND_INTERNAL`, and `SPAN_KIND_CONSUMER` for what takes work that somebody else has put into a queue.
const INTERNAL: u64 = 1;
const CONSUMER: u64 = 5;

/// `STATUS_CODE_OK` and `STATUS_CODE_ERROR`.
const OK: u64 = 1;
const ERROR: u64 = 2;

/// A request that brings these spans.
pub(super) fn request(settings: &TracesSettings, spans: &[Span]) -> Vec<u8> {
    let own = [
        ("service.name", settings.service.as_str()),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let given = settings.attributes.iter();
    let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut resource = Message::default();
    for (name, value) in own.into_iter().chain(given) {
        resource.message(1, &attribute(name, value));
    }
    let mut scope = Message::default();
    scope.text(1, "worker");
    scope.text(2, env!("CARGO_PKG_VERSION"));
    let mut of_scope = Message::default();
    of_scope.message(1, &scope);
    for span in spans {
        of_scope.message(2, &encode(span));
    }
    let mut of_resource = Message::default();
    of_resource.message(1, &resource);
    of_resource.message(2, &of_scope);
    let mut request = Message::default();
    request.message(1, &of_resource);
    request.0
}

fn encode(span: &Span) -> Message {
    let Span {
        trace,
        id,
        parent,
        name,
        begun,
        ended,
        attributes,
        well,
    } = span;
    let mut message = Message::default();
    message.bytes(1, trace.as_bytes());
    message.bytes(2, &id.to_be_bytes());
    if let Some(parent) = parent {
        message.bytes(4, &parent.to_be_bytes());
    }
    message.text(5, name);
    // Only the span of an attempt says how it ended.
    let whole = well.is_some() && !attributes.is_empty();
    message.number(6, if whole { CONSUMER } else { INTERNAL });
    message.fixed(7, nanoseconds(*begun));
    message.fixed(8, nanoseconds(*ended));
    for (name, value) in attributes {
        message.message(9, &attribute(name, value));
    }
    if let Some((well, how)) = well {
        let mut status = Message::default();
        if !how.is_empty() {
            status.text(2, how);
        }
        status.number(3, if *well { OK } else { ERROR });
        message.message(15, &status);
    }
    message
}

fn attribute(name: &str, value: &str) -> Message {
    let mut text = Message::default();
    text.text(1, value);
    let mut attribute = Message::default();
    attribute.text(1, name);
    attribute.message(2, &text);
    attribute
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

// === impl Message ===

impl Message {
    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn fixed(&mut self, field: u64, value: u64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u64, value: &Self) {
        self.bytes(field, &value.0);
    }
}
