//! The routes a worker uses, one method each, grouped as the server groups them.
//!
//! Each was tried on a server of release 3.8.8; what was seen stands at the method.

mod blocks;
mod deployments;
mod flow_runs;
mod github;
mod logs;
mod server;
mod work_pools;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{ApiError, Client, request::Call};

/// The most a server gives at once (`PREFECT_SERVER_API_DEFAULT_LIMIT`, 3.8.8); it refuses to be asked for more.
pub(crate) const MAX_PAGE: u32 = 200;

/// The most that is read of a list that nobody limited, so that a server that always has another page cannot hold us.
const MAX_LIST: u32 = 50 * MAX_PAGE;

// === impl Client ===

impl Client {
    /// Reads a filtered list, page by page, up to `limit` entries.
    async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        filter: &Map<String, Value>,
        limit: Option<u32>,
    ) -> Result<Vec<T>, ApiError> {
        let limit = limit.unwrap_or(MAX_LIST).min(MAX_LIST);
        let mut entries = Vec::new();
        let mut offset = 0;
        while offset < limit {
            let page = MAX_PAGE.min(limit - offset);
            let mut body = filter.clone();
            body.insert("limit".to_owned(), json!(page));
            body.insert("offset".to_owned(), json!(offset));
            let found: Vec<T> = self.fetch(Call::post(segments).json(&body)).await?;
            let last = found.len() < page as usize;
            entries.extend(found);
            if last {
                break;
            }
            offset += page;
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
