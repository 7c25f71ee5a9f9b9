//! Over ssh.
