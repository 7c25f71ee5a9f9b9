//! The server itself.

use crate::{ApiError, Client, request::Call};

// === impl Client ===

impl Client {
    /// Reads the server's release, such as `3.8.8`. `GET /admin/version`: 200. Prefect Cloud has no such route.
    pub async fn read_version(&self) -> Result<String, ApiError> {
        self.fetch(Call::get(&["admin", "version"])).await
    }

    /// Asks the server whether it is there. `GET /health`: 200 `true`. A proxy in between that answers for it is an error.
    pub async fn hello(&self) -> Result<(), ApiError> {
        let _: serde_json::Value = self.fetch(Call::get(&["health"])).await?;
        Ok(())
    }
}
