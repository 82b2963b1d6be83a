//! Where policy comes from: files in a directory, reloaded when they change, whole or not at all.

pub mod directory;
pub mod watch;
