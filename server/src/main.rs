//! The `podgate` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    podgate::main(std::env::args_os())
}
