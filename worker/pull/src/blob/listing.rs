//! Takes out of a listing what `object_store` could not represent, before it sees it.
//!
//! It reads a page whole or not at all: one key with `..`, `//` or a control character would hide the thousand others on its page. It also
//! drops the slash at the end of a key, so that the marker of a folder looks like an empty file. Such entries are cut from the
//! XML here and told apart. S3 and Google Cloud Storage list in one format, Azure in another; both are read.

use bytes::Bytes;
use object_store::path::Path;
use quick_xml::{
    Reader,
    escape::unescape,
    events::{BytesText, Event},
};

/// A page of a listing without the entries that cannot be had.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The page as the server sent it, without them.
    pub(super) body: Bytes,
    /// The keys that were cut out, except for markers of folders: those stand for nothing.
    pub(super) unfit: Vec<String>,
}

/// One object of a page while it is read.
struct Entry {
    start: usize,
    key: Option<String>,
}

/// Cuts from a page what cannot be represented. What is not XML stays as it is: whoever reads it next will say so.
pub(super) fn sift(body: Bytes) -> Page {
    let Ok(text) = std::str::from_utf8(&body) else {
        return Page {
            body,
            unfit: Vec::new(),
        };
    };
    let mut unfit = Vec::new();
    let mut kept = String::new();
    let mut copied = 0;
    for (range, key) in entries(text) {
        if key.as_deref().is_some_and(is_representable) {
            continue;
        }
        kept.push_str(&text[copied..range.start]);
        copied = range.end;
        match key {
            Some(key) if key.ends_with('/') => {}
            Some(key) => unfit.push(key),
            None => unfit.push("a key that is not text".to_owned()),
        }
    }
    if copied == 0 {
        return Page { body, unfit };
    }
    kept.push_str(&text[copied..]);
    Page {
        body: kept.into(),
        unfit,
    }
}

/// Whether `object_store` has a path for this key that it can ask for.
fn is_representable(key: &str) -> bool {
    // A slash at either end would be dropped, and another object be asked for.
    Path::parse(key).is_ok_and(|path| path.as_ref() == key)
}

/// Where each object of a page is described, and its key; `None` if that is no text.
fn entries(text: &str) -> Vec<(std::ops::Range<usize>, Option<String>)> {
    let mut reader = Reader::from_str(text);
    let mut found = Vec::new();
    let mut entry: Option<Entry> = None;
    loop {
        let before = position(&reader);
        match reader.read_event() {
            Ok(Event::Start(tag)) => match (tag.local_name().as_ref(), &mut entry) {
                (b"Contents" | b"Blob", None) => {
                    entry = Some(Entry {
                        start: before,
                        key: None,
                    });
                }
                (b"Key" | b"Name", Some(entry)) if entry.key.is_none() => {
                    entry.key = reader
                        .read_text(tag.name())
                        .ok()
                        .and_then(|raw| key_of(&raw));
                }
                _ => {}
            },
            Ok(Event::End(tag)) if matches!(tag.local_name().as_ref(), b"Contents" | b"Blob") => {
                if let Some(Entry { start, key }) = entry.take() {
                    found.push((start..position(&reader), key));
                }
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn key_of(raw: &BytesText<'_>) -> Option<String> {
    let raw = raw.decode().ok()?;
    Some(unescape(&raw).ok()?.into_owned())
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
