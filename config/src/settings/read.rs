//! Makes typed values of what people wrote, and notes what cannot be made one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;
use url::Url;

use super::{
    ConfigError, DiskFloor, Notes, PullMode, Sources, Written, duration, keys::Key, layers::Layers,
    space,
};
use crate::{DriverKind, Secret, lenient};

/// A value, or what would be right.
type Parsed<T> = Result<T, String>;

/// Reads keys of the winning layer.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    layers: &'a Layers,
    notes: &'a mut Notes,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources, layers: &'a Layers, notes: &'a mut Notes) -> Self {
        Self {
            sources,
            layers,
            notes,
        }
    }

    /// What is read.
    pub(super) fn layers(&self) -> &'a Layers {
        self.layers
    }

    /// Reads other layers, and notes what is wrong with them at the same place.
    pub(super) fn over<'b>(&'b mut self, layers: &'b Layers) -> Reader<'b> {
        Reader::new(self.sources, layers, self.notes)
    }

    /// Reads a key, if it is set. What `parse` refuses is noted, and counts as not set.
    pub(super) fn find<T>(
        &mut self,
        id: &'static str,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        let key = Key::of(id);
        let written = self.layers.find(id)?;
        match parse(&written.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                let problem = complaint(&expected, written, key.secret);
                self.notes
                    .errors
                    .push(ConfigError::new(&written.place, problem));
                None
            }
        }
    }

    /// Notes that something is wrong that is no value of a key.
    pub(super) fn error(&mut self, place: &str, problem: String) {
        self.notes.errors.push(ConfigError::new(place, problem));
    }

    /// Notes that a value is wrong together with others. `id` is the key to name, if it is set.
    pub(super) fn wrong(&mut self, id: &'static str, problem: &str) {
        let place = self
            .layers
            .find(id)
            .map_or(id, |written| written.place.as_str());
        self.notes.errors.push(ConfigError::new(place, problem));
    }

    /// Tells people something about a key that is set.
    pub(super) fn notice(&mut self, id: &'static str, what: &str) {
        if let Some(written) = self.layers.find(id) {
            self.notes
                .notices
                .push(format!("{}: {what}", written.place));
        }
    }

    /// A path; relative ones start from the file they are written in.
    pub(super) fn path(&mut self, id: &'static str) -> Option<PathBuf> {
        let text = self.find(id, filled_text)?;
        let base = &self.layers.find(id)?.base;
        Some(self.sources.path(&text, base))
    }

    /// A program: a name alone is looked up when it is needed, not here.
    pub(super) fn program(&mut self, id: &'static str) -> Option<PathBuf> {
        let text = self.find(id, filled_text)?;
        if text.contains('/') || text.starts_with('~') {
            return self.path(id);
        }
        Some(PathBuf::from(text))
    }
}

/// What would be right, and what it is unless that is a secret.
fn complaint(expected: &str, written: &Written, secret: bool) -> String {
    let is = match &written.value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    // A URL may have a password before its '@'.
    if secret || is.contains('@') || is.len() > 200 {
        return expected.to_owned();
    }
    format!("{expected}, is {is}")
}

/// True or false.
pub(super) fn flag(value: &Value) -> Parsed<bool> {
    lenient::flag(value).ok_or_else(|| "must be true or false".to_owned())
}

/// A text that has something in it.
pub(super) fn filled_text(value: &Value) -> Parsed<String> {
    value
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| "must be a text that is not empty".to_owned())
}

/// Names: one text, or a list of them; each once.
pub(super) fn names(value: &Value) -> Parsed<Vec<String>> {
    let texts = match value {
        Value::Array(items) => items.iter().map(filled_text).collect(),
        one => filled_text(one).map(|name| vec![name]),
    };
    let mut names: Vec<String> = Vec::new();
    for name in texts.map_err(|_| "must be a name, or a list of names".to_owned())? {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A text that may be empty, which means that there is none.
pub(super) fn optional_text(value: &Value) -> Parsed<Option<String>> {
    let text = value.as_str().ok_or("must be a text")?.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A secret; an empty one is none.
pub(super) fn optional_secret(value: &Value) -> Parsed<Option<Secret>> {
    Ok(optional_text(value)?.map(Secret::new))
}

/// A whole number from `least` to what the type holds.
pub(super) fn whole<T: TryFrom<i64>>(least: i64) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        lenient::whole(value)
            .filter(|number| *number >= least)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be a whole number, at least {least}"))
    }
}

/// A port.
pub(super) fn port(value: &Value) -> Parsed<u16> {
    let port = lenient::whole(value).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| "must be a port from 0 to 65535".to_owned())
}

/// A number that is not negative.
pub(super) fn share(value: &Value) -> Parsed<f64> {
    lenient::real(value)
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "must be a number that is not negative".to_owned())
}

