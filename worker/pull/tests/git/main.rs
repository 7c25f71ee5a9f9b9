//! Repositories as users have them, on servers that are not ours: git's own, OpenSSH's, this machine's files.

mod faults;
mod http;
mod leaks;
mod local;
mod repository;
mod server;
mod ssh;
