//! Names and labels that a cluster takes, made of any text as the reference makes them.

use worker_config::slug::{Rules, slug};

use crate::job::{Owner, RunKey};

/// What is stripped from both ends of a label's parts, which must begin and end with a letter or digit.
const ENDS: [char; 3] = ['_', '-', '.'];

/// The longest value of a label.
const LONGEST: usize = 63;

/// The beginning of a job's name. It leaves room for what the cluster puts behind it.
pub(super) fn generate_name(name: &str) -> String {
    let rules = Rules {
        longest: 45,
        lowercase: true,
        keep: &[],
    };
    match slug(name, rules).as_str() {
        "" => "prefect-job-".to_owned(),
        slug => format!("{slug}-"),
    }
}

/// The key of a label or annotation.
pub(super) fn label_key(key: &str) -> String {
    match key.split_once('/') {
        None | Some(("", _)) => label_value(key.strip_prefix('/').unwrap_or(key)),
        Some((prefix, name)) => {
            let prefix = fit(prefix, 253, &['.']);
            format!("{prefix}/{}", label_value(name))
        }
    }
}

/// The value of a label.
pub(super) fn label_value(value: &str) -> String {
    fit(value, LONGEST, &['_', '.'])
}

/// A text of which nothing would be left stays as it is, for the cluster to refuse.
fn fit(text: &str, longest: usize, keep: &'static [char]) -> String {
    let rules = Rules {
        longest,
        lowercase: false,
        keep,
    };
    match slug(text, rules).trim_matches(ENDS) {
        "" => text.to_owned(),
        fit => fit.to_owned(),
    }
}

/// The name of an attempt's job: the same whenever and by whomever it is made, so that making it twice finds the first. It leaves room for what the
/// cluster puts behind it in the names of pods, and is short enough for the label in which pods have it.
pub(super) fn job_name(name: &str, owner: &Owner, key: RunKey) -> String {
    let hash = hash(&format!("{key} {}", owner.0)) & 0xff_ffff_ffff;
    format!("{}{hash:010x}", generate_name(name))
}

/// The value of a label for any text: as the reference makes it where that is whole and legal, else told apart by a hash. True: the text cannot be
/// told from it any more.
pub(super) fn whole_label_value(text: &str) -> (String, bool) {
    let fitted = label_value(text);
    let rules = Rules {
        longest: usize::MAX,
        lowercase: false,
        keep: &['_', '.'],
    };
    if is_label_value(&fitted) && slug(text, rules).trim_matches(ENDS).len() <= LONGEST {
        return (fitted, false);
    }
    let hash = format!("{:010x}", hash(text) & 0xff_ffff_ffff);
    let kept: String = fitted
        .chars()
        .take(LONGEST - 1 - hash.len())
        .filter(|one| one.is_ascii_alphanumeric() || ['_', '.', '-'].contains(one))
        .collect();
    match kept.trim_matches(ENDS) {
        "" => (hash, true),
        kept => (format!("{kept}-{hash}"), true),
    }
}

/// Whether a cluster takes this for the key of a label or annotation.
pub(super) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_domain = |prefix: &str| {
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-')
        };
        prefix.len() <= 253 && prefix.split('.').all(part)
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_domain)
}

/// Whether a cluster takes this for the value of a label.
pub(super) fn is_label_value(value: &str) -> bool {
    let inner = |one: u8| one.is_ascii_alphanumeric() || b"_.-".contains(&one);
    value.len() <= LONGEST
        && value.bytes().all(inner)
        && !value.starts_with(ENDS)
        && !value.ends_with(ENDS)
}

/// FNV-1a: the same in each release of this program, as names outlive it. It only tells things apart; nothing trusts it.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
