//! Authorize and Explain: the way of a call through the gate.

use std::{net::IpAddr, sync::Arc, time::Duration};

use metrics::Counter;
use podgate_engine::{
    book::Request,
    decision::{Denial, Ruling},
    desk::{BucketState, Question, TicketUse, Turn, ticket_use},
    destination::Destination,
    digest::digest_of,
    grant::{self, Basis, Grant},
    lease::{NewGrant, Tenure, still_allowed},
    policy::{AppIndex, Standing},
    subject::Subject,
    time::Moment,
};
use tokio::sync::SemaphorePermit;
use tracing::debug;

use crate::{
    authn::{Caller, Role},
    clock,
    gate::{Gate, InForce, Refusal, booking, in_force::Settled, lanes::Lane},
    store::{Claim, StoreError, index::PlaceRef},
};

/// Most destinations of a grant that carries some of an earlier policy along.
const CARRIED_MAX: usize = podgate_engine::index::DOCUMENT_DESTINATIONS_MAX;

/// A request for access, as far as its fields have been read.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Name of the app.
    pub app: Box<str>,
    /// Who is to be let through. Its address is that of the caller.
    pub subject: Arc<Subject>,
    /// The addresses that the subject says it has; none: whichever it calls from.
    pub addresses: Vec<IpAddr>,
    /// What it wants to reach; none: all that the profile allows.
    pub destinations: Arc<[Destination]>,
    /// Whether it will renew its lease.
    pub tenure: Tenure,
}

/// How a caller can wait.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How long the call has waited already, at the door.
    pub waited: Duration,
    /// Time left until this call has to be answered.
    pub answer_within: Duration,
    /// How long it can wait in all.
    pub wait_budget: Duration,
    /// Whether it understands `deferred`.
    pub appointments: Appointments,
    /// The ticket that it bears; empty: none.
    pub ticket: Vec<u8>,
}

impl Patience {
    /// When the call has to be answered.
    pub(crate) fn deadline(&self, now: Moment) -> Moment {
        now.offset(i64::try_from(self.answer_within.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Whether a caller understands `deferred`, and comes back with its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appointments {
    /// It does.
    Kept,
    /// It does not: it is told by RetryInfo when to come.
    Unknown,
}

/// The answer to a request for access.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// The decision, destination by destination.
    pub settled: Arc<Settled>,
    /// What came of it.
    pub outcome: Outcome,
    /// Revision of the policy that decided.
    pub revision: u64,
}

/// What came of a request for access.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Common ports only; nothing was spent or recorded.
    Common,
    /// The living grant of an earlier call.
    Repeated(Arc<Grant>),
    /// A grant, recorded just now.
    Granted(Arc<Grant>),
    /// Denied.
    Denied(Denial),
    /// A slot is booked; the caller comes back when it is due.
    Deferred {
        /// Until the slot, from when the call was received.
        delay: Duration,
        /// Proof of the booking.
        ticket: Vec<u8>,
    },
}

/// A decision without effect.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The decision.
    pub settled: Arc<Settled>,
    /// Revision of the policy that decided.
    pub revision: u64,
    /// The app's bucket as it stands, for those who may see it.
    pub bucket: Option<BucketState>,
}

impl Gate {
    /// Decides about a request for access; has it wait for its turn, and admits and records it where it is allowed.
    pub async fn authorize(
        &self,
        caller: &Caller,
        asked: &Asked,
        patience: &Patience,
    ) -> Result<Authorized, Refusal> {
        prove_address(caller, asked)?;
        // What waits is on the heap: it is large, and most calls do not wait.
        match self.decide(asked)? {
            Decided::Answered(authorized) => {
                let authorized = match to_take_up(asked, &authorized) {
                    None => authorized,
                    Some(held) => Box::pin(self.take_up(asked, authorized, held)).await?,
                };
                let authorized = self.note(asked, authorized);
                match &self.upstream {
                    None => Ok(authorized),
                    Some(_) => {
                        let deadline = patience.deadline(clock::now());
                        Box::pin(self.in_force_behind(authorized, deadline)).await
                    }
                }
            }
            Decided::Allowed(allowed) => Box::pin(self.admit(asked, patience, allowed)).await,
        }
    }

