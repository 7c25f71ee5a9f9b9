//! Names of images, and when an image is pulled.

use crate::{driver::DriverError, fields::refused};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Where the engine has none of that name.
    IfNotPresent,
    /// Each time, and a failed pull is a failure.
    Always,
    /// Each time, and after a failed pull what the engine has will do.
    IfPossible,
    /// Not at all.
    Never,
}

// === impl PullPolicy ===

impl PullPolicy {
    /// As templates spell it.
    pub fn of(spelled: &str) -> Option<Self> {
        [
            Self::IfNotPresent,
            Self::Always,
            Self::IfPossible,
            Self::Never,
        ]
        .into_iter()
        .find(|policy| policy.as_str() == spelled)
    }

    /// The spelling in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::IfPossible => "IfPossible",
            Self::Never => "Never",
        }
    }

    /// The policy of an image for which nobody chose one: what may change under its name is pulled each time.
    pub(super) fn by_tag(image: &str) -> Result<Self, DriverError> {
        match tag(image)? {
            None | Some("" | "latest") => Ok(Self::Always),
            Some(_) => Ok(Self::IfNotPresent),
        }
    }
}

/// The tag or digest of an image's name. What comes before the first `/` is a registry or an organisation, and may hold a port.
fn tag(image: &str) -> Result<Option<&str>, DriverError> {
    let path = image.split_once('/').map_or(image, |(_, path)| path);
    let separator = if path.contains('@') { '@' } else { ':' };
    let mut parts = path.split(separator);
    let tag = parts.nth(1);
    if parts.next().is_some() {
        return Err(refused(
            "image",
            format!("has more than one '{separator}' where a tag or digest is"),
        ));
    }
    Ok(tag)
}

/// The name with the tag that engines mean by none: asked for a name alone they would pull every tag there is.
pub(super) fn with_tag(image: &str) -> String {
    match tag(image) {
        Ok(None) => format!("{image}:latest"),
        Ok(Some("")) => format!("{image}latest"),
        _ => image.to_owned(),
    }
}

/// The registry an image comes from, as credentials are kept for it.
pub(super) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => HUB,
    }
}

/// The registry of names that begin with none.
pub(super) const HUB: &str = "docker.io";
