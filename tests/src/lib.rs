//! What the scenario and live tests share: the program with an environment of its own, waiting with a bound, a git
//! repository, a small HTTP client, a proxy that counts and a real Prefect server.
//!
//! Nothing here knows what the worker should do; that is for the tests to say. Everything ends with the test that
//! made it: directories are removed, processes are ended by their id.

pub mod files;
pub mod http;
pub mod page;
pub mod prefect;
pub mod program;
pub mod proxy;
pub mod reader;
pub mod repository;
pub mod wait;
