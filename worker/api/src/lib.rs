//! Speaks Prefect's REST and WebSocket API: wire types and client.
//!
//! The only crate that names an HTTP client. It knows nothing of drivers, slots or pull steps; its callers
//! decide what an answer means. Facts about the protocol were seen on Prefect 3.8.8 unless a comment says otherwise.

pub mod channel;
pub mod client;
pub mod error;
pub mod retry;
pub mod types;

mod clock;
mod collector;
mod csrf;
mod request;
mod routes;
mod socket;
mod tally;
#[cfg(test)]
mod testing;
mod transport;

pub use client::{Client, ClientBuildError, ClientOptions};
pub use collector::{Collector, CollectorError};
pub use error::{ApiError, Credential};
pub use retry::RetryPolicy;
pub use socket::{EVENTS_PAGE, EventSink, EventStream, SocketError};

/// The release of the reference whose behaviour this one has, as it is told to servers and written on infrastructure.
pub const REFERENCE_VERSION: &str = "3.8.8";
