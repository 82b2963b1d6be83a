//! What the program ends with: a contract.

/// It was told to end, or `--once` has put everything in force.
pub(crate) const OK: u8 = 0;
/// The firewall cannot be changed; with `--once`: what is granted is not in force.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const MISCONFIGURED: u8 = 2;
