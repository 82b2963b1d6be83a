//! Settings of the upstream: the ACL service behind.

use std::time::Duration;

use podgate_engine::fault::shown;

/// Bounds of `upstream.timeout`.
pub const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));
/// Most grants of one call.
pub const BATCH_MAX: usize = 256;
/// Fewest and most grants that may wait: a batch of the replay counts as well.
pub const QUEUE_BOUNDS: (usize, usize) = (1_000, 1_000_000);
/// Most calls at once.
pub const CONCURRENCY_MAX: usize = 64;

/// The upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is: `http://host:port`.
    pub endpoint: String,
    /// Longest time of a call.
    pub timeout: Duration,
    /// Applies at once; one Revoke goes beside them.
    pub concurrency: usize,
    /// Most grants of a call.
    pub batch: usize,
    /// Most grants that wait.
    pub queue: usize,
}

/// Reads where it is; none where nothing is set.
pub(crate) fn parse_endpoint(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = || {
        format!(
            "{} is no endpoint; expected one such as `http://acl.infra.svc:7430` (no https yet)",
            shown(text)
        )
    };
    let uri: http::Uri = text.parse().map_err(|_| expected())?;
    let is_whole = uri.scheme_str() == Some("http")
        && uri.port_u16().is_some_and(|port| port > 0)
        && uri.host().is_some_and(|host| !host.is_empty())
        && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        && uri.path_and_query().is_none_or(|path| path == "/");
    if is_whole { Ok(Some(text.to_owned())) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_and_nothing_else() {
        assert_eq!(parse_endpoint(""), Ok(None));
        for good in ["http://acl:7430", "http://127.0.0.1:1/", "http://[::1]:7430"] {
            assert_eq!(parse_endpoint(good), Ok(Some(good.to_owned())));
        }
        for bad in [
            "acl:7430",
            "https://acl:7430",
            "http://acl",
            "http://acl:0",
            "http://:7430",
            "http://acl:7430/path",
            "http://acl:7430/?a",
            "http://user@acl:7430",
            "http://acl:74300",
            " ",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad:?} was read as an endpoint");
        }
    }
}
