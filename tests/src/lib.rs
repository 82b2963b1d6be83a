//! What the end-to-end tests share: the real binaries as children, real sockets to them, and nothing of their insides.
//!
//! In reading order:

pub mod clock;
pub mod eventually;
pub mod rounds;

pub mod binary;
pub mod browser;
pub mod home;
pub mod page;
pub mod small_disk;

pub mod agent;
pub mod envoy;
pub mod gateway;
pub mod guarded_redis;
pub mod init;
pub mod network;
pub mod stopped;
pub mod wall_clock;

pub mod caller;
pub mod documents;
pub mod raw;
pub mod refusal;
pub mod requests;
pub mod turn;
pub mod watcher;
pub mod yaml;

pub mod rust_file;
pub mod workspace;
