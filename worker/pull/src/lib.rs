//! Gets the code of a deployment to a directory: what its pull steps say, by git or from a blob store.
//!
//! Knows nothing of flow runs, pools or drivers. The only crate that names git2 and `object_store`.

pub mod blob;
pub mod git;
mod operation;
mod retry;
pub mod steps;

pub use operation::{Interrupted, Operation, Progress};
pub use retry::Retry;
