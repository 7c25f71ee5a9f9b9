//! Code from blob stores, through `object_store`.
