//! Docker containers: the `docker` work pool type.
//!
//! What is here is pure: [`Options`] is the typed job configuration, and [`prepare`] makes of a job the container that the reference would
//! ask for. The engine is not spoken to yet.

mod image;
mod network;
mod options;
mod prepare;
mod volume;

pub use image::PullPolicy;
pub use options::{CreateKwargs, Options, RegistryCredentials};
pub use prepare::{Prepared, prepare};

use std::path::PathBuf;

/// What a worker's containers have in common.
#[derive(Clone, Debug)]
pub struct DockerSettings {
    /// The release of Prefect that containers are labelled with.
    pub version: String,
    /// The image of jobs that name none.
    pub default_image: String,
    /// The API that this worker speaks to, if it is known.
    pub api_url: Option<String>,
    /// What relative sources of volumes are relative to.
    pub current_dir: PathBuf,
}
