//! Documents: YAML text into profiles, common ports and settings, with every fault at its line.

pub mod fault;
pub mod policy;
pub mod reader;
pub mod tree;
