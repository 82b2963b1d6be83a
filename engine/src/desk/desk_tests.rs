//! The desk, by examples and by properties.

use std::{collections::BTreeMap, num::NonZeroU32};

use proptest::prelude::*;

use super::*;
use crate::profile::Priority;

const MS: i64 = 1_000_000;
const MINUTES: Duration = Duration::from_secs(600);

fn at_ms(ms: i64) -> Moment {
    Moment::from_nanos(ms * MS)
}

fn quota(rate: &str, burst: u32) -> Quota {
    Quota { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

fn limits() -> DeskLimits {
    DeskLimits { parked_max: 1_000, bookings_max: 100_000 }
}

fn ample() -> Quota {
    quota("100000/s", 100_000)
}

fn desk() -> Desk {
    Desk::new(ample(), limits(), Past::None, at_ms(0))
}

/// A pod of an app: what it asks the desk.
fn question(app: &Arc<str>, pod: u64) -> Question<'_> {
    Question {
        app,
        quota: quota("10/s", 1),
        horizon: Duration::from_secs(120),
        priority: Priority::P2,
        holder: Holder::new(pod + 1),
        request: pod,
        answer_within: Duration::from_secs(10),
        wait_budget: MINUTES,
        ticket: None,
    }
}

fn ask(desk: &mut Desk, question: &Question<'_>, ms: i64) -> Turn {
    desk.ask(question, at_ms(ms)).0
}

fn slot_of(turn: Turn) -> Moment {
    match turn {
        Turn::Parked { slot, .. } | Turn::Deferred { slot, .. } => slot,
        other => panic!("{other:?} has no slot"),
    }
}

#[test]
fn turns_are_taken_in_order_now_then_parked_then_deferred() {
    let (app, mut desk) = (Arc::from("order"), desk());
    assert_eq!(ask(&mut desk, &question(&app, 0), 0), Turn::Admitted(Way::WalkIn));
    for pod in 1..=20 {
        assert!(
            matches!(ask(&mut desk, &question(&app, pod), 0), Turn::Parked { slot, .. } if slot == at_ms(100 * pod as i64))
        );
    }
    let deferred = ask(&mut desk, &question(&app, 21), 0);
    assert_eq!(deferred, Turn::Deferred { slot: at_ms(2_100), reserve: Some(at_ms(3_100)) });
    desk.reserved("order", at_ms(3_100));
    let deferred = ask(&mut desk, &question(&app, 22), 0);
    assert_eq!(deferred, Turn::Deferred { slot: at_ms(2_200), reserve: None });
    assert_eq!(desk.usage(), (22, 20, 1));
}

#[test]
fn asking_again_returns_the_same_slot_and_costs_nothing() {
    let (app, mut desk) = (Arc::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    let first = slot_of(ask(&mut desk, &question(&app, 1), 0));
    for ms in [1, 20, 99] {
        assert_eq!(slot_of(ask(&mut desk, &question(&app, 1), ms)), first);
    }
    assert_eq!(desk.usage(), (1, 1, 1));
    assert_eq!(ask(&mut desk, &question(&app, 1), 100), Turn::Admitted(Way::OnTime));
    assert_eq!(desk.usage(), (0, 0, 1));
}

#[test]
fn a_parked_call_is_admitted_at_its_slot_and_only_the_last_one_of_a_caller() {
    let (app, mut desk) = (Arc::<str>::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    let ids: Vec<ParkId> = (0..2)
        .map(|_| match ask(&mut desk, &question(&app, 1), 10) {
            Turn::Parked { id, .. } => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(desk.arrive(&app, at_ms(100), ids[0], at_ms(100)), Arrival::Superseded);
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(99)), Arrival::Wait(at_ms(100)));
    // However late it is woken: it has been here in time.
    assert!(matches!(ask(&mut desk, &question(&app, 2), 900), Turn::Parked { .. } | Turn::Admitted(_)));
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(900)), Arrival::Admitted);
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(900)), Arrival::Superseded);
    assert_eq!(desk.no_shows(), 0);
}

#[test]
fn a_call_that_cannot_be_answered_in_time_books_nothing() {
    let (app, mut desk) = (Arc::from("order"), desk());
    let hurried = Question { answer_within: Duration::from_micros(1_999), ..question(&app, 0) };
    assert_eq!(ask(&mut desk, &hurried, 0), Turn::TooLate);
    assert_eq!(ask(&mut desk, &question(&app, 1), 0), Turn::Admitted(Way::WalkIn));
    // Parking needs 100 ms to spare; without them, a ticket.
    let short = Question { answer_within: Duration::from_millis(199), ..question(&app, 2) };
    assert!(matches!(ask(&mut desk, &short, 0), Turn::Deferred { slot, .. } if slot == at_ms(100)));
}