/// A duration, which may be nothing.
pub(super) fn duration(value: &Value) -> Parsed<Duration> {
    let parsed = match value {
        Value::String(text) => duration::parse(text),
        Value::Number(number) => number.as_f64().and_then(duration::from_seconds),
        _ => None,
    };
    parsed.ok_or_else(|| duration::EXPECTED.to_owned())
}

/// A duration that is more than nothing.
pub(super) fn interval(value: &Value) -> Parsed<Duration> {
    let duration = duration(value)?;
    if duration.is_zero() {
        return Err("must be more than 0 seconds".to_owned());
    }
    Ok(duration)
}

/// How much of a disk must be free.
pub(super) fn disk_floor(value: &Value) -> Parsed<DiskFloor> {
    let floor = match value {
        Value::String(text) => space::parse(text),
        number => number.as_u64().map(DiskFloor::Bytes),
    };
    floor.ok_or_else(|| space::EXPECTED.to_owned())
}

/// A number of bytes.
pub(super) fn bytes(value: &Value) -> Parsed<u64> {
    let bytes = match value {
        Value::String(text) => space::bytes(text),
        number => number.as_u64(),
    };
    bytes.ok_or_else(|| {
        "must be a number of bytes, or one with a unit as in 500MB or 2GiB".to_owned()
    })
}

/// Who runs pull steps.
pub(super) fn pull_mode(value: &Value) -> Parsed<PullMode> {
    value.as_str().unwrap_or_default().trim().parse()
}

/// An address to listen on.
pub(super) fn address(value: &Value) -> Parsed<IpAddr> {
    let text = value.as_str().unwrap_or_default().trim();
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse()
        .map_err(|_| "must be an IP address, as 127.0.0.1 or 0.0.0.0".to_owned())
}

/// Texts: a list, or one text with commas.
pub(super) fn texts(value: &Value) -> Parsed<Vec<String>> {
    let texts = lenient::texts(value).ok_or("must be a list of texts")?;
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

/// HTTP status codes.
pub(super) fn status_codes(value: &Value) -> Parsed<Vec<u16>> {
    lenient::status_codes(value)
        .ok_or_else(|| "must be HTTP status codes, as in 404,500".to_owned())
}

/// HTTP headers.
pub(super) fn headers(value: &Value) -> Parsed<BTreeMap<String, Secret>> {
    const EXPECTED: &str = "must be an object of HTTP headers with texts as values";
    let fields = lenient::object_of_texts(value).ok_or(EXPECTED)?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    for (name, value) in &fields {
        if name.is_empty() || !name.chars().all(is_token) || value.contains(['\r', '\n', '\0']) {
            return Err(EXPECTED.to_owned());
        }
    }
    Ok(fields
        .into_iter()
        .map(|(name, value)| (name, Secret::new(value)))
        .collect())
}

/// The URL of an API, without a slash at its end. An empty one is none.
pub(super) fn url(value: &Value) -> Parsed<Option<Url>> {
    const EXPECTED: &str = "must be a URL, as http://127.0.0.1:4200/api";
    let Some(text) = optional_text(value)? else {
        return Ok(None);
    };
    let url = Url::parse(text.trim_end_matches('/')).map_err(|_| EXPECTED)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(EXPECTED.to_owned());
    }
    Ok(Some(url))
}

/// A work pool type this project has a driver for.
pub(super) fn kind(value: &Value) -> Parsed<DriverKind> {
    let text = value.as_str().unwrap_or_default().trim();
    text.parse()
        .map_err(|_| "must be process, docker or kubernetes".to_owned())
}

/// A worker's name; the reference forbids the same characters.
pub(super) fn worker_name(value: &Value) -> Parsed<String> {
    let name = filled_text(value)?;
    if name.contains(['/', '%']) {
        return Err("must have no '/' and no '%'".to_owned());
    }
    Ok(name)
}

/// A log level in Prefect's spelling or in that of tracing, or a list of `target=level`.
pub(super) fn log_level(value: &Value) -> Parsed<String> {
    const EXPECTED: &str =
        "must be error, warn, info, debug or trace, perhaps per target as in info,worker=debug";
    let text = filled_text(value)?;
    let directives: Option<Vec<_>> = text.split(',').map(|part| directive(part.trim())).collect();
    Ok(directives.ok_or(EXPECTED)?.join(","))
}

fn directive(text: &str) -> Option<String> {
    let (target, level) = match text.rsplit_once('=') {
        Some((target, level)) if !target.is_empty() => (Some(target), level),
        Some(_) => return None,
        None => (None, text),
    };
    let level = match level.to_ascii_lowercase().as_str() {
        "critical" | "error" => "error",
        "warning" | "warn" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        "off" => "off",
        _ => return None,
    };
    Some(target.map_or_else(|| level.to_owned(), |target| format!("{target}={level}")))
}
