//! What a step or a storage block asks for, made of its inputs. Pure: reads no file, no environment, and opens no connection.

use std::fmt;

use serde_json::{Map, Value};

/// Where code is: a place in a store, and where a step puts it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The store, with what it takes to be let in.
    pub(crate) store: Store,
    /// The folder in it, without slashes around; empty for all of it.
    pub(crate) prefix: String,
}

/// A kind of store. What it takes to open one is private: it holds credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Store {
    /// Not known yet.
    Unknown,
}

/// Why inputs do not name a place that can be pulled from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No step of this name pulls from a blob store; or no block of this type.
    #[error("{0} does not name a blob store that this worker can pull from")]
    Unknown(String),
    /// An input is missing or wrong.
    #[error("input {input} {problem}")]
    Input {
        /// Its name, with a dot before the name of a part.
        input: String,
        /// What is the matter with it; never its value, which may be secret.
        problem: String,
    },
}

// === impl Source ===

impl Source {
    /// Reads the inputs of a pull step, after templating and without `id` and `requires`.
    ///
    /// `step` is the last part of the step's name: `pull_from_s3`, `pull_from_gcs`, `pull_from_azure_blob_storage`,
    /// `pull_from_remote_storage`. Legacy names are the caller's to translate.
    pub fn from_step(step: &str, inputs: &Map<String, Value>) -> Result<Self, SourceError> {
        let _ = inputs;
        Err(SourceError::Unknown(step.to_owned()))
    }

    /// Reads a storage block for `pull_with_block`: its type, the name of its document, and the document's `data` with nested
    /// blocks expanded.
    ///
    /// Of the types `s3-bucket`, `gcs-bucket`, `azure-blob-storage-container`, `remote-file-system` and `local-file-system`;
    /// repositories are not blob stores.
    pub fn from_block(
        type_slug: &str,
        name: &str,
        data: &Map<String, Value>,
    ) -> Result<Self, SourceError> {
        let _ = (name, data);
        Err(SourceError::Unknown(type_slug.to_owned()))
    }

    /// Whether the files are on this machine's disk: then the job's disk is meant, where that is another one.
    pub fn is_local(&self) -> bool {
        false
    }
}

/// The place, without what it takes to be let in: `s3://bucket/folder`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Store::Unknown = self.store;
        f.write_str(&self.prefix)
    }
}
