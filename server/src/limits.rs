//! Limits that need no policy: how often an address may call.

pub mod addresses;
pub mod per_ip;
