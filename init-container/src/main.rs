//! The program `podgate-init`: one thread, one request, one exit code.

use std::{
    hash::{BuildHasher as _, RandomState},
    process::ExitCode,
};

use podgate_init::{Process, clock, environment, run, signals};

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                use std::io::Write as _;
                // Nobody is left to tell if this fails too.
                let _ = writeln!(out, "podgate-init can't start: {error}");
                return podgate_init::ExitCode::Misconfigured.into();
            }
        };
    let process = Process {
        args: environment::args(),
        vars: environment::vars(),
        out: &mut out,
        now: &clock::now,
        // Keyed anew in every process, and so different in each of ten thousand pods.
        seed: RandomState::new().hash_one(std::process::id()),
    };
    let code = runtime.block_on(async { run(process, signals::received()).await });
    // A name that is still being looked up would hold an orderly shutdown for seconds.
    runtime.shutdown_background();
    code.into()
}
