//! The `podgate` program.

use std::process::ExitCode;

/// Grants are made by workers and dropped by the store's thread; glibc's allocator takes a lock for each of these.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    podgate::main(std::env::args_os())
}
