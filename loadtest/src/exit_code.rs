//! The exit codes: a contract with scripts and CI.

/// Everything that was asked for happened, and every bound held.
pub const HELD: u8 = 0;
/// The run ended, but a promise was broken: a pod stayed undecided, admissions passed the bound by more than
/// 0.2·R + 1 tokens, an `admitted_at` lay outside its call, an acknowledged grant was lost, a
/// simulated ticket was refused though it came in time, or a benchmark got wrong answers.
pub const BROKEN: u8 = 1;
/// The command line is wrong. clap ends with the same code.
pub const USAGE: u8 = 2;
/// The run could not be made or finished: no gateway, too few file descriptors, a full disk, or no
/// rate is large enough for a simulation's `--within`.
pub const NOT_RUN: u8 = 3;
/// Interrupted by Ctrl-C (128 + SIGINT, as shells report it).
pub const INTERRUPTED: u8 = 130;
