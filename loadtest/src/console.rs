//! Speaks to the person at the terminal: results on stdout, everything else on stderr.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks here, and only here")]

/// A result, on stdout, as it is.
pub fn result(text: &str) {
    print!("{text}");
}

/// A remark about the run, on stderr.
pub fn remark(text: &str) {
    eprintln!("{text}");
}