    /// Has a request that is allowed wait for its turn, and records it.
    async fn admit(
        &self,
        asked: &Asked,
        patience: &Patience,
        allowed: Allowed,
    ) -> Result<Authorized, Refusal> {
        let now = clock::now();
        let deadline = patience.deadline(now);
        self.upstream_ready()?;
        self.store.ready(now)?;
        self.room_for(asked, &allowed)?;
        let (allowed, admitted_at, lane) = match self.take_turn(asked, patience, allowed, deadline).await? {
            Admission::Answered(authorized) => {
                return self.in_force_behind(self.note(asked, authorized), deadline).await;
            }
            Admission::Admitted(allowed, admitted_at, lane) => (allowed, admitted_at, lane),
        };
        let pending = self.store.grant(self.new_grant(asked, &allowed, admitted_at))?;
        let Allowed { settled, revision, .. } = allowed;
        let grant = pending.await.map_err(|_| StoreError::Closed)??;
        drop(lane);
        let authorized = Authorized { settled, outcome: Outcome::Granted(grant), revision };
        self.in_force_behind(self.note(asked, authorized), deadline).await
    }

    fn decide(&self, asked: &Asked) -> Result<Decided, Refusal> {
        let in_force = self.policies.in_force()?;
        let in_force = in_force.as_ref().ok_or(Refusal::NoPolicy)?;
        let policy = in_force.policy();
        let revision = policy.revision();
        let standing = policy.standing(&asked.app, &asked.subject);
        let settled = in_force.decide(standing, &asked.subject.cluster, Arc::clone(&asked.destinations));
        let answered = |settled, outcome| Ok(Decided::Answered(Authorized { settled, outcome, revision }));
        let (app, shadow) = match (settled.decision.ruling, standing) {
            (Ruling::Common, _) => return answered(settled, Outcome::Common),
            (Ruling::Denied(denial), _) => return answered(settled, Outcome::Denied(denial)),
            (Ruling::Allowed, Standing::Listed(app)) => (app, false),
            (Ruling::Shadowed, Standing::Listed(app)) => (app, true),
            (Ruling::Allowed | Ruling::Shadowed, Standing::NoProfile | Standing::NotListed(_)) => {
                return answered(settled, Outcome::Denied(Denial::SubjectNotListed));
            }
        };
        match self.held(asked, settled.request, policy.app_revision(app)) {
            Some(grant) => answered(settled, Outcome::Repeated(grant)),
            None => {
                let (in_force, seen) = (Arc::clone(in_force), self.seen(asked)?);
                Ok(Decided::Allowed(Allowed { in_force, settled, app, standing, revision, shadow, seen }))
            }
        }
    }

    /// The generation of the caller's seat, if the seat comes to it at all: told before a token is spent.
    fn seen(&self, asked: &Asked) -> Result<u64, Refusal> {
        let uid = asked.subject.kind.uid();
        let seat = self.shared_addresses.seat(asked.subject.place(), uid);
        let (grants, now) = (self.store.grants(), clock::wall());
        let seen = grants.look(&seat, |tenancy| {
            let generation = tenancy.generation();
            tenancy.admits(uid, generation, now).map(|()| generation)
        });
        Ok(seen.map_err(StoreError::Refused)?)
    }

    /// Refuses what would be one lease more than the app may have. The writer looks again; here it costs no token.
    fn room_for(&self, asked: &Asked, allowed: &Allowed) -> Result<(), Refusal> {
        let grants = self.store.grants();
        if grants.count_of(&asked.app) < allowed.in_force.leases_max(allowed.app) {
            return Ok(());
        }
        let here = grants.at(PlaceRef { cluster: &asked.subject.cluster, address: asked.subject.address });
        let replaces = here.is_some_and(|lot| lot.iter().any(|grant| *grant.app == *asked.app));
        if replaces { Ok(()) } else { Err(StoreError::LeasesFull.into()) }
    }

    /// Has a grant that its pod renews from now on live by that: its init container asked first, and does not renew.
    async fn take_up(
        &self,
        asked: &Asked,
        authorized: Authorized,
        held: Arc<Grant>,
    ) -> Result<Authorized, Refusal> {
        let uid = asked.subject.kind.uid().to_owned();
        let claim = Claim { id: held.id, uid, generation: 0, from: None };
        let outcome = Outcome::Repeated(self.extend(claim, &held).await?);
        Ok(Authorized { outcome, ..authorized })
    }

