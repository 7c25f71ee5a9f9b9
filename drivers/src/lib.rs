//! Where a job runs: the driver contract and its engines.
//!
//! The only crate that names an engine's client library. It knows nothing of the Prefect API: it is handed a
//! [`Job`] and says what became of it.

pub mod command_line;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod docker;
pub mod driver;
pub mod examination;
#[cfg(any(test, feature = "conformance"))]
pub mod fake;
mod fields;
pub mod job;
pub mod kubernetes;
mod lines;
pub mod plan;
pub mod subprocess;

pub use driver::{Driver, DriverError, Health, JobEvent, LogStream, Owned, Recovered, Submitted};
pub use examination::{Examination, Finding, Verdict};
pub use job::{
    Environment, Handle, Happening, Intent, Job, LogCursor, LogLine, Outcome, OutputStream, Owner,
    Phase, Program, RunKey, StopRequest,
};
pub use plan::Plan;
