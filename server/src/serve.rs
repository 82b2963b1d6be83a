//! Serving: who listens, who works, and how it ends.

pub mod connection;
pub mod door;
pub mod http;
pub mod listener;
pub mod places;
pub mod policy;
pub mod telemetry;
pub mod workers;
