//! Code from git repositories, through libgit2.
