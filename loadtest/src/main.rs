//! The `podgate-loadtest` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    podgate_loadtest::main(std::env::args_os())
}
