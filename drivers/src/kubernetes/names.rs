//! Names and labels that a cluster takes, made of any text as the reference makes them.

use worker_config::slug::{Rules, slug};

/// What is stripped from both ends of a label's parts, which must begin and end with a letter or digit.
const ENDS: [char; 3] = ['_', '-', '.'];

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
    fit(value, 63, &['_', '.'])
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
