//! Chance: how long messages travel, which of them vanish, and what befalls whom. All of it from the seed, in whole
//! numbers or exact fractions, so that it is the same on every machine.

use std::time::Duration;

use crate::{seed::SplitMix64, simulate::scenario::Mishaps};

/// Time within which pods that go away do so, and within which a crash strikes those that ask: as long as a call may be
/// parked, so that it meets calls that are.
const SOON: Duration = Duration::from_secs(2);
/// The most by which slow clients exceed their waits.
const TARDINESS_MAX: Duration = Duration::from_millis(150);

/// Purposes of streams, apart from those of the population.
const NETWORK: u64 = 101;
const FATES: u64 = 102;
const OUTAGES: u64 = 103;
const PUSHBACKS: u64 = 104;

/// The network, and the tardiness of slow clients.
#[derive(Debug)]
pub(crate) struct Network {
    random: SplitMix64,
    latency: Duration,
    loss: f64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It arrives, and so does its answer.
    Both,
    /// It arrives, and its answer vanishes.
    CallOnly,
    /// It vanishes.
    Neither,
}

impl Network {
    pub(crate) fn new(seed: u64, latency: Duration, loss: f64) -> Self {
        Self { random: SplitMix64::new(seed, NETWORK), latency, loss }
    }

    /// Time of one message on its way: half the latency, and the other half drawn from about an exponential
    /// distribution. That is −log₂ of an even draw, with straight lines between the powers of two; its mean is 3/2.
    pub(crate) fn way(&mut self) -> Duration {
        let half_ns = u64::try_from(self.latency.as_nanos() / 2).unwrap_or(u64::MAX);
        let bits = self.random.next_u64();
        let fraction = 1 + (bits & 0xFFFF_FFFF);
        let drawn = (u64::from((bits >> 32 | 1 << 32).trailing_zeros()) << 32) + fraction;
        let chance_ns = (u128::from(half_ns) * u128::from(drawn) * 2 / 3) >> 32;
        Duration::from_nanos(half_ns.saturating_add(chance_ns as u64))
    }

    /// What becomes of the next call.
    pub(crate) fn delivery(&mut self) -> Delivery {
        match (happens(&mut self.random, self.loss), self.random.below(2)) {
            (false, _) => Delivery::Both,
            (true, 0) => Delivery::CallOnly,
            (true, _) => Delivery::Neither,
        }
    }

    /// By how much a pod exceeds a wait.
    pub(crate) fn tardiness(&mut self, pace: Pace) -> Duration {
        match pace {
            Pace::Prompt => Duration::ZERO,
            Pace::Slow => below(&mut self.random, TARDINESS_MAX),
        }
    }
}

/// Whether a pod comes back when it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It does.
    Prompt,
    /// It takes longer.
    Slow,
}

/// What befalls a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// When it goes away, after its arrival; none where it stays.
    pub(crate) vanishes_after: Option<Duration>,
    /// When its init container dies.
    pub(crate) crash: Option<Crash>,
    /// Whether it comes back when it should.
    pub(crate) pace: Pace,
}

/// The end of an init container that is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    /// When.
    pub(crate) at: CrashAt,
    /// What the next one finds.
    pub(crate) ticket_file: TicketFile,
}

/// When an init container dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashAt {
    /// So long after its start: while it asks, if it does so for that long.
    Asking(Duration),
    /// So many thousandths into its first wait.
    Waiting(u32),
}

/// Whether the ticket outlives the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketFile {
    /// In a file.
    Kept,
    /// Not at all.
    Lost,
}

/// The fates of all pods, in the order of the pods.
#[derive(Debug)]
pub(crate) struct Fates {
    random: SplitMix64,
    mishaps: Mishaps,
}

impl Fates {
    pub(crate) fn new(seed: u64, mishaps: Mishaps) -> Self {
        Self { random: SplitMix64::new(seed, FATES), mishaps }
    }

    pub(crate) fn draw(&mut self) -> Fate {
        let Self { random, mishaps } = self;
        let vanishes_after = happens(random, mishaps.no_shows).then(|| below(random, SOON));
        let crash = happens(random, mishaps.crashes).then(|| Crash {
            at: match random.below(2) {
                0 => CrashAt::Asking(below(random, SOON)),
                _ => CrashAt::Waiting(random.below(1_000) as u32),
            },
            ticket_file: match random.below(2) {
                0 => TicketFile::Kept,
                _ => TicketFile::Lost,
            },
        });
        let pace = if happens(random, mishaps.slow) { Pace::Slow } else { Pace::Prompt };
        Fate { vanishes_after, crash, pace }
    }
}

