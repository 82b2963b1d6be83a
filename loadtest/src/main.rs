//! The `podgate-loadtest` binary.

use std::process::ExitCode;

/// The allocator of the `podgate` program: the gateway child is this very program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    podgate_loadtest::main(std::env::args_os())
}
