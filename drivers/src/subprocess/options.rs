//! The job configuration of a process pool, made typed.
//!
//! As lenient as the reference and no more: it reads its own fields, passes over others, and a wrong type is an error that names the field.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    driver::DriverError,
    fields::{object, switch, text},
};

/// What a process pool's job configuration says, apart from what the worker has prepared from it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether the output is shown beside the worker's own.
    pub stream_output: bool,
    /// Where it runs; else in a directory of its own.
    pub working_dir: Option<PathBuf>,
}

// === impl Options ===

impl Options {
    /// Reads a configuration. The first field that is wrong is the error.
    ///
    /// # Errors
    /// [`DriverError::Invalid`].
    pub fn read(configuration: &Map<String, Value>) -> Result<Self, DriverError> {
        // These four reach the driver prepared, as parts of the job. Here they only have to be what they should.
        for field in ["command", "name"] {
            text(configuration, field)?;
        }
        object(configuration, "env", |_| true, "values")?;
        object(configuration, "labels", Value::is_string, "texts")?;
        Ok(Self {
            stream_output: switch(configuration, "stream_output", true)?,
            working_dir: text(configuration, "working_dir")?.map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests;
