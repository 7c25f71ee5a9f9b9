//! Repositories as users have them, on servers that are not ours: git's own, OpenSSH's, this machine's files.

#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test that cannot go on says where it stopped"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests own the tasks that they start, and end with them"
)]

mod faults;
mod http;
mod leaks;
mod lfs;
mod local;
mod repository;
mod server;
mod ssh;
