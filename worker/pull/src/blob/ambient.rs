//! What a pull may use of its surroundings: the environment variables, home directory and files in which the clouds' own tools keep
//! credentials. Read once, so that tests and callers can say what there is.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::fault::Fault;

/// An environment. Its values do not print.
#[derive(Clone, Default)]
pub struct Ambient {
    variables: BTreeMap<String, String>,
}

// === impl Ambient ===

impl Ambient {
    /// That of this process, as it is now.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
        }
    }

    /// What a variable says; an empty one says nothing.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        self.variables
            .get(name)
            .filter(|value| !value.is_empty())
            .cloned()
    }

    /// A path with the home directory for a leading `~`.
    pub(super) fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.find("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// The certificates to trust besides the system's: of `file`, else of the file that other programs are told of.
    pub(super) fn read_roots(&self, file: Option<&Path>) -> Result<Option<Vec<u8>>, Fault> {
        let told = || {
            let name = self
                .find("REQUESTS_CA_BUNDLE")
                .or_else(|| self.find("SSL_CERT_FILE"))?;
            Some(PathBuf::from(name))
        };
        let Some(file) = file.map(Path::to_owned).or_else(told) else {
            return Ok(None);
        };
        std::fs::read(&file).map(Some).map_err(|error| {
            Fault::permanent(format!(
                "the certificates in {} cannot be read: {error}",
                file.display()
            ))
        })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Ambient {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(variables: T) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self { variables }
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambient").finish_non_exhaustive()
    }
}
