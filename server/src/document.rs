//! Documents: YAML text into profiles, common ports, rate limits and settings, with every fault at its line.

pub mod fault;
mod fields;
pub mod policy;
mod rate_limits;
pub mod reader;
pub mod tree;