    /// Books the caller's turn, and waits for it where it is near. What was decided before a wait is decided again after.
    async fn take_turn(
        &self,
        asked: &Asked,
        patience: &Patience,
        allowed: Allowed,
        deadline: Moment,
    ) -> Result<Admission<'_>, Refusal> {
        let Allowed { in_force, settled, app, revision, .. } = &allowed;
        let profile = &in_force.policy().profile(*app).document;
        let (name, request) = (profile.name.shared(), settled.request);
        let bearer = booking::bearer(&asked.subject);
        let horizon = in_force.horizon(*app);
        let ticket = self.booking.verify(&patience.ticket, &name, &bearer, request);
        let is_expected = ticket.is_some_and(|slot| {
            matches!(ticket_use(slot, horizon, clock::now()), TicketUse::OnTime | TicketUse::Early)
        });
        let lane = if is_expected { Lane::Holder } else { Lane::Newcomer };
        let lane = self.lanes.enter(lane).await?;
        let seen = allowed.seen;
        let quota = in_force.quota(*app);
        let taken = self.booking.ask(|now| Question {
            app: &name,
            quota,
            horizon,
            priority: profile.priority,
            holder: self.booking.holder(asked.subject.address),
            request: Request::new(digest_of(&&*bearer), request),
            answer_within: deadline.since(now),
            wait_budget: patience.wait_budget,
            ticket,
        });
        match taken.turn {
            Turn::Admitted(_) => Ok(Admission::Admitted(allowed, taken.at, lane)),
            Turn::PushedBack(by) => Err(Refusal::PushedBack { by, horizon }),
            Turn::TooLate => Err(Refusal::DeadlineTooShort),
            Turn::Parked { slot, id, .. } => {
                drop(lane);
                let admitted_at = self.booking.wait(&name, slot, id, taken, horizon).await?;
                match self.decide(asked)? {
                    Decided::Answered(authorized) => Ok(Admission::Answered(authorized)),
                    Decided::Allowed(allowed) => {
                        let lane = self.lanes.enter(Lane::Holder).await?;
                        // What happened on the address meanwhile concerns this call, which was heard before.
                        Ok(Admission::Admitted(Allowed { seen, ..allowed }, admitted_at, lane))
                    }
                }
            }
            Turn::Deferred { slot, reserve } => {
                if let Some(until) = reserve {
                    let frontier_ns = self.booking.to_kept(until);
                    let pending = self.store.reserve(&name, frontier_ns, quota.rate.interval())?;
                    pending.await.map_err(|_| StoreError::Closed)??;
                    self.booking.reserved(&name, until);
                }
                // The caller counts from when it sent its call, which then waited at the door.
                let delay = slot.since(taken.at).saturating_add(patience.waited);
                match patience.appointments {
                    Appointments::Unknown => Err(Refusal::Booked { delay }),
                    Appointments::Kept => {
                        let ticket = self.booking.ticket(&name, &bearer, request, slot);
                        let (settled, outcome) = (Arc::clone(settled), Outcome::Deferred { delay, ticket });
                        Ok(Admission::Answered(Authorized { settled, outcome, revision: *revision }))
                    }
                }
            }
        }
    }

    fn new_grant(&self, asked: &Asked, allowed: &Allowed, admitted_at: Moment) -> NewGrant {
        let Allowed { in_force, settled, app, standing, shadow, seen, .. } = allowed;
        let policy = in_force.policy();
        let revision = policy.app_revision(*app);
        NewGrant {
            app: policy.profile(*app).document.name.shared(),
            subject: Arc::clone(&asked.subject),
            allowed: self.with_carried(in_force, asked, *standing, &settled.allowed, revision),
            request: settled.request,
            admitted_at,
            tenure: asked.tenure,
            lifetimes: in_force.lifetimes(*app),
            revision,
            shadow: *shadow,
            fallback: in_force.fallback(*app),
            seen: *seen,
            app_max: in_force.leases_max(*app),
        }
    }

    /// The living grant that answers this very request, if there is one.
    fn held(&self, asked: &Asked, request: u64, revision: u64) -> Option<Arc<Grant>> {
        let place = PlaceRef { cluster: &asked.subject.cluster, address: asked.subject.address };
        let grants = self.store.grants().at(place)?;
        let (uid, now) = (asked.subject.kind.uid(), clock::wall());
        grants.iter().find(|grant| grant.answers(&asked.app, uid, request, revision, now)).cloned()
    }

