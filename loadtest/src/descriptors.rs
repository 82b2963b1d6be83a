//! File descriptors: how many pods fit into a process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that a process needs besides one a connection: files, pipes, epoll, listeners, the store.
const RESERVE: u64 = 100;

/// Too few descriptors for the connections that a run needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} connections need {} file descriptors, but a process may have only {limit} here: {fits} fit \
     (raise the limit with `ulimit -n`, or ask for fewer)",
    wanted + RESERVE
)]
pub struct TooFewDescriptors {
    wanted: u64,
    limit: u64,
    fits: u64,
}

/// Raises this process's limit as far as it may (children inherit it) and checks that `connections` fit; says how many do.
pub fn ensure(connections: u64) -> Result<u64, TooFewDescriptors> {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current < limits.maximum {
        let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limits.current = limits.maximum;
        }
    }
    // None: unlimited.
    check(connections, limits.current.unwrap_or(u64::MAX))
}

fn check(wanted: u64, limit: u64) -> Result<u64, TooFewDescriptors> {
    let fits = limit.saturating_sub(RESERVE);
    if wanted <= fits { Ok(fits) } else { Err(TooFewDescriptors { wanted, limit, fits }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_many_fit() {
        assert_eq!(check(19_900, 20_000), Ok(19_900));
        let error = check(19_901, 20_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "19901 connections need 20001 file descriptors, but a process may have only 20000 here: 19900 fit \
             (raise the limit with `ulimit -n`, or ask for fewer)"
        );
        assert_eq!(check(1, 50).unwrap_err().fits, 0);
        assert!(check(1_000_000, u64::MAX).is_ok());
    }
}
