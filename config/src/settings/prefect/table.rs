//! The settings of Prefect 3.8.8: where they are in its TOML files, what they hold, and their older names.

use std::sync::LazyLock;

use super::{Setting, spelling::Kind};

/// Path, kind and perhaps an older variable on each line, in the reference's order.
const KNOWN: &str = include_str!("known.txt");

/// Every setting there is, in the reference's order.
pub(in crate::settings) static SETTINGS: LazyLock<Vec<Setting>> =
    LazyLock::new(|| KNOWN.lines().filter_map(setting).collect());

fn setting(line: &'static str) -> Option<Setting> {
    let mut words = line.split(' ');
    Some(Setting {
        path: words.next()?,
        kind: Kind::of(words.next()?)?,
        alias: words.next(),
    })
}

#[cfg(test)]
mod tests;