#[test]
fn nothing_is_booked_beyond_the_horizon_or_the_budget() {
    let (app, mut desk) = (Arc::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    let brief = |pod| Question { wait_budget: Duration::from_millis(199), ..question(&app, pod) };
    assert_eq!(ask(&mut desk, &brief(1), 0), Turn::PushedBack(Limit::App));
    let near = |pod| Question { horizon: Duration::from_secs(5), ..question(&app, pod) };
    for pod in 1..=50 {
        slot_of(ask(&mut desk, &near(pod), 0));
    }
    assert_eq!(ask(&mut desk, &near(51), 0), Turn::PushedBack(Limit::App));
    assert_eq!(desk.usage().0, 50);
}

#[test]
fn open_bookings_and_parked_calls_are_bounded() {
    let app = Arc::from("order");
    let limits = DeskLimits { parked_max: 3, bookings_max: 5 };
    let mut desk = Desk::new(ample(), limits, Past::None, at_ms(0));
    ask(&mut desk, &question(&app, 0), 0);
    let turns: Vec<Turn> = (1..=6).map(|pod| ask(&mut desk, &question(&app, pod), 0)).collect();
    assert!(turns[..3].iter().all(|turn| matches!(turn, Turn::Parked { .. })));
    assert!(turns[3..5].iter().all(|turn| matches!(turn, Turn::Deferred { .. })));
    assert_eq!(turns[5], Turn::PushedBack(Limit::App));
}

#[test]
fn one_pod_cannot_book_the_horizon_by_varying_its_question() {
    let (app, mut desk) = (Arc::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    for request in 0..1_000 {
        let varied = Question { holder: Holder::new(77), request, ..question(&app, 0) };
        let slot = slot_of(ask(&mut desk, &varied, 0));
        assert!(slot <= at_ms(400), "{slot:?}");
    }
    assert_eq!(desk.usage().0, 4);
    assert_eq!(slot_of(ask(&mut desk, &question(&app, 1), 0)), at_ms(500));
}

#[test]
fn what_a_no_show_leaves_goes_to_the_parked_first() {
    let (app, mut desk) = (Arc::<str>::from("order"), desk());
    for pod in 0..4 {
        ask(&mut desk, &question(&app, pod), 0);
    }
    // Pod 1 leaves, and its slot at 100 ms passes. Its holder could be 200 ms late: only then is its place free.
    let Turn::Parked { slot, id } = ask(&mut desk, &question(&app, 1), 1) else { panic!() };
    desk.leave(&app, slot, id);
    assert_eq!(desk.call_early(at_ms(199)), None);
    let Turn::Parked { slot, id } = ask(&mut desk, &question(&app, 2), 199) else { panic!() };
    assert_eq!(desk.arrive(&app, slot, id, at_ms(200)), Arrival::Admitted);
    assert_eq!(desk.call_early(at_ms(299)), None);
    assert!(matches!(ask(&mut desk, &question(&app, 4), 299), Turn::Parked { .. }));
    let Turn::Parked { slot, id } = ask(&mut desk, &question(&app, 3), 299) else { panic!() };
    assert_eq!(desk.arrive(&app, slot, id, at_ms(300)), Arrival::Admitted);
    assert_eq!(desk.call_early(at_ms(301)), None);
    let Turn::Parked { id, .. } = ask(&mut desk, &question(&app, 4), 302) else { panic!() };
    assert_eq!(desk.no_shows(), 1);
    assert_eq!(desk.call_early(at_ms(399)), None);
    let Turn::Parked { .. } = ask(&mut desk, &question(&app, 5), 399) else { panic!() };
    assert!(desk.usage().1 >= 2 && id != ParkId(0));
}

#[test]
fn a_slot_is_redeemed_once() {
    let (app, mut desk) = (Arc::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    let slot = slot_of(ask(&mut desk, &question(&app, 1), 0));
    let with_ticket = |pod, slot| Question { ticket: Some(slot), ..question(&app, pod) };
    assert_eq!(desk.ask(&with_ticket(1, slot), at_ms(100)), (Turn::Admitted(Way::OnTime), TicketUse::OnTime));
    let (turn, used) = desk.ask(&with_ticket(1, slot), at_ms(101));
    assert_eq!(used, TicketUse::Spent);
    assert!(slot_of(turn) > slot);
    // Verified, and yet never booked: of no process that this desk knows.
    assert_eq!(desk.ask(&with_ticket(2, at_ms(150)), at_ms(140)).1, TicketUse::Spent);
    assert_eq!(desk.ask(&with_ticket(3, at_ms(-101)), at_ms(100)).1, TicketUse::Late);
    assert_eq!(desk.ask(&with_ticket(4, at_ms(200_000)), at_ms(1_000)).1, TicketUse::Future);
}

#[test]
fn after_a_restart_tickets_hold_and_nobody_else_is_booked_before_them() {
    let app: Arc<str> = Arc::from("order");
    let kept = Kept { app: Arc::clone(&app), frontier: at_ms(5_000), interval: Duration::from_millis(100) };
    let mut desk = Desk::new(ample(), limits(), Past::Unknown(vec![kept]), at_ms(1_000));
    assert_eq!(slot_of(ask(&mut desk, &question(&app, 9), 1_000)), at_ms(5_100));
    let with_ticket = |pod, slot| Question { ticket: Some(slot), ..question(&app, pod) };
    assert_eq!(desk.ask(&with_ticket(1, at_ms(1_100)), at_ms(1_100)).0, Turn::Admitted(Way::OnTime));
    assert_eq!(desk.ask(&with_ticket(2, at_ms(1_100)), at_ms(1_110)).1, TicketUse::Spent);
    let (turn, used) = desk.ask(&with_ticket(3, at_ms(4_000)), at_ms(1_150));
    assert_eq!((turn, used), (Turn::Deferred { slot: at_ms(4_000), reserve: None }, TicketUse::Early));
    assert_eq!(desk.ask(&with_ticket(3, at_ms(5_001)), at_ms(1_150)).1, TicketUse::Spent);
}

#[test]
fn a_frontier_out_of_all_bounds_is_brought_back_to_the_horizon() {
    let app: Arc<str> = Arc::from("order");
    let frontier = at_ms(1_000_000_000);
    let kept = Kept { app: Arc::clone(&app), frontier, interval: Duration::from_millis(100) };
    let mut desk = Desk::new(ample(), limits(), Past::Unknown(vec![kept]), at_ms(0));
    assert_eq!(ask(&mut desk, &question(&app, 1), 99), Turn::PushedBack(Limit::App));
    let patient = Question { horizon: Duration::from_secs(121), ..question(&app, 1) };
    assert_eq!(slot_of(ask(&mut desk, &patient, 99)), at_ms(120_100));
    // Nobody has come for a whole interval.
    assert_eq!(ask(&mut desk, &question(&app, 2), 100), Turn::Admitted(Way::WalkIn));
}

#[test]
fn both_or_neither_is_booked() {
    let app: Arc<str> = Arc::from("order");
    let capacity = quota("10/s", 1);
    let mut desk = Desk::new(capacity, limits(), Past::None, at_ms(0));
    let wide = |pod| Question {
        quota: quota("1000/s", 1_000),
        horizon: Duration::from_secs(2),
        ..question(&app, pod)
    };
    assert_eq!(ask(&mut desk, &wide(0), 0), Turn::Admitted(Way::WalkIn));
    let booked = (1..100).filter(|pod| matches!(ask(&mut desk, &wide(*pod), 0), Turn::Parked { .. })).count();
    assert!((15..=20).contains(&booked), "{booked}");
    let state = desk.state("order", quota("1000/s", 1_000), Duration::from_secs(2), at_ms(0));
    assert!(matches!(ask(&mut desk, &wide(200), 0), Turn::PushedBack(Limit::Capacity)));
    assert_eq!(desk.state("order", quota("1000/s", 1_000), Duration::from_secs(2), at_ms(0)), state);
}

#[test]
fn an_app_that_asks_little_is_served_at_once_while_another_storms() {
    let (storm, calm): (Arc<str>, Arc<str>) = (Arc::from("storm"), Arc::from("calm"));
    let mut desk = Desk::new(quota("100/s", 100), limits(), Past::None, at_ms(0));
    let wide = |app, pod| Question { quota: quota("1000/s", 1_000), ..question(app, pod) };
    let mut pod = 0;
    let mut admitted = 0;
    for ms in 0..10_000 {
        pod += 1;
        admitted += usize::from(matches!(ask(&mut desk, &wide(&storm, pod), ms), Turn::Admitted(_)));
        if ms % 100 == 50 {
            pod += 1;
            assert_eq!(ask(&mut desk, &wide(&calm, pod), ms), Turn::Admitted(Way::WalkIn), "at {ms} ms");
        }
    }
    assert!(admitted >= 90);
}

/// One step of a random life: of pods that book, come, do not come, come late or twice, or with a made-up ticket.
#[derive(Clone, Debug)]
enum Step {
    Pass { us: i64 },
    Ask { pod: u64, budget_ms: u64, within_ms: u64 },
    Come { pod: u64, off_ms: i64 },
    Arrive { late_us: i64 },
    Leave,
    Early,
    Restart { down_ms: i64, jump_ms: i64 },
    Quota,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0i64..60_000).prop_map(|us| Step::Pass { us }),
        1 => (0i64..3_000_000).prop_map(|us| Step::Pass { us }),
        8 => (0u64..400, 0u64..20_000, 0u64..6_000)
            .prop_map(|(pod, budget_ms, within_ms)| Step::Ask { pod, budget_ms, within_ms }),
        6 => (0u64..400, -300i64..400).prop_map(|(pod, off_ms)| Step::Come { pod, off_ms }),
        6 => (0i64..300_000).prop_map(|late_us| Step::Arrive { late_us }),
        1 => Just(Step::Leave),
        3 => Just(Step::Early),
        1 => (0i64..2_000, -500i64..3_000).prop_map(|(down_ms, jump_ms)| Step::Restart { down_ms, jump_ms }),
        1 => Just(Step::Quota),
    ];
    prop::collection::vec(step, 1..400)
}

/// Drives a desk as a gateway would, and keeps what it has told and admitted.
struct Life {
    desk: Desk,
    quota: Quota,
    app: Arc<str>,
    now: Moment,
    told: BTreeMap<u64, Moment>,
    parked: Vec<(Moment, ParkId)>,
    durable: Moment,
    admitted: Vec<Moment>,
    restarts: usize,
}

impl Life {
    fn new(quota: Quota, capacity: Quota) -> Self {
        let now = at_ms(1_000);
        Self {
            desk: Desk::new(capacity, limits(), Past::None, now),
            quota,
            app: Arc::from("order"),
            now,
            told: BTreeMap::new(),
            parked: Vec::new(),
            durable: now,
            admitted: Vec::new(),
            restarts: 0,
        }
    }

    fn ask(&mut self, pod: u64, ticket: Option<Moment>, budget_ms: u64, within_ms: u64) -> TicketUse {
        let app = Arc::clone(&self.app);
        let question = Question {
            quota: self.quota,
            ticket,
            answer_within: Duration::from_millis(within_ms),
            wait_budget: Duration::from_millis(budget_ms),
            ..question(&app, pod)
        };
        let (turn, used) = self.desk.ask(&question, self.now);
        match turn {
            Turn::Admitted(_) => {
                self.admitted.push(self.now);
                self.told.remove(&pod);
            }
            Turn::Parked { slot, id } => self.parked.push((slot, id)),
            Turn::Deferred { slot, reserve } => {
                if let Some(until) = reserve {
                    self.durable = self.durable.max(until);
                    self.desk.reserved("order", until);
                }
                assert!(slot <= self.durable, "a slot was told that is not durable");
                self.told.insert(pod, slot);
            }
            Turn::PushedBack(_) | Turn::TooLate => {}
        }
        used
    }

    fn step(&mut self, step: &Step, capacity: Quota) {
        match *step {
            Step::Pass { us } => self.now = self.now.offset(us * 1_000),
            Step::Ask { pod, budget_ms, within_ms } => {
                self.ask(pod, None, budget_ms, within_ms);
            }
            Step::Come { pod, off_ms } => {
                let Some(slot) = self.told.get(&pod).copied() else { return };
                self.now = self.now.max(slot.offset(off_ms * MS));
                self.ask(pod, Some(slot), 10_000, 5_000);
            }
            Step::Arrive { late_us } => {
                self.parked.sort_unstable_by_key(|(slot, _)| *slot);
                if self.parked.is_empty() {
                    return;
                }
                let (slot, id) = self.parked.remove(0);
                self.now = self.now.max(slot.offset(late_us * 1_000));
                match self.desk.arrive(&self.app, slot, id, self.now) {
                    Arrival::Admitted => self.admitted.push(self.now),
                    Arrival::Wait(_) => self.parked.push((slot, id)),
                    Arrival::Superseded => {}
                }
            }
            Step::Leave => {
                if let Some((slot, id)) = self.parked.pop() {
                    self.desk.leave(&self.app, slot, id);
                }
            }
            Step::Early => {
                if let Some(id) = self.desk.call_early(self.now) {
                    assert!(self.parked.iter().any(|(_, other)| *other == id), "nobody is parked there");
                    self.parked.retain(|(_, other)| *other != id);
                    self.admitted.push(self.now);
                }
            }
            Step::Restart { down_ms, jump_ms } => {
                self.now = self.now.offset(down_ms * MS);
                // A clock that jumps moves what was kept against the new process's clock.
                let interval = self.quota.rate.interval();
                let frontier = self.durable.offset(jump_ms * MS);
                let kept = Kept { app: Arc::clone(&self.app), frontier, interval };
                self.desk = Desk::new(capacity, limits(), Past::Unknown(vec![kept]), self.now);
                self.durable = frontier;
                self.parked.clear();
                self.restarts += 1;
            }
            Step::Quota => self.desk.sweep(self.now),
        }
    }
}

/// The most by which the admissions in any window Δ pass B + R·Δ.
fn excess(admitted: &[Moment], quota: Quota) -> f64 {
    let mut sorted = admitted.to_vec();
    sorted.sort_unstable();
    let (mut level, mut most, mut before) = (0.0_f64, 0.0_f64, None);
    for at in sorted {
        let gone = before.map_or(0.0, |before| at.since(before).as_secs_f64() * quota.rate.as_per_second());
        level = (level - gone).max(0.0) + 1.0;
        most = most.max(level);
        before = Some(at);
    }
    most - f64::from(quota.burst.get())
}

fn quotas() -> impl Strategy<Value = Quota> {
    (1u32..400, 1u32..60).prop_map(|(rate, burst)| quota(&format!("{rate}/s"), burst))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// B + R·Δ + 0.2·R + 1, in every window, whatever callers, clocks and restarts do.
    #[test]
    fn the_bound_holds_in_every_window(quota in quotas(), steps in steps()) {
        let mut life = Life::new(quota, ample());
        for step in &steps {
            life.step(step, ample());
        }
        let allowed = 0.2 * quota.rate.as_per_second() + 1.0 + 1e-6;
        let excess = excess(&life.admitted, quota);
        prop_assert!(excess <= allowed, "{excess} over the bound, {allowed} allowed, {} restarts", life.restarts);
    }

    /// The same for the capacity that all share.
    #[test]
    fn the_capacity_holds_in_every_window(capacity in quotas(), steps in steps()) {
        let mut life = Life::new(quota("1000/s", 1_000), capacity);
        for step in &steps {
            life.step(step, capacity);
        }
        let allowed = 0.2 * capacity.rate.as_per_second() + 1.0 + 1e-6;
        let excess = excess(&life.admitted, capacity);
        prop_assert!(excess <= allowed, "{excess} over the bound, {allowed} allowed, {} restarts", life.restarts);
    }

    /// Whoever comes back with its ticket on time is admitted, or parked until its slot: never refused.
    #[test]
    fn on_time_tickets_are_never_refused(
        quota in quotas(),
        pods in prop::collection::vec((0i64..3_000, 0u32..10, -100i64..=200), 1..300),
    ) {
        let mut life = Life::new(quota, ample());
        let mut visits: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (pod, (arrival_ms, ..)) in pods.iter().enumerate() {
            visits.entry(1_000 + arrival_ms).or_default().push(pod as u64);
        }
        let (mut admitted, mut expected) = (0, 0);
        let mut due: Vec<(Moment, u64, Option<Moment>)> =
            visits.iter().flat_map(|(ms, pods)| pods.iter().map(|pod| (at_ms(*ms), *pod, None))).collect();
        due.reverse();
        while let Some((at, pod, ticket)) = {
            due.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
            due.pop()
        } {
            life.now = at;
            let before = life.admitted.len();
            life.parked.clear();
            let used = life.ask(pod, ticket, 1_000_000, 150);
            if let Some(slot) = ticket {
                prop_assert!(matches!(used, TicketUse::OnTime | TicketUse::Early), "{used:?} at {at:?} for {slot:?}");
            }
            if life.admitted.len() > before {
                admitted += 1;
                continue;
            }
            if let Some((slot, id)) = life.parked.pop() {
                life.desk.leave(&life.app, slot, id);
                due.push((slot, pod, Some(slot)));
                continue;
            }
            let Some(slot) = life.told.get(&pod).copied() else { continue };
            prop_assert!(ticket.is_none_or(|ticket| slot == ticket && at < slot), "an on-time ticket was sent away");
            let (_, no_show, off_ms) = pods[pod as usize];
            if no_show > 0 {
                expected += u32::from(ticket.is_none());
                // Who came early, and had no time to be parked, comes again at its slot.
                let back = if ticket.is_some() { slot } else { slot.offset(off_ms * MS).max(at) };
                due.push((back, pod, Some(slot)));
            }
        }
        prop_assert!(admitted >= expected, "{admitted} of {expected}");
    }
}
