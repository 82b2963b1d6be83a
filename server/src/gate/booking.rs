//! Booking: the engine's desk behind a lock, the calls that are parked at it, and the tickets that it gives.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::Ipv6Net;
use metrics::Counter;
use podgate_engine::{
    book::{Holder, ParkId},
    desk::{Arrival, BucketState, Desk, Limit, Looked, PARK_MAX, Past, Question, TicketUse, Turn},
    digest::digest_of,
    quota::Quota,
    subject::{Subject, SubjectKind},
    ticket::{Claims, Keys, Worthless},
    time::Moment,
};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::{clock, config::Config, gate::Refusal, limits::addresses::AddressKey, store::desk::KeptDesk};

/// Books that one sweep looks at, so that nobody waits for all of them.
const SWEEP_MAX: usize = 2_000;

/// Books turns.
#[derive(Debug)]
pub struct Booking {
    room: Mutex<Room>,
    /// Calls that are parked, for those who only want to know how many.
    parked: AtomicUsize,
    keys: ArcSwap<Keys>,
    epoch: u64,
    /// From the boot clock to the one that outlives restarts, in which tickets and frontiers are written.
    to_kept_ns: i64,
    pod_cidrs: Box<[Ipv6Net]>,
    turns: Turns,
}

#[derive(Debug)]
struct Room {
    desk: Desk,
    waiters: FxHashMap<ParkId, oneshot::Sender<Moment>>,
}

/// A turn, as of an instant.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) turn: Turn,
    pub(crate) at: Moment,
    /// Where a parked caller hears that it may go early.
    called: Option<oneshot::Receiver<Moment>>,
}

/// A caller that is parked; leaves its place when it is dropped.
struct Place<'a> {
    booking: &'a Booking,
    app: &'a Arc<str>,
    slot: Moment,
    id: ParkId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut room = self.booking.room();
        room.waiters.remove(&self.id);
        room.desk.leave(self.app, self.slot, self.id);
        self.booking.note_parked(&room);
    }
}

