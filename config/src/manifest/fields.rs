//! Takes typed values out of mappings, and keeps what is wrong with them.

use serde_json::{Map, Value};

use super::{
    ManifestError, Step, Steps,
    node::{Content, Node, into_map},
};
use crate::{
    lenient,
    nearest::{nearest, suggestion},
};

/// What was found wrong or worth saying so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub errors: Vec<ManifestError>,
    /// Each with its line.
    pub notices: Vec<(u64, String)>,
}

/// A mapping of which values are taken one by one.
#[derive(Debug)]
pub(super) struct Fields {
    /// The line it begins at.
    pub line: u64,
    path: String,
    entries: Vec<(u64, String, Node)>,
    /// What was asked for.
    known: Vec<&'static str>,
}

// === impl Reader ===

impl Reader {
    /// Notes an error.
    pub(super) fn wrong(&mut self, line: u64, key: String, problem: impl Into<String>) {
        self.errors.push(ManifestError {
            line: Some(line),
            key,
            problem: problem.into(),
        });
    }

    /// Takes a mapping apart.
    pub(super) fn fields(&mut self, node: Node, path: &str) -> Option<Fields> {
        let Node { line, content } = node;
        let Content::Mapping(fields) = content else {
            self.wrong(line, path.to_owned(), "must be a mapping");
            return None;
        };
        Some(Fields {
            line,
            path: path.to_owned(),
            entries: fields,
            known: Vec::new(),
        })
    }

    /// Takes a list apart.
    pub(super) fn list(&mut self, node: Node, path: &str) -> Vec<Node> {
        let Node { line, content } = node;
        let Content::List(items) = content else {
            self.wrong(line, path.to_owned(), "must be a list");
            return Vec::new();
        };
        items
    }
}

// === impl Fields ===