    /// What a new grant allows, and what the same pod was granted under an earlier policy as far as this policy still
    /// allows it: a pod that asks for more must not lose what it has.
    fn with_carried(
        &self,
        in_force: &InForce,
        asked: &Asked,
        standing: Standing,
        allowed: &Arc<[grant::Allowed]>,
        revision: u64,
    ) -> Arc<[grant::Allowed]> {
        let place = PlaceRef { cluster: &asked.subject.cluster, address: asked.subject.address };
        let (uid, now) = (asked.subject.kind.uid(), clock::wall());
        let grants = self.store.grants().at(place);
        let earlier = grants.iter().flat_map(|grants| grants.iter()).find(|grant| {
            grant.revision != revision
                && *grant.app == *asked.app
                && grant.subject.kind.uid() == uid
                && grant.lives(now)
        });
        let Some(earlier) = earlier else {
            return Arc::clone(allowed);
        };
        let still = still_allowed(earlier, standing, in_force.policy());
        let kept = still.iter().filter(|kept| kept.basis != Basis::Shadow && !allowed.contains(kept));
        allowed.iter().chain(kept).take(CARRIED_MAX).cloned().collect()
    }

    fn note(&self, asked: &Asked, authorized: Authorized) -> Authorized {
        let (outcome, counter) = match &authorized.outcome {
            Outcome::Common => ("common", &self.outcomes.common),
            Outcome::Repeated(_) => ("repeated", &self.outcomes.repeated),
            Outcome::Granted(_) => ("granted", &self.outcomes.granted),
            Outcome::Denied(_) => ("denied", &self.outcomes.denied),
            Outcome::Deferred { .. } => ("deferred", &self.outcomes.deferred),
        };
        counter.increment(1);
        debug!(
            app = %asked.app,
            address = %asked.subject.address,
            uid = asked.subject.kind.uid(),
            destinations = authorized.settled.decision.destinations.len(),
            outcome,
            ruling = ?authorized.settled.decision.ruling,
            "decided"
        );
        authorized
    }

    /// The same decision without any effect.
    pub fn explain(&self, caller: &Caller, asked: &Asked) -> Result<Explained, Refusal> {
        let in_force = self.policies.in_force()?;
        let in_force = in_force.as_ref().ok_or(Refusal::NoPolicy)?;
        let policy = in_force.policy();
        let standing = policy.standing(&asked.app, &asked.subject);
        let settled = in_force.decide(standing, &asked.subject.cluster, Arc::clone(&asked.destinations));
        let state = |app: AppIndex| {
            let name = policy.profile(app).document.name.as_str();
            self.booking.state(name, in_force.quota(app), in_force.horizon(app))
        };
        let bucket = match caller.role {
            Role::Operator => standing.app().map(state),
            Role::Pod => None,
        };
        Ok(Explained { settled, revision: policy.revision(), bucket })
    }
}

/// How many calls came to which outcome. The handles are kept: looking one up costs more than counting.
#[derive(Debug)]
pub(crate) struct Outcomes {
    common: Counter,
    repeated: Counter,
    granted: Counter,
    denied: Counter,
    deferred: Counter,
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        let counter = |outcome| metrics::counter!("podgate_decisions_total", "outcome" => outcome);
        Self {
            common: counter("common"),
            repeated: counter("repeated"),
            granted: counter("granted"),
            denied: counter("denied"),
            deferred: counter("deferred"),
        }
    }
}

/// What a decision comes to.
enum Decided {
    /// It is answered from memory.
    Answered(Authorized),
    /// It is allowed, for a token.
    Allowed(Allowed),
}

/// A request that is allowed, and by what.
struct Allowed {
    in_force: Arc<InForce>,
    settled: Arc<Settled>,
    app: AppIndex,
    standing: Standing,
    revision: u64,
    shadow: bool,
    /// Generation of the seat when the call was heard.
    seen: u64,
}

/// What came of a turn.
enum Admission<'a> {
    Answered(Authorized),
    /// With its place in the lane, to be kept until it is recorded.
    Admitted(Allowed, Moment, SemaphorePermit<'a>),
}

/// The living grant that answers the request, where its pod renews from now on and has not so far.
fn to_take_up(asked: &Asked, authorized: &Authorized) -> Option<Arc<Grant>> {
    match (&authorized.outcome, asked.tenure) {
        (Outcome::Repeated(held), Tenure::Renewed) if held.tenure == Tenure::Fixed => Some(Arc::clone(held)),
        (
            Outcome::Repeated(_)
            | Outcome::Common
            | Outcome::Granted(_)
            | Outcome::Denied(_)
            | Outcome::Deferred { .. },
            _,
        ) => None,
    }
}

fn prove_address(caller: &Caller, asked: &Asked) -> Result<(), Refusal> {
    if asked.addresses.is_empty() || asked.addresses.contains(&caller.address) {
        return Ok(());
    }
    Err(Refusal::AddressNotProven(caller.address))
}
