//! Tells a key that is absent from a key that is null, where a change may take a value away.
//!
//! Used as `#[serde(default, deserialize_with = "crate::patch::deserialize")]` on an `Option<Option<T>>`: absent is `None`, null is `Some(None)`.

use serde::{Deserialize, Deserializer};

/// Reads a key that is there.
pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
