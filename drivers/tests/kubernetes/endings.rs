//! All the ways in which a pod ends, or never begins.
