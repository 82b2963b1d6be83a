//! Authorize and Explain: the way of a call through the gate.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use metrics::Counter;
use podgate_engine::{
    admission::Passage,
    bucket::Bucket,
    decision::{Denial, Ruling},
    destination::Destination,
    grant::{Allowed, Basis, Grant, allowed_by},
    lease::NewGrant,
    policy::{AppIndex, Standing},
    subject::Subject,
};
use tracing::debug;

use crate::{
    authn::{Caller, Role},
    clock,
    gate::{Gate, InForce, Refusal, in_force::Settled},
    store::{Pending, StoreError, index::PlaceRef},
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
    /// How long the caller waits for its answer, if it says.
    pub timeout: Option<Duration>,
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
}

/// A decision without effect.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The decision.
    pub settled: Arc<Settled>,
    /// Revision of the policy that decided.
    pub revision: u64,
    /// The app's bucket as it stands, for those who may see it.
    pub bucket: Option<Bucket>,
}

impl Gate {
    /// Decides about a request for access; admits and records it where it is allowed.
    pub async fn authorize(&self, caller: &Caller, asked: &Asked) -> Result<Authorized, Refusal> {
        prove_address(caller, asked)?;
        let began = self.began();
        let begun = {
            let in_force = self.policies.in_force()?;
            let in_force = in_force.as_ref().ok_or(Refusal::NoPolicy)?;
            match self.decide_and_admit(in_force, asked)? {
                Admitted::Answered(authorized) => Begun::Answered(authorized),
                Admitted::Recording { settled, revision, new } => {
                    Begun::Recording { settled, revision, pending: self.store.grant(*new)? }
                }
            }
        };
        let authorized = match begun {
            Begun::Answered(authorized) => authorized,
            Begun::Recording { settled, revision, pending } => {
                let grant = pending.await.map_err(|_| StoreError::Closed)??;
                Authorized { settled, outcome: Outcome::Granted(grant), revision }
            }
        };
        self.in_force_behind(asked, self.note(asked, authorized), began).await
    }

    fn decide_and_admit(&self, in_force: &InForce, asked: &Asked) -> Result<Admitted, Refusal> {
        let policy = in_force.policy();
        let revision = policy.revision();
        let standing = policy.standing(&asked.app, &asked.subject);
        let settled = in_force.decide(standing, &asked.subject.cluster, Arc::clone(&asked.destinations));
        let answered = |settled, outcome| Ok(Admitted::Answered(Authorized { settled, outcome, revision }));
        let (app, shadow) = match (settled.decision.ruling, standing) {
            (Ruling::Common, _) => return answered(settled, Outcome::Common),
            (Ruling::Denied(denial), _) => return answered(settled, Outcome::Denied(denial)),
            (Ruling::Allowed, Standing::Listed(app)) => (app, false),
            (Ruling::Shadowed, Standing::Listed(app)) => (app, true),
            (Ruling::Allowed | Ruling::Shadowed, Standing::NoProfile | Standing::NotListed(_)) => {
                return answered(settled, Outcome::Denied(Denial::SubjectNotListed));
            }
        };
        let app_revision = policy.app_revision(app);
        if let Some(grant) = self.held(asked, settled.request, app_revision) {
            return answered(settled, Outcome::Repeated(grant));
        }
        self.upstream_ready()?;
        let (passage, admitted_at) = self.pass(in_force.bucket(app));
        match passage {
            Passage::Refused { by, wait } => Err(Refusal::Rate { by, wait }),
            Passage::Admitted => {
                let new = NewGrant {
                    app: policy.profile(app).document.name.shared(),
                    subject: Arc::clone(&asked.subject),
                    allowed: self.with_carried(in_force, asked, standing, &settled.allowed, app_revision),
                    request: settled.request,
                    admitted_at,
                    max_age: in_force.max_age(app),
                    revision: app_revision,
                    shadow,
                };
                Ok(Admitted::Recording { settled, revision, new: Box::new(new) })
            }
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
        allowed: &Arc<[Allowed]>,
        revision: u64,
    ) -> Arc<[Allowed]> {
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
        let wanted = earlier.allowed.iter().map(|allowed| allowed.destination.clone()).collect();
        let again = in_force.policy().decide(standing, &asked.subject.cluster, wanted);
        let kept = allowed_by(&again);
        let kept = kept.iter().filter(|kept| kept.basis != Basis::Shadow && !allowed.contains(kept));
        allowed.iter().chain(kept).take(CARRIED_MAX).cloned().collect()
    }

    fn note(&self, asked: &Asked, authorized: Authorized) -> Authorized {
        let (outcome, counter) = match &authorized.outcome {
            Outcome::Common => ("common", &self.outcomes.common),
            Outcome::Repeated(_) => ("repeated", &self.outcomes.repeated),
            Outcome::Granted(_) => ("granted", &self.outcomes.granted),
            Outcome::Denied(_) => ("denied", &self.outcomes.denied),
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
        let copy =
            |app: AppIndex| in_force.bucket(app).lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bucket = match caller.role {
            Role::Operator => standing.app().map(copy),
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
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        let counter = |outcome| metrics::counter!("podgate_decisions_total", "outcome" => outcome);
        Self {
            common: counter("common"),
            repeated: counter("repeated"),
            granted: counter("granted"),
            denied: counter("denied"),
        }
    }
}

enum Admitted {
    Answered(Authorized),
    Recording { settled: Arc<Settled>, revision: u64, new: Box<NewGrant> },
}

enum Begun {
    Answered(Authorized),
    Recording { settled: Arc<Settled>, revision: u64, pending: Pending<Arc<Grant>> },
}

fn prove_address(caller: &Caller, asked: &Asked) -> Result<(), Refusal> {
    if asked.addresses.is_empty() || asked.addresses.contains(&caller.address) {
        return Ok(());
    }
    Err(Refusal::AddressNotProven(caller.address))
}
