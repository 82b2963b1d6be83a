//! Limits on calls: how often an address may call podgate, and what Envoys ask about theirs.

pub mod addresses;
pub mod per_ip;
pub mod rates;
