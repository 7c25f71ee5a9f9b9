//! One request to a cluster's API.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// The longest line of a request's head that is carried.
const LINE: u64 = 64 * 1024;

/// A request, whole.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// What is asked, as in `watch pods`.
    pub(super) kind: String,
    pub(super) bytes: Vec<u8>,
}

// === impl Request ===

impl Request {
    /// The next one; nothing at the end of the connection.
    pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut request = Self::default();
        let mut length = 0;
        loop {
            let mut line = Vec::new();
            (&mut *stream)
                .take(LINE)
                .read_until(b'\n', &mut line)
                .await?;
            if line.is_empty() {
                return Ok(None);
            }
            request.bytes.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() {
                break;
            }
            if request.kind.is_empty() {
                request.kind = kind(text);
            } else if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        stream.take(length).read_to_end(&mut request.bytes).await?;
        Ok(Some(request))
    }
}

/// The verb and the resource of a request line, in the words of the cluster's rights.
fn kind(line: &str) -> String {
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // `/api/v1/…` or `/apis/GROUP/VERSION/…`.
    let skipped = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return format!("{method} {path}"),
    };
    let mut parts: Vec<&str> = parts.skip(skipped).collect();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let (resource, is_named) = match parts.as_slice() {
        [] => return format!("{method} {path}"),
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, below, ..] => (format!("{resource}/{below}"), true),
    };
    let is_watch = query
        .split('&')
        .any(|one| one == "watch=true" || one == "watch=1");
    let verb = match (method, is_named) {
        ("GET", _) if is_watch => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        (other, _) => other,
    };
    format!("{verb} {resource}")
}

#[cfg(test)]
mod tests;
