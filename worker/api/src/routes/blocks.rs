//! Blocks and variables. Their values may be secrets, so no error quotes an answer.

use crate::{
    ApiError, Client,
    request::Call,
    types::{BlockDocument, BlockDocumentId, Variable},
};

/// Else the server gives `********` for each secret (3.8.8).
const WITH_SECRETS: &str = "include_secrets=true";

// === impl Client ===

impl Client {
    /// Reads a block, its secrets in clear, by its type and name.
    ///
    /// `GET /block_types/slug/{slug}/block_documents/name/{name}`: 200, 404 for an unknown type or name.
    pub async fn read_block_document(
        &self,
        type_slug: &str,
        name: &str,
    ) -> Result<BlockDocument, ApiError> {
        let path = [
            "block_types",
            "slug",
            type_slug,
            "block_documents",
            "name",
            name,
        ];
        self.fetch(Call::get(&path).query(WITH_SECRETS).confidential())
            .await
    }

    /// Reads a block, its secrets in clear, by its id. `GET /block_documents/{id}`: 200, 404.
    pub async fn read_block_document_by_id(
        &self,
        id: BlockDocumentId,
    ) -> Result<BlockDocument, ApiError> {
        let call = Call::get(&["block_documents", &id.to_string()]);
        self.fetch(call.query(WITH_SECRETS).confidential()).await
    }

    /// Reads a variable, if there is one of that name. `GET /variables/name/{name}`: 200, or 404 `Variable not found`.
    pub async fn find_variable(&self, name: &str) -> Result<Option<Variable>, ApiError> {
        match self
            .fetch(Call::get(&["variables", "name", name]).confidential())
            .await
        {
            Ok(variable) => Ok(Some(variable)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
