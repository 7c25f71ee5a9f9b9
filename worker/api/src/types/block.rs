//! Blocks and variables: values stored on the server that a template may refer to.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::BlockDocumentId;

/// A stored block, its secrets in clear when they were asked for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockDocument {
    /// Names it for the server.
    pub id: BlockDocumentId,
    /// Names it for people; a block inside another has none.
    #[serde(default)]
    pub name: Option<String>,
    /// Its values, nested blocks already inlined by the server.
    pub data: Map<String, Value>,
    /// What it is one of, where the server says it.
    #[serde(default)]
    pub block_type: Option<BlockType>,
}

/// What a block is one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockType {
    /// Names it for programs: `s3-bucket`.
    pub slug: String,
}

/// A stored variable.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value: any JSON.
    pub value: Value,
}

// === impl BlockDocument ===

impl std::fmt::Debug for BlockDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A block may hold a credential in any field, so none of its values is ever printed.
        f.debug_struct("BlockDocument")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl Variable ===

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // People put credentials into variables although they should not.
        f.debug_struct("Variable")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
