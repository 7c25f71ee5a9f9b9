//! YAML with the line of everything in it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, RenderOptions, SnippetMode, Spanned,
};

/// A value and where it is.
#[derive(Debug)]
pub(super) struct Node {
    /// The line it begins at, counted from 1.
    pub line: u64,
    /// The value.
    pub content: Content,
}

/// A YAML value. Keys are texts, as they are in JSON.
#[derive(Debug)]
pub(super) enum Content {
    /// Null, a truth value, a number or a text.
    Scalar(Value),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping: the key's line, the key, the value.
    Mapping(Vec<(u64, String, Node)>),
}

struct ContentVisitor;

/// Reads a text, or says in which line what is wrong.
pub(super) fn parse(text: &str) -> Result<Node, (Option<u64>, String)> {
    let options = serde_saphyr::options! {
        // As PyYAML, which the reference reads with.
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let parsed = serde_saphyr::from_str_with_options::<Option<Node>>(text, options);
    let nothing = || Node {
        line: 1,
        content: Content::Mapping(Vec::new()),
    };
    parsed
        .map(|node| node.unwrap_or_else(nothing))
        .map_err(|error| {
            let mut plain = RenderOptions::new(&DefaultMessageFormatter);
            plain.snippets = SnippetMode::Off;
            let line = error.location().map(|location| location.line());
            let message = error.render_with_options(plain);
            (
                line,
                format!("is not valid YAML: {}", message.replace('\n', " ")),
            )
        })
}

// === impl Node ===

impl Node {
    /// Whether it is null.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The value without the lines.
    pub(super) fn into_value(self) -> Value {
        match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => items.into_iter().map(Self::into_value).collect(),
            Content::Mapping(fields) => Value::Object(into_map(fields)),
        }
    }
}

/// The values of a mapping without their lines.
pub(super) fn into_map(fields: Vec<(u64, String, Node)>) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(_, key, node)| (key, node.into_value()))
        .collect()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            content: spanned.value,
        })
    }
}

// === impl Content ===

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

// === impl ContentVisitor ===

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Scalar(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Scalar(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Content, E> {
        Ok(Content::Scalar(
            Number::from_f64(number).map_or(Value::Null, Value::Number),
        ))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, node)) = access.next_entry::<Spanned<String>, Node>()? {
            fields.push((key.referenced.line(), key.value, node));
        }
        Ok(Content::Mapping(fields))
    }
}
