//! What the scenario and live tests share: the program with an environment of its own, waiting with a bound, a git
//! repository and a server for it, a small HTTP client, a proxy that counts, a gate at which a worker dies, an image of the
//! program, an API in the test's own process, a way to a cluster that fails on order, a kubelet that plays pods, and a real
//! Prefect server.
//!
//! Nothing here knows what the worker should do; that is for the tests to say. Everything ends with the test that
//! made it: directories are removed, processes are ended by their id.

pub mod files;
pub mod gate;
pub mod gateway;
pub mod git_server;
pub mod http;
pub mod image;
pub mod kubelet;
pub mod measure;
pub mod page;
pub mod prefect;
pub mod program;
pub mod proxy;
pub mod reader;
pub mod repository;
pub mod stage;
pub mod wait;
