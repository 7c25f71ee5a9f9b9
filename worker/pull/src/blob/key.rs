//! From the key of an object to a path below a directory. Pure.

use std::path::PathBuf;

/// The longest name that Linux's file systems take, in bytes.
const LONGEST_NAME: usize = 255;

/// What a key stands for, seen from the folder that is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file, at this path below the directory: relative, without `.` and `..`.
    File(PathBuf),
    /// A folder that some tool made visible; files below it make it anyway.
    Folder,
    /// Nothing that may be written: it would lie outside, or no file can have that name.
    Unfit(&'static str),
}

/// What a backslash in a key is. The reference's steps for buckets take it for a slash, those for blocks and URLs do not (3.8.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backslash {
    Slash,
    Letter,
}

/// Where the object `key` of the folder `prefix` belongs.
pub(super) fn place(key: &str, prefix: &str, backslash: Backslash) -> Place {
    let rest = match key.strip_prefix(prefix) {
        Some(rest) if prefix.is_empty() => rest,
        Some("") => return Place::Folder,
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => rest,
            None => return Place::Unfit("is not in the folder"),
        },
        None => return Place::Unfit("is not in the folder"),
    };
    if rest.ends_with('/') || rest.is_empty() {
        return Place::Folder;
    }
    let rest = match backslash {
        Backslash::Slash => rest.replace('\\', "/"),
        Backslash::Letter => rest.to_owned(),
    };
    let mut path = PathBuf::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => return Place::Unfit("leads out of the directory"),
            part if part.contains('\0') => return Place::Unfit("contains a NUL"),
            part if part.len() > LONGEST_NAME => {
                return Place::Unfit("has a part that is too long for a file name");
            }
            part => path.push(part),
        }
    }
    if path.as_os_str().is_empty() || rest.ends_with('/') {
        return Place::Folder;
    }
    Place::File(path)
}

#[cfg(test)]
mod tests;
