//! The three ways of an incident, each as the storm that it is.

use std::net::SocketAddr;

use clap::Parser as _;

use crate::{
    cli::{Cli, Command, StormArgs, incident::IncidentArgs},
    incident::IncidentError,
};

/// Retries of a pod of the plain service, at once, until it gives up.
const ATTEMPTS_MAX: u32 = 10;
/// The backend's work for as long is admitted at once: enough that it is never idle, and little enough that nobody
/// waits there for long.
const BURST_PARTS: u32 = 10;

/// How pods ask, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The plain service, again at once after each timeout.
    Immediate,
    /// The plain service, with full jitter (base 1 s, cap 30 s: the fallback of our own client).
    Jitter,
    /// podgate, which books a turn.
    Podgate,
}

impl Way {
    /// What is said before it begins.
    pub(crate) const fn announcement(self) -> &'static str {
        match self {
            Self::Immediate => "A plain ACL service, immediate retries:",
            Self::Jitter => "A plain ACL service, full jitter:",
            Self::Podgate => "podgate:",
        }
    }

    /// The storm; `asked` is the plain service, or else the backend. All three have the same pods.
    pub(crate) fn storm(self, args: &IncidentArgs, asked: SocketAddr) -> Result<StormArgs, IncidentError> {
        let rate = rate_per_s(args);
        let burst = (rate / BURST_PARTS).max(1);
        let (spread_ms, timeout_ms) = (args.spread.as_millis(), args.call_timeout.as_millis());
        let budget_ms = args.budget.as_millis();
        let pods = format!(
            "podgate-loadtest storm --apps 1 --pods {} --spread {spread_ms}ms --seed {} --rate {rate}/s --burst {burst}",
            args.pods, args.seed
        );
        let plain = format!(
            "--endpoint http://{asked} --no-apply --call-timeout {timeout_ms}ms --budget {budget_ms}ms"
        );
        let line = match self {
            Self::Immediate => format!("{pods} {plain} --policy immediate --attempts {ATTEMPTS_MAX}"),
            Self::Jitter => format!("{pods} {plain} --policy jitter --base 1s --cap 30s --attempts 0"),
            Self::Podgate => format!("{pods} --policy booked --upstream http://{asked}"),
        };
        match Cli::try_parse_from(line.split_whitespace()) {
            Ok(Cli { command: Command::Storm(storm) }) => Ok(storm),
            Ok(other) => Err(IncidentError::Setup(format!("{other:?}"))),
            Err(error) => Err(IncidentError::Setup(error.to_string())),
        }
    }
}

/// What the backend can do, in whole grants a second.
pub(crate) fn rate_per_s(args: &IncidentArgs) -> u32 {
    // The time is 1 ms to 1 s.
    (1000 / args.backend_time.as_millis().max(1)) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn storm(way: Way, line: &str) -> StormArgs {
        let words = ["podgate-loadtest", "incident"].into_iter().chain(line.split_whitespace());
        let Command::Incident(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{line}") };
        way.storm(&args, SocketAddr::from(([127, 0, 0, 1], 4000))).unwrap()
    }

    #[test]
    fn each_way_is_a_storm_of_the_same_pods() {
        for way in [Way::Immediate, Way::Jitter, Way::Podgate] {
            let args = storm(way, "--pods 7 --spread 30ms --seed 9");
            assert_eq!((args.pods.get(), args.apps, args.seed), (7, 1, 9));
            assert_eq!(
                (args.spread, args.rate().to_string(), args.burst()),
                (Duration::from_millis(30), "200/s".to_owned(), 20)
            );
            let asked = args.endpoint.as_ref().or(args.upstream.as_ref()).unwrap().to_string();
            assert_eq!(asked, "http://127.0.0.1:4000");
            assert_eq!(args.endpoint.is_some(), way != Way::Podgate);
        }
    }

    #[test]
    fn the_rate_is_what_the_backend_can_do() {
        let rate = |line| {
            let args = storm(Way::Podgate, line);
            (args.rate().to_string(), args.burst())
        };
        assert_eq!(rate("--backend-time 1s"), ("1/s".to_owned(), 1));
        assert_eq!(rate("--backend-time 30ms"), ("33/s".to_owned(), 3));
        assert_eq!(rate("--backend-time 1ms"), ("1000/s".to_owned(), 100));
    }

    #[test]
    fn pods_of_the_plain_service_time_out() {
        let args = storm(Way::Immediate, "--call-timeout 300ms --budget 5s");
        assert_eq!((args.call_timeout, args.retry.attempts), (Duration::from_millis(300), 10));
        let args = storm(Way::Jitter, "--call-timeout 300ms --budget 5s");
        assert_eq!((args.budget(), args.retry.attempts), (Duration::from_secs(5), 0));
        assert_eq!(storm(Way::Podgate, "--call-timeout 300ms").call_timeout, Duration::from_secs(10));
    }
}
