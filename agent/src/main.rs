//! The `podgate-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    podgate_agent::main(std::env::args_os())
}
