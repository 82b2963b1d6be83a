//! podgate, the gateway.
//!
//! In reading order:

pub mod clock;
pub mod environment;
pub mod vital;

pub mod config;
pub mod document;
pub mod source;

pub mod authn;
pub mod limits;
pub mod store;
pub mod upstream;

pub mod gate;

pub mod grpc;
pub mod wording;

pub mod serve;

pub mod command;

pub use command::run as main;
