//! Kubernetes jobs: the `kubernetes` work pool type.
//!
//! What is here is pure: [`Options`] is the typed job configuration, and [`prepare`] makes of a job the manifest that the reference would
//! submit. Manifests are plain JSON, because people put into their templates what no typed `Job` would keep. No cluster is spoken to yet.

mod environment;
mod manifest;
mod names;
mod options;
mod prepare;

pub use options::{ClusterConfig, Options};
pub use prepare::{Prepared, prepare};

/// What a worker's jobs have in common.
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// The image of jobs that name none.
    pub default_image: String,
}
