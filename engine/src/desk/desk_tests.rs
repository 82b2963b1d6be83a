//! The desk, by examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use super::*;
use crate::{book::Request, profile::Priority};

pub(super) const MS: i64 = 1_000_000;
const MINUTES: Duration = Duration::from_secs(600);

pub(super) fn at_ms(ms: i64) -> Moment {
    Moment::from_nanos(ms * MS)
}

pub(super) fn quota(rate: &str, burst: u32) -> Quota {
    Quota { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

pub(super) fn limits() -> DeskLimits {
    DeskLimits { parked_max: 1_000, bookings_max: 100_000 }
}

pub(super) fn ample() -> Quota {
    quota("100000/s", 100_000)
}

fn desk() -> Desk {
    Desk::new(ample(), limits(), Past::None, at_ms(0))
}

/// A pod of an app: what it asks the desk.
pub(super) fn question(app: &Arc<str>, pod: u64) -> Question<'_> {
    Question {
        app,
        quota: quota("10/s", 1),
        horizon: Duration::from_secs(120),
        priority: Priority::P2,
        holder: Holder::new(pod + 1),
        request: Request::new(pod << 32, 0),
        answer_within: Duration::from_secs(10),
        wait_budget: MINUTES,
        ticket: None,
    }
}

fn ask(desk: &mut Desk, question: &Question<'_>, ms: i64) -> Turn {
    desk.ask(question, at_ms(ms)).0
}

fn early(desk: &mut Desk, ms: i64) -> Vec<ParkId> {
    let mut called = Vec::new();
    while desk.call_early(at_ms(ms), &mut called) == Looked::AtSome {}
    called
}

fn parked(turn: Turn) -> (Moment, ParkId) {
    match turn {
        Turn::Parked { slot, id, .. } => (slot, id),
        other => panic!("{other:?} is not parked"),
    }
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
    let ids: Vec<ParkId> = (0..2).map(|_| parked(ask(&mut desk, &question(&app, 1), 10)).1).collect();
    assert!(
        matches!(ask(&mut desk, &question(&app, 1), 10), Turn::Parked { displaced: Some(id), .. } if id == ids[1])
    );
    let ids = [ids[0], parked(ask(&mut desk, &question(&app, 1), 10)).1];
    assert_eq!(desk.arrive(&app, at_ms(100), ids[0], at_ms(100)), Arrival::Superseded);
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(99)), Arrival::Wait(at_ms(100)));
    // However late it is woken: it has been here in time.
    assert!(matches!(ask(&mut desk, &question(&app, 2), 900), Turn::Parked { .. } | Turn::Admitted(_)));
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(900)), Arrival::Admitted);
    assert_eq!(desk.arrive(&app, at_ms(100), ids[1], at_ms(900)), Arrival::Superseded);
    assert_eq!(desk.no_shows(), 0);
}

