//! podgate's load tester: a table of contents, from what a person says to what a process does.

pub mod cli;
pub mod exit_code;
pub mod quantity;

pub mod storm;

pub mod incident;

pub mod simulate;

pub mod bench;

pub mod watch;

pub mod generate;

pub mod page;

pub mod figures;
pub mod over_admission;
pub mod seed;
pub mod table;
pub mod timeline;

pub mod affinity;
pub mod child;
pub mod clock;
pub mod console;
pub mod cpu_quota;
pub mod descriptors;
pub mod exposition;
pub mod json_file;
pub mod listener;
pub mod process;
pub mod whole_file;

mod run;

pub use crate::run::main;