impl Booking {
    /// A desk over a capacity, which goes on where the process before this one ended.
    pub fn new(config: &Config, kept: &KeptDesk) -> Self {
        let (capacity, limits) = (config.capacity, config.desk);
        let past = if kept.is_new { Past::None } else { Past::Unknown(kept.frontiers.clone()) };
        let desk = Desk::new(capacity, limits, past, clock::now());
        Self {
            room: Mutex::new(Room { desk, waiters: FxHashMap::default() }),
            parked: AtomicUsize::new(0),
            keys: ArcSwap::from_pointee(kept.keys.clone()),
            epoch: kept.epoch,
            to_kept_ns: kept.clock_offset_ns,
            pod_cidrs: config.per_ip.pod_cidrs.clone().into(),
            turns: Turns::new(),
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the desk. The clock is read inside, so that instants rise in the order of the answers.
    pub(crate) fn ask<'a>(&self, question: impl FnOnce(Moment) -> Question<'a>) -> Taken {
        let mut room = self.room();
        let at = clock::now();
        let (turn, used) = room.desk.ask(&question(at), at);
        let called = match turn {
            Turn::Parked { id, displaced, .. } => {
                // The earlier call hears at once that it waits in vain.
                displaced.and_then(|earlier| room.waiters.remove(&earlier));
                let (caller, called) = oneshot::channel();
                room.waiters.insert(id, caller);
                self.note_parked(&room);
                Some(called)
            }
            Turn::Admitted(_) | Turn::Deferred { .. } | Turn::PushedBack(_) | Turn::TooLate => None,
        };
        drop(room);
        self.turns.count(turn);
        count_use(used);
        Taken { turn, at, called }
    }

    /// Waits at a slot; returns when the caller was admitted. Who stops waiting leaves the place.
    pub(crate) async fn wait(
        &self,
        app: &Arc<str>,
        slot: Moment,
        id: ParkId,
        taken: Taken,
        horizon: Duration,
    ) -> Result<Moment, Refusal> {
        let _place = Place { booking: self, app, slot, id };
        let mut called = taken.called.ok_or(Refusal::Superseded)?;
        let mut ready_at = slot;
        loop {
            tokio::select! {
                biased;
                early = &mut called => return early.map_err(|_| Refusal::Superseded),
                () = tokio::time::sleep(ready_at.since(clock::now())) => {}
            }
            let mut room = self.room();
            let now = clock::now();
            match room.desk.arrive(app, slot, id, now) {
                Arrival::Admitted => return Ok(now),
                // The rate was lowered after the slot was promised, by so much that no call can be held open for it.
                Arrival::Wait(until) if until.since(slot) > PARK_MAX => {
                    return Err(Refusal::PushedBack { by: Limit::App, horizon });
                }
                Arrival::Wait(until) => ready_at = until,
                Arrival::Superseded => {
                    drop(room);
                    return called.try_recv().map_err(|_| Refusal::Superseded);
                }
            }
        }
    }

    /// Calls parked callers whose turn has come early, because others did not come. The lock is held for a bounded number
    /// of apps at a time.
    pub fn call_early(&self) {
        let mut called = Vec::new();
        while self.parked.load(Ordering::Relaxed) > 0 {
            let mut room = self.room();
            let now = clock::now();
            let looked = room.desk.call_early(now, &mut called);
            for id in called.drain(..) {
                // One that leaves in this instant has spent its token.
                let _ = room.waiters.remove(&id).map(|caller| caller.send(now));
            }
            self.note_parked(&room);
            match looked {
                Looked::AtAll => break,
                Looked::AtSome => {}
            }
        }
    }

    /// The slot that a ticket proves, if it is worth something to the bearer of these claims.
    pub(crate) fn verify(&self, ticket: &[u8], app: &str, uid: &str, request: u64) -> Option<Moment> {
        if ticket.is_empty() {
            return None;
        }
        let own = self.claims(app, uid, request, Moment::from_nanos(0));
        match self.keys.load().open(ticket).and_then(|claims| claims.verify(&own)) {
            Ok(slot_ns) => Some(Moment::from_nanos(slot_ns).offset(-self.to_kept_ns)),
            Err(why) => {
                count_ticket(match why {
                    Worthless::Malformed => "malformed",
                    Worthless::UnknownKey => "unknown_key",
                    Worthless::BadMac => "bad_mac",
                    Worthless::Epoch => "epoch",
                    Worthless::ForeignApp => "foreign_app",
                    Worthless::ForeignUid => "foreign_uid",
                    Worthless::ForeignRequest => "foreign_request",
                });
                None
            }
        }
    }

    /// A ticket for a slot.
    pub(crate) fn ticket(&self, app: &str, uid: &str, request: u64, slot: Moment) -> Vec<u8> {
        self.keys.load().seal(&self.claims(app, uid, request, slot)).to_vec()
    }

    fn claims(&self, app: &str, uid: &str, request: u64, slot: Moment) -> Claims {
        let slot_ns = self.to_kept(slot);
        Claims { epoch: self.epoch, slot_ns, app: digest_of(&app), uid: digest_of(&uid), request }
    }

    /// An instant as it is written into tickets and frontiers.
    pub(crate) fn to_kept(&self, at: Moment) -> i64 {
        at.offset(self.to_kept_ns).as_nanos()
    }

    /// Slots of the app may be told up to here.
    pub(crate) fn reserved(&self, app: &str, until: Moment) {
        self.room().desk.reserved(app, until);
    }

    /// New keys seal and read tickets from now on.
    pub(crate) fn set_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    /// The keys.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Whether somebody at this address was told a slot that is due about now.
    pub fn is_due(&self, address: IpAddr) -> bool {
        let holder = self.holder(address);
        self.room().desk.is_due(holder, clock::now())
    }

    /// For whom a slot is kept. Nobody proves a uid yet, so it is the address that the call comes from, as the limit on
    /// calls counts it: who invents uids, or moves about in its IPv6 range, has no more than who does not.
    pub(crate) fn holder(&self, address: IpAddr) -> Holder {
        match AddressKey::new(address, &self.pod_cidrs).v4_or_v6() {
            Ok(v4) => Holder::new(u64::from(v4)),
            Err(v6) => Holder::new(digest_of(&v6)),
        }
    }

    /// An app's bucket as it stands.
    pub fn state(&self, app: &str, quota: Quota, horizon: Duration) -> BucketState {
        self.room().desk.state(app, quota, horizon, clock::now())
    }

    /// Closes what is over.
    pub fn sweep(&self) {
        self.room().desk.sweep(SWEEP_MAX, clock::now());
    }

    /// Calls that are parked.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Open bookings, bookings whose holders did not come so far, and bytes that bookings take.
    pub fn usage(&self) -> (usize, u64, usize) {
        let room = self.room();
        (room.desk.usage().0, room.desk.no_shows(), room.desk.booking_bytes())
    }

    fn note_parked(&self, room: &Room) {
        self.parked.store(room.desk.usage().1, Ordering::Relaxed);
    }
}

/// Whom a ticket names: a pod by its uid, and a machine, which has none, by its address. No uid has a space in it.
pub(crate) fn bearer(subject: &Subject) -> Cow<'_, str> {
    match &subject.kind {
        SubjectKind::Pod(pod) => Cow::Borrowed(&pod.uid),
        SubjectKind::Host(_) => Cow::Owned(format!("host {}", subject.address)),
    }
}

fn count_use(used: TicketUse) {
    match used {
        TicketUse::None => {}
        TicketUse::OnTime => count_ticket("on_time"),
        TicketUse::Early => count_ticket("early"),
        TicketUse::Late => count_ticket("late"),
        TicketUse::Spent => count_ticket("spent"),
        TicketUse::Future => count_ticket("future"),
    }
}

fn count_ticket(result: &'static str) {
    metrics::counter!("podgate_tickets_total", "result" => result).increment(1);
}

/// How many calls came to which turn. The handles are kept: looking one up costs more than counting.
#[derive(Debug)]
struct Turns {
    now: Counter,
    parked: Counter,
    deferred: Counter,
    pushed_back: Counter,
    dropped: Counter,
}

impl Turns {
    fn new() -> Self {
        let counter = |turn| metrics::counter!("podgate_turns_total", "turn" => turn);
        Self {
            now: counter("now"),
            parked: counter("parked"),
            deferred: counter("deferred"),
            pushed_back: counter("pushed_back"),
            dropped: counter("dropped"),
        }
    }

    fn count(&self, turn: Turn) {
        match turn {
            Turn::Admitted(_) => &self.now,
            Turn::Parked { .. } => &self.parked,
            Turn::Deferred { .. } => &self.deferred,
            Turn::PushedBack(_) => &self.pushed_back,
            Turn::TooLate => &self.dropped,
        }
        .increment(1);
    }
}