#[test]
fn parked_calls_that_are_all_late_come_one_after_the_other_and_not_all_at_once() {
    let (app, mut desk) = (Arc::<str>::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    let parked_calls = (1..=20).map(|pod| parked(ask(&mut desk, &question(&app, pod), 0)));
    // The process was held up, and wakes all of them together.
    let mut waiting: BTreeSet<(Moment, Moment, ParkId)> =
        parked_calls.map(|(slot, id)| (at_ms(2_500), slot, id)).collect();
    let (mut admitted, mut calls) = (Vec::new(), 0);
    while let Some((now, slot, id)) = waiting.pop_first() {
        calls += 1;
        match desk.arrive(&app, slot, id, now) {
            Arrival::Admitted => admitted.push(slot),
            Arrival::Wait(until) => drop(waiting.insert((until, slot, id))),
            Arrival::Superseded => panic!("nobody took the place at {slot:?}"),
        }
    }
    assert!(admitted.is_sorted() && admitted.len() == 20);
    assert!(calls <= 120, "{calls} calls for 20 turns");
}

#[test]
fn a_call_that_cannot_be_answered_in_time_books_nothing() {
    let (app, mut desk) = (Arc::from("order"), desk());
    let hurried = Question { answer_within: REMAINING_MIN.mul_f64(0.999), ..question(&app, 0) };
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
    assert_eq!(turns[5], Turn::PushedBack(Limit::Bookings));
}

#[test]
fn one_pod_cannot_book_the_horizon_by_varying_its_question() {
    let (app, mut desk) = (Arc::from("order"), desk());
    ask(&mut desk, &question(&app, 0), 0);
    for request in 0..1_000 {
        let request = Request::new(7 << 32, request);
        let varied = Question { holder: Holder::new(77), request, ..question(&app, 0) };
        let slot = slot_of(ask(&mut desk, &varied, 0));
        assert!(slot <= at_ms(400), "{slot:?}");
    }
    assert_eq!(desk.usage().0, 4);
    // Nor by inventing pods; and it takes no slot that another pod behind its address was told.
    let invented =
        Question { holder: Holder::new(77), request: Request::new(8 << 32, 0), ..question(&app, 0) };
    assert_eq!(ask(&mut desk, &invented, 0), Turn::PushedBack(Limit::Holder));
    assert_eq!(slot_of(ask(&mut desk, &question(&app, 1), 0)), at_ms(500));
}

#[test]
fn what_a_no_show_leaves_goes_to_the_parked_first() {
    let (app, mut desk) = (Arc::<str>::from("order"), desk());
    let pod = |pod| Question { quota: quota("10/s", 3), ..question(&app, pod) };
    (0..3).for_each(|number| assert_eq!(ask(&mut desk, &pod(number), 0), Turn::Admitted(Way::WalkIn)));
    // The next is deferred, since its call is short, and never comes to its slot at 100 ms.
    let short = Question { answer_within: Duration::from_millis(50), ..pod(3) };
    assert!(matches!(ask(&mut desk, &short, 0), Turn::Deferred { slot, .. } if slot == at_ms(100)));
    let waiting: Vec<_> = (4..8).map(|number| parked(ask(&mut desk, &pod(number), 0))).collect();
    let arrive = |desk: &mut Desk, place: usize, ms| {
        let (slot, id) = waiting[place];
        assert_eq!(desk.arrive(&app, slot, id, at_ms(ms)), Arrival::Admitted);
    };
    arrive(&mut desk, 0, 200);
    // Until 300 ms it may still come.
    assert_eq!(early(&mut desk, 299), []);
    arrive(&mut desk, 1, 300);
    // A newcomer does not go before those who are parked.
    assert!(slot_of(ask(&mut desk, &pod(8), 301)) > waiting[3].0);
    assert_eq!(early(&mut desk, 301), [waiting[2].1]);
    assert_eq!(desk.no_shows(), 1);
    assert_eq!(early(&mut desk, 302), []);
    arrive(&mut desk, 3, 500);
    assert_eq!(desk.usage().0, 1);
}

#[test]
fn those_who_do_not_come_keep_nobody_out_for_long() {
    // 400 holders are due in any 200 ms, and none comes: more than the whole burst.
    let (app, mut desk) = (Arc::<str>::from("order"), desk());
    let fast = |pod| Question { quota: quota("2000/s", 200), ..question(&app, pod) };
    let mut admitted = 0;
    for pod in 0..10_000 {
        let hurried = Question { answer_within: Duration::from_millis(20), ..fast(pod) };
        admitted += usize::from(matches!(ask(&mut desk, &hurried, 0), Turn::Admitted(_)));
    }
    assert_eq!(admitted, 200);
    for ms in 1_000..3_000 {
        let turn = ask(&mut desk, &fast(100_000 + ms as u64), ms);
        admitted += usize::from(matches!(turn, Turn::Admitted(_)));
        admitted += early(&mut desk, ms).len();
    }
    // One a millisecond asks: all of them are admitted, at half the rate.
    assert!(admitted >= 200 + 1_900, "{admitted}");
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
    assert_eq!(ask(&mut desk, &question(&app, 2), 150), Turn::Admitted(Way::WalkIn));
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
    let (mut pod, mut admitted) = (0, 0);
    for ms in 0..10_000 {
        pod += 1;
        admitted += usize::from(matches!(ask(&mut desk, &wide(&storm, pod), ms), Turn::Admitted(_)));
        if ms % 100 == 50 {
            pod += 1;
            assert_eq!(ask(&mut desk, &wide(&calm, pod), ms), Turn::Admitted(Way::WalkIn), "at {ms} ms");
        }
    }
    assert!(admitted >= 80);
}

#[test]
fn steady_apps_are_served_at_once_when_many_apps_storm_together() {
    fn wide(app: &Arc<str>, pod: u64) -> Question<'_> {
        Question { quota: quota("100/s", 100), ..question(app, pod) }
    }

    let capacity = 100;
    let mut desk = Desk::new(quota("100/s", capacity), limits(), Past::None, at_ms(0));
    let steady: Vec<Arc<str>> = (0..20).map(|number| Arc::from(format!("steady-{number}"))).collect();
    let storm: Vec<Arc<str>> = (0..50).map(|number| Arc::from(format!("storm-{number}"))).collect();
    let (mut pod, mut waiting, mut admitted) = (0, BTreeMap::new(), 0);
    for ms in 0..15_000 {
        // Each of the steady apps asks once a second; from the fifth second on, 50 others ask 1,000 times a second.
        if ms % 50 == 7 {
            pod += 1;
            let app = &steady[(ms / 50 % 20) as usize];
            assert!(matches!(ask(&mut desk, &wide(app, pod), ms), Turn::Admitted(_)), "at {ms} ms");
            admitted += u32::from(ms >= 5_000);
        }
        if ms >= 5_000 {
            pod += 1;
            let app = &storm[(ms * 37 % 50) as usize];
            let patient = Question { wait_budget: Duration::from_secs(10), ..wide(app, pod) };
            match ask(&mut desk, &patient, ms) {
                Turn::Admitted(_) => admitted += 1,
                Turn::Parked { slot, id, .. } => drop(waiting.insert((slot, id), Arc::clone(app))),
                Turn::Deferred { slot, .. } => {
                    drop(waiting.insert((slot, ParkId(u64::MAX - pod)), Arc::clone(app)));
                }
                Turn::PushedBack(_) | Turn::TooLate => {}
            }
        }
        while let Some(((slot, id), app)) = waiting.pop_first() {
            if slot > at_ms(ms) {
                waiting.insert((slot, id), app);
                break;
            }
            let of = u64::MAX - id.0;
            if of < 1_000_000 {
                let back = Question { wait_budget: Duration::ZERO, ..wide(&app, of) };
                admitted += u32::from(matches!(ask(&mut desk, &back, ms), Turn::Admitted(_)));
            } else {
                admitted += u32::from(desk.arrive(&app, slot, id, at_ms(ms)) == Arrival::Admitted);
            }
        }
        if ms % 10 == 0 {
            for id in early(&mut desk, ms) {
                waiting.retain(|(_, other), _| *other != id);
                admitted += 1;
            }
        }
    }
    // And nothing of the capacity is lost: 100 a second for ten seconds, and the burst.
    assert!((950..=1_120).contains(&admitted), "{admitted}");
}
