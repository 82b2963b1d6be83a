//! What Envoy asks, in its own APIs.

pub mod check;
mod passage;
pub mod rate_limit;
