//! Nothing of a credential is left anywhere.
