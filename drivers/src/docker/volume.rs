//! Mounts as people write them: `/path/in/container`, or `source:target[:ro|rw]`.

use std::path::{Component, Path, PathBuf};

use crate::{driver::DriverError, fields::refused};

/// Checks a mount, and gives it back without blanks around it.
pub(super) fn check(volume: &str) -> Result<String, DriverError> {
    let volume = volume.trim();
    let invalid = |reason: &str| Err(refused("volumes", format!("'{volume}' {reason}")));
    if volume.len() > 1 && volume.starts_with('/') && !volume.contains(':') {
        return Ok(volume.to_owned());
    }
    let Some((source, rest)) = split_after_drive(volume).or_else(|| volume.split_once(':')) else {
        return invalid("is neither a path in the container nor source:target");
    };
    let (target, options) = match rest.split_once(':') {
        Some((target, options)) => (target, Some(options)),
        None => (rest, None),
    };
    if source.is_empty() || target.is_empty() {
        return invalid("has no source or no target");
    }
    if is_bind(source) {
        if !target.starts_with('/') {
            return invalid("mounts a directory, so its target must begin with '/'");
        }
    } else if !is_name(source) {
        return invalid(
            "is neither an absolute path, one that begins with './' or '../', nor the name of a volume",
        );
    }
    match options {
        None | Some("ro" | "rw") => Ok(volume.to_owned()),
        Some(_) => invalid("may only end in ':ro' or ':rw'"),
    }
}

/// A mount whose source is relative, with its source below the given directory.
pub(super) fn absolute(volume: &str, current_dir: &Path) -> String {
    match volume.split_once(':') {
        Some((source, rest)) if is_relative(source) => {
            format!("{}:{rest}", normal(&current_dir.join(source)).display())
        }
        _ => volume.to_owned(),
    }
}

/// A Windows drive has a `:` of its own. Where nothing else does, it is the name of a volume.
fn split_after_drive(volume: &str) -> Option<(&str, &str)> {
    let bytes = volume.as_bytes();
    let drive = bytes.first()?.is_ascii_alphabetic() && volume[1..].starts_with(":\\");
    let end = drive.then(|| volume[3..].find(':'))?? + 3;
    (end > 3).then(|| (&volume[..end], &volume[end + 1..]))
}

fn is_bind(source: &str) -> bool {
    let drive = source.len() > 2
        && source.as_bytes()[0].is_ascii_alphabetic()
        && source[1..].starts_with(":\\");
    drive || source.starts_with('/') || source.starts_with("\\\\") || is_relative(source)
}

fn is_relative(source: &str) -> bool {
    let begins = ["./", "../", ".\\", "..\\"];
    source == "." || source == ".." || begins.iter().any(|start| source.starts_with(start))
}

fn is_name(source: &str) -> bool {
    source.starts_with(|c: char| c.is_ascii_alphanumeric())
        && source
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

/// A path without `.` and `..`, taken literally: links are not followed.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
