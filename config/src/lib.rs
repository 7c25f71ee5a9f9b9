//! What people wrote, made into types that cannot be wrong.
//!
//! Pure: no network, no engine, and files are read only where a function says so. Every error of a kind of
//! input is reported at once, with where it was written and what would be right.

pub mod kind;
pub mod manifest;
pub mod policy;
pub mod python;
pub mod resolution;
pub mod secret;
pub mod settings;
pub mod slug;
pub mod step_list;
pub mod template;

mod lenient;
mod nearest;

pub use kind::DriverKind;
pub use secret::Secret;