/// When the gateway dies, after the start: once in each of `count` equal parts of `within`.
pub(crate) fn outages(seed: u64, count: u32, within: Duration) -> Vec<Duration> {
    let mut random = SplitMix64::new(seed, OUTAGES);
    let part = within / count.max(1);
    (0..count).map(|index| part * index + below(&mut random, part)).collect()
}

/// Delays that the gateway orders: from half the horizon to all of it, so that those who were refused together do not
/// come back together.
#[derive(Debug)]
pub(crate) struct Pushbacks(SplitMix64);

impl Pushbacks {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed, PUSHBACKS))
    }

    pub(crate) fn draw(&mut self, horizon: Duration) -> Duration {
        horizon / 2 + below(&mut self.0, horizon / 2)
    }
}

/// Whether something happens that does so with this probability. 53 bits fit an f64 exactly.
fn happens(random: &mut SplitMix64, share: f64) -> bool {
    const WHOLE: f64 = (1_u64 << 53) as f64;
    ((random.next_u64() >> 11) as f64) < share * WHOLE
}

/// A duration from nothing to below `bound`; nothing where that is nothing.
fn below(random: &mut SplitMix64, bound: Duration) -> Duration {
    let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.below(bound_ns.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_the_latency_on_average_and_half_of_it_at_least() {
        let latency = Duration::from_millis(10);
        let mut network = Network::new(3, latency, 0.0);
        let ways: Vec<Duration> = (0..20_000).map(|_| network.way()).collect();
        let mean = ways.iter().sum::<Duration>() / 20_000;
        assert!(mean.abs_diff(latency) < Duration::from_micros(150), "{mean:?}");
        assert!(ways.iter().all(|way| *way >= latency / 2));
        // Of an exponential distribution with half the latency as its mean, 1.8 % lie beyond four times that.
        let long = ways.iter().filter(|way| **way > latency / 2 * 5).count();
        assert!((200..600).contains(&long), "{long}");
        assert!(Network::new(3, Duration::ZERO, 0.0).way().is_zero());
    }

    #[test]
    fn as_many_calls_vanish_as_were_asked_for_half_of_them_on_the_way_back() {
        let mut network = Network::new(3, Duration::ZERO, 0.1);
        let drawn: Vec<Delivery> = (0..10_000).map(|_| network.delivery()).collect();
        let count = |wanted| drawn.iter().filter(|delivery| **delivery == wanted).count();
        assert!((430..570).contains(&count(Delivery::CallOnly)), "{}", count(Delivery::CallOnly));
        assert!((430..570).contains(&count(Delivery::Neither)), "{}", count(Delivery::Neither));
        let mut sure = Network::new(3, Duration::ZERO, 1.0);
        assert!((0..1_000).all(|_| sure.delivery() != Delivery::Both));
    }

    #[test]
    fn fates_are_drawn_by_their_shares() {
        let mishaps = Mishaps { loss: 0.0, no_shows: 0.2, crashes: 0.5, slow: 1.0 };
        let mut fates = Fates::new(9, mishaps);
        let drawn: Vec<Fate> = (0..2_000).map(|_| fates.draw()).collect();
        let vanish = drawn.iter().filter(|fate| fate.vanishes_after.is_some()).count();
        let kept = drawn.iter().filter_map(|fate| fate.crash);
        let kept = kept.filter(|crash| crash.ticket_file == TicketFile::Kept).count();
        assert!((330..470).contains(&vanish) && (430..570).contains(&kept), "{vanish} {kept}");
        assert!(drawn.iter().all(|fate| fate.pace == Pace::Slow));
    }

    #[test]
    fn outages_lie_in_equal_parts() {
        let outages = outages(5, 4, Duration::from_secs(40));
        for (index, at) in outages.iter().enumerate() {
            let begin = Duration::from_secs(10) * index as u32;
            assert!((begin..begin + Duration::from_secs(10)).contains(at), "{outages:?}");
        }
    }

    #[test]
    fn pushbacks_spread_over_half_the_horizon() {
        let mut pushbacks = Pushbacks::new(1);
        let horizon = Duration::from_secs(120);
        let drawn: Vec<Duration> = (0..1_000).map(|_| pushbacks.draw(horizon)).collect();
        assert!(drawn.iter().all(|delay| (horizon / 2..horizon).contains(delay)));
        let (first, last) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(last.saturating_sub(*first) > Duration::from_secs(58));
    }
}
