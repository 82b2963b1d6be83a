//! The desk, by properties: what holds whatever callers, clocks and restarts do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    tests::{MS, ample, at_ms, limits, question, quota},
    *,
};

/// One step of a random life: of pods that book, come, do not come, come late or twice, or with a made-up ticket.
#[derive(Clone, Debug)]
enum Step {
    Pass {
        us: i64,
    },
    /// Even pods are of one app, odd ones of another.
    Ask {
        pod: u64,
        budget_ms: u64,
        within_ms: u64,
    },
    Come {
        pod: u64,
        off_ms: i64,
    },
    Arrive {
        late_us: i64,
    },
    Leave,
    Early,
    Restart {
        down_ms: i64,
        jump_ms: i64,
    },
    Sweep,
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
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..400)
}

/// Drives a desk as a gateway would, and keeps what it has told and admitted.
struct Life {
    desk: Desk,
    quota: Quota,
    capacity: Quota,
    apps: [Arc<str>; 2],
    now: Moment,
    told: BTreeMap<u64, Moment>,
    parked: Vec<(Moment, ParkId, usize)>,
    durable: [Moment; 2],
    /// With the app.
    admitted: Vec<(Moment, usize)>,
    restarts: usize,
}

impl Life {
    fn new(quota: Quota, capacity: Quota) -> Self {
        let now = at_ms(1_000);
        Self {
            desk: Desk::new(capacity, limits(), Past::None, now),
            quota,
            capacity,
            apps: [Arc::from("order"), Arc::from("stock")],
            now,
            told: BTreeMap::new(),
            parked: Vec::new(),
            durable: [now; 2],
            admitted: Vec::new(),
            restarts: 0,
        }
    }

    fn admissions_of(&self, app: usize) -> Vec<Moment> {
        self.admitted.iter().filter(|(_, of)| *of == app).map(|(at, _)| *at).collect()
    }

    fn ask(&mut self, pod: u64, ticket: Option<Moment>, budget_ms: u64, within_ms: u64) -> TicketUse {
        let of = (pod % 2) as usize;
        let app = Arc::clone(&self.apps[of]);
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
                self.admitted.push((self.now, of));
                self.told.remove(&pod);
            }
            Turn::Parked { slot, id, .. } => self.parked.push((slot, id, of)),
            Turn::Deferred { slot, reserve } => {
                if let Some(until) = reserve {
                    self.durable[of] = self.durable[of].max(until);
                    self.desk.reserved(&app, until);
                }
                assert!(slot <= self.durable[of], "a slot was told that is not durable");
                self.told.insert(pod, slot);
            }
            Turn::PushedBack(_) | Turn::TooLate => {}
        }
        used
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
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
                self.parked.sort_unstable_by_key(|(slot, ..)| *slot);
                if self.parked.is_empty() {
                    return;
                }
                let (slot, id, of) = self.parked.remove(0);
                self.now = self.now.max(slot.offset(late_us * 1_000));
                match self.desk.arrive(&self.apps[of], slot, id, self.now) {
                    Arrival::Admitted => self.admitted.push((self.now, of)),
                    Arrival::Wait(_) => self.parked.push((slot, id, of)),
                    Arrival::Superseded => {}
                }
            }
            Step::Leave => {
                if let Some((slot, id, of)) = self.parked.pop() {
                    self.desk.leave(&self.apps[of], slot, id);
                }
            }
            Step::Early => {
                let mut called = Vec::new();
                self.desk.call_early(self.now, &mut called);
                for id in called {
                    let place = self.parked.iter().position(|(_, other, _)| *other == id);
                    let (_, _, of) = self.parked.remove(place.expect("nobody is parked there"));
                    self.admitted.push((self.now, of));
                }
            }
            Step::Restart { down_ms, jump_ms } => {
                self.now = self.now.offset(down_ms * MS);
                // A clock that jumps moves what was kept against the new process's clock.
                let interval = self.quota.rate.interval();
                self.durable = self.durable.map(|frontier| frontier.offset(jump_ms * MS));
                let frontiers = self.apps.iter().zip(self.durable);
                let kept = frontiers.map(|(app, frontier)| Kept { app: Arc::clone(app), frontier, interval });
                self.desk = Desk::new(self.capacity, limits(), Past::Unknown(kept.collect()), self.now);
                self.parked.clear();
                self.restarts += 1;
            }
            Step::Sweep => self.desk.sweep(1, self.now),
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
        life.steps(&steps);
        let allowed = 0.2 * quota.rate.as_per_second() + 1.0 + 1e-6;
        for app in 0..2 {
            let excess = excess(&life.admissions_of(app), quota);
            prop_assert!(excess <= allowed, "{excess} over the bound, {allowed} allowed, {} restarts", life.restarts);
        }
    }

    /// The same for the capacity that all share.
    #[test]
    fn the_capacity_holds_in_every_window(capacity in quotas(), quota in quotas(), steps in steps()) {
        let mut life = Life::new(quota, capacity);
        life.steps(&steps);
        let allowed = 0.2 * capacity.rate.as_per_second() + 1.0 + 1e-6;
        let admitted: Vec<Moment> = life.admitted.iter().map(|(at, _)| *at).collect();
        let excess = excess(&admitted, capacity);
        prop_assert!(excess <= allowed, "{excess} over the bound, {allowed} allowed, {} restarts", life.restarts);
    }

    /// A lost store gives each bucket its burst again, and no more than that.
    #[test]
    fn a_lost_store_costs_one_burst(quota in quotas(), before in steps(), after in steps()) {
        let mut life = Life::new(quota, ample());
        life.steps(&before);
        // Another epoch: no ticket of the lost store is verified any more.
        life.desk = Desk::new(ample(), limits(), Past::None, life.now);
        life.durable = [life.now; 2];
        life.parked.clear();
        life.told.clear();
        life.steps(&after);
        let allowed = 0.2 * quota.rate.as_per_second() + 1.0 + f64::from(quota.burst.get()) + 1e-6;
        for app in 0..2 {
            let excess = excess(&life.admissions_of(app), quota);
            prop_assert!(excess <= allowed, "{excess} over the bound, {allowed} allowed");
        }
    }

    /// A profile that changes its rate changes it from then on, and tickets that were told keep their slots.
    #[test]
    fn another_quota_holds_from_then_on(first in quotas(), second in quotas(), before in steps(), after in steps()) {
        let mut life = Life::new(first, ample());
        life.steps(&before);
        life.quota = second;
        let from = life.admitted.len();
        let goes_on = |step: &&Step| !matches!(step, Step::Restart { .. });
        for step in after.iter().filter(goes_on) {
            life.step(step);
        }
        let allowed = 0.2 * second.rate.as_per_second() + 1.0 + 1e-6;
        for app in 0..2 {
            let since: Vec<Moment> =
                life.admitted[from..].iter().filter(|(_, of)| *of == app).map(|(at, _)| *at).collect();
            let excess = excess(&since, second);
            prop_assert!(excess <= allowed, "{excess} over the new bound, {allowed} allowed");
        }
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
            if let Some((slot, id, of)) = life.parked.pop() {
                life.desk.leave(&life.apps[of], slot, id);
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
