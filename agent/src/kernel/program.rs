//! Runs a program to its end, within bounds.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

/// Longest that one run may take: listing a million elements takes a minute.
const RUN_MAX: Duration = Duration::from_secs(120);
/// Most that it may write to standard output: a million elements are about a hundred bytes each.
const OUT_BYTES_MAX: u64 = 256 << 20;
/// Most of its standard error that is read.
const ERR_BYTES_MAX: u64 = 16 << 10;

/// Why a program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It does not start.
    #[error("{} does not start", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading from it or writing to it failed.
    #[error("{} does not read or write", program.display())]
    Pipe {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("{} has not ended within {} s", program.display(), RUN_MAX.as_secs())]
    Slow {
        /// The program.
        program: PathBuf,
    },
    /// It writes too much.
    #[error("{} writes more than {OUT_BYTES_MAX} bytes", program.display())]
    Wordy {
        /// The program.
        program: PathBuf,
    },
    /// It says that it failed.
    #[error("{}: {said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// The first lines of what it says.
        said: String,
    },
}

/// Runs it with this for its standard input, and returns its standard output.
pub(crate) async fn run(program: &Path, arguments: &[&str], input: &str) -> Result<Vec<u8>, ProgramError> {
    let named = || program.to_owned();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ProgramError::Start { program: named(), source })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let running = async {
        let write = async {
            match stdin {
                // A program that fails early does not read on; it will say why.
                Some(mut stdin) => match stdin.write_all(input.as_bytes()).await {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    other => other,
                },
                None => Ok(()),
            }
        };
        tokio::try_join!(write, read(stdout, OUT_BYTES_MAX), read(stderr, ERR_BYTES_MAX), child.wait())
    };
    let ((), out, err, status) = timeout(RUN_MAX, running)
        .await
        .map_err(|_| ProgramError::Slow { program: named() })?
        .map_err(|source| ProgramError::Pipe { program: named(), source })?;
    if !status.success() {
        let said = first_lines(&String::from_utf8_lossy(&err)).unwrap_or_else(|| status.to_string());
        return Err(ProgramError::Failed { program: named(), said });
    }
    if out.len() as u64 > OUT_BYTES_MAX {
        return Err(ProgramError::Wordy { program: named() });
    }
    Ok(out)
}

/// What it writes, up to one byte more than the bound.
async fn read(from: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(bytes_max + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What a program says first, on one line: nft repeats the whole command that failed, which may be long.
fn first_lines(text: &str) -> Option<String> {
    const CHARS_MAX: usize = 300;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(2);
    let joined = lines.collect::<Vec<_>>().join(": ");
    let shown: String = joined.chars().take(CHARS_MAX).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_says_comes_back() {
        let out = run(Path::new("/bin/cat"), &[], "said").await.unwrap();
        assert_eq!(out, b"said");
    }

    #[tokio::test]
    async fn failures_are_told() {
        let failed = |script: &'static str| async move {
            run(Path::new("/bin/sh"), &["-c", script], "").await.unwrap_err().to_string()
        };
        assert_eq!(failed("echo no >&2; echo way >&2; echo more >&2; exit 3").await, "/bin/sh: no: way");
        assert_eq!(failed("exit 3").await, "/bin/sh: exit status: 3");
        let absent = run(Path::new("/nonexistent"), &[], "").await.unwrap_err();
        assert_eq!(absent.to_string(), "/nonexistent does not start");
    }

    #[tokio::test]
    async fn a_program_that_does_not_read_may_succeed() {
        let much = "x".repeat(1 << 20);
        assert_eq!(run(Path::new("/bin/true"), &[], &much).await.unwrap(), b"");
    }
}