impl Fields {
    /// The full key of a value in it.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Takes a value. When a key is written twice the last one counts, as in the reference.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let mut taken = None;
        while let Some(at) = self.entries.iter().position(|(_, key, _)| key == name) {
            taken = Some(self.entries.remove(at).2);
        }
        taken
    }

    /// Whether nothing is written in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a value is a mapping.
    pub(super) fn is_mapping(&self, name: &str) -> bool {
        let mut values = self.entries.iter().filter(|(_, key, _)| key == name);
        values.any(|(_, _, node)| matches!(node.content, Content::Mapping(_)))
    }

    /// Takes a text; null is none.
    pub(super) fn text(&mut self, name: &'static str, reader: &mut Reader) -> Option<String> {
        let node = self.take_filled(name)?;
        match node.content {
            Content::Scalar(Value::String(text)) => Some(text),
            Content::Scalar(_) => {
                reader.wrong(
                    node.line,
                    self.key(name),
                    "must be a text; put it in quotes",
                );
                None
            }
            _ => {
                reader.wrong(node.line, self.key(name), "must be a text");
                None
            }
        }
    }

    /// Takes a list of texts, or one text.
    pub(super) fn texts(&mut self, name: &'static str, reader: &mut Reader) -> Vec<String> {
        let Some(node) = self.take_filled(name) else {
            return Vec::new();
        };
        if let Content::Scalar(Value::String(text)) = node.content {
            return vec![text];
        }
        let mut texts = Vec::new();
        for (index, item) in reader.list(node, &self.key(name)).into_iter().enumerate() {
            let line = item.line;
            if let Value::String(text) = item.into_value() {
                texts.push(text);
            } else {
                let key = format!("{}[{index}]", self.key(name));
                reader.wrong(line, key, "must be a text; put it in quotes");
            }
        }
        texts
    }

    /// Takes a truth value; null is none.
    pub(super) fn flag(&mut self, name: &'static str, reader: &mut Reader) -> Option<bool> {
        let node = self.take_filled(name)?;
        let line = node.line;
        let flag = lenient::flag(&node.into_value());
        if flag.is_none() {
            reader.wrong(line, self.key(name), "must be true or false");
        }
        flag
    }

    /// Takes a truth value, or a template for one; null is none.
    pub(super) fn flag_or_template(
        &mut self,
        name: &'static str,
        reader: &mut Reader,
    ) -> Option<Value> {
        let node = self.take_filled(name)?;
        let line = node.line;
        match node.into_value() {
            Value::String(text) if text.contains("{{") => Some(Value::String(text)),
            value => {
                let flag = lenient::flag(&value);
                if flag.is_none() {
                    reader.wrong(line, self.key(name), "must be true or false");
                }
                flag.map(Value::Bool)
            }
        }
    }

    /// Takes a whole number that is not negative; null is none.
    pub(super) fn count(&mut self, name: &'static str, reader: &mut Reader) -> Option<u32> {
        let node = self.take_filled(name)?;
        let line = node.line;
        let number = lenient::whole(&node.into_value());
        let count = number.and_then(|number| u32::try_from(number).ok());
        if count.is_none() {
            reader.wrong(
                line,
                self.key(name),
                "must be a whole number that is not negative",
            );
        }
        count
    }

    /// Takes a mapping as JSON; absent is empty, null is wrong.
    pub(super) fn object(&mut self, name: &'static str, reader: &mut Reader) -> Map<String, Value> {
        let fields = self
            .take(name)
            .and_then(|node| reader.fields(node, &self.key(name)));
        fields
            .map(|fields| into_map(fields.entries))
            .unwrap_or_default()
    }

    /// Takes a list of mappings as JSON; null is empty.
    pub(super) fn objects(
        &mut self,
        name: &'static str,
        reader: &mut Reader,
    ) -> Vec<Map<String, Value>> {
        let Some(node) = self.take_filled(name) else {
            return Vec::new();
        };
        let items = reader.list(node, &self.key(name)).into_iter().enumerate();
        let object = |(index, item)| {
            let fields = reader.fields(item, &format!("{}[{index}]", self.key(name)))?;
            Some(into_map(fields.entries))
        };
        items.filter_map(object).collect()
    }

    /// Takes a mapping; null is none.
    pub(super) fn nested(&mut self, name: &'static str, reader: &mut Reader) -> Option<Self> {
        let node = self.take_filled(name)?;
        reader.fields(node, &self.key(name))
    }

    /// Takes steps.
    pub(super) fn steps(&mut self, name: &'static str, reader: &mut Reader) -> Steps {
        let Some(node) = self.take(name) else {
            return Steps::Absent;
        };
        match node.content {
            Content::Scalar(Value::Null) => Steps::Null,
            Content::Mapping(fields) if fields.is_empty() => Steps::Null,
            Content::Mapping(fields) => Steps::Listed(vec![into_map(fields)]),
            Content::List(items) => {
                let step = |(index, item)| -> Option<Step> {
                    let fields = reader.fields(item, &format!("{}[{index}]", self.key(name)))?;
                    Some(into_map(fields.entries))
                };
                Steps::Listed(items.into_iter().enumerate().filter_map(step).collect())
            }
            Content::Scalar(_) => {
                reader.wrong(node.line, self.key(name), "must be a list of steps");
                Steps::Absent
            }
        }
    }

    /// Says which keys nobody asked for.
    pub(super) fn notice_unknown(&self, reader: &mut Reader) {
        for (line, key, _) in &self.entries {
            let path = self.key(key);
            let meant = nearest(key, self.known.iter().copied());
            let meant = meant.map_or_else(String::new, |name| format!(", did you mean '{name}'?"));
            reader
                .notices
                .push((*line, format!("{path}: unknown key{meant}")));
        }
    }

    /// Refuses keys that nobody asked for.
    pub(super) fn refuse_unknown(&self, reader: &mut Reader) {
        for (line, key, _) in &self.entries {
            let meant = suggestion(key, self.known.iter().copied());
            reader.wrong(*line, self.key(key), format!("unknown key; {meant}"));
        }
    }

    fn take_filled(&mut self, name: &'static str) -> Option<Node> {
        self.take(name).filter(|node| !node.is_null())
    }
}
