//! How grants lie on an address: who takes it over, what adds up, what goes.

use std::{sync::Arc, time::Duration};

use crate::{
    grant::{Allowed, Grant, GrantId},
    subject::Subject,
    time::{Moment, WallTime},
};

/// Most requests that one grant answers; one more replaces all that was asked before.
pub const REQUESTS_MAX: usize = 8;

/// A grant that is to be made.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// Name of the app.
    pub app: Arc<str>,
    /// Who will hold it.
    pub subject: Arc<Subject>,
    /// What it will allow.
    pub allowed: Arc<[Allowed]>,
    /// Digest of the request.
    pub request: u64,
    /// Instant of admission, on the boot clock.
    pub admitted_at: Moment,
    /// How long it will live.
    pub max_age: Duration,
    /// Revision of the app's policy that decided.
    pub revision: u64,
    /// Whether something is let through by shadow mode alone.
    pub shadow: bool,
}

/// What a new grant does to its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The grant as it stands now: new, or an earlier one that has grown.
    pub grant: Arc<Grant>,
    /// Grants that it ends: expired ones, and those of another uid, whose pod had the address before. An address
    /// that is reused never inherits.
    pub ended: Vec<Arc<Grant>>,
}

/// Places a new grant on its address, where the `living` ones lie; `next` is the id that it gets if it is a new one.
///
/// A further request of the same pod for the same app adds to the grant that it has. Under another policy revision it
/// replaces what was allowed: what the new policy still allows of it, the caller has decided again and put into `new`.
pub fn place(living: &[Arc<Grant>], new: NewGrant, next: GrantId, now: WallTime) -> Placement {
    let uid = new.subject.kind.uid();
    let (mine, ended): (Vec<_>, Vec<_>) =
        living.iter().cloned().partition(|grant| grant.subject.kind.uid() == uid && grant.lives(now));
    let expires_at = now.plus(new.max_age);
    let grant = match mine.iter().find(|grant| grant.app == new.app) {
        Some(held) => grown(held, new, expires_at),
        None => Grant {
            id: next,
            generation: 1,
            app: new.app,
            subject: new.subject,
            allowed: new.allowed,
            requests: Box::new([new.request]),
            admitted_at: new.admitted_at,
            created_at: now,
            expires_at,
            revision: new.revision,
            shadow: new.shadow,
        },
    };
    Placement { grant: Arc::new(grant), ended }
}

fn grown(held: &Grant, new: NewGrant, expires_at: WallTime) -> Grant {
    let repeated = held.requests.contains(&new.request);
    let has_room = repeated || held.requests.len() < REQUESTS_MAX;
    let keeps = held.revision == new.revision && has_room;
    let (allowed, requests) = match (keeps, repeated) {
        (true, true) => (Arc::clone(&held.allowed), held.requests.clone()),
        (true, false) => {
            let added = new.allowed.iter().filter(|allowed| !held.allowed.contains(allowed));
            let requests = held.requests.iter().copied().chain([new.request]).collect();
            (held.allowed.iter().chain(added).cloned().collect(), requests)
        }
        (false, _) => (new.allowed, Box::from([new.request])),
    };
    Grant {
        id: held.id,
        generation: held.generation + 1,
        app: new.app,
        subject: new.subject,
        allowed,
        requests,
        admitted_at: new.admitted_at,
        created_at: held.created_at,
        expires_at: expires_at.max(held.expires_at),
        revision: new.revision,
        shadow: new.shadow || (keeps && held.shadow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        destination::Destination,
        grant::Basis,
        port::Protocol,
        subject::{PodIdentity, SubjectKind},
    };

    const NOW: WallTime = WallTime::from_millis(1_000_000);

    fn new_grant(app: &str, uid: &str, host: &str, revision: u64) -> NewGrant {
        NewGrant {
            app: app.into(),
            subject: Arc::new(Subject {
                cluster: "".into(),
                address: [10, 8, 3, 17].into(),
                kind: SubjectKind::Pod(PodIdentity {
                    namespace: "hotel".into(),
                    name: "order".into(),
                    uid: uid.into(),
                    service_account: "order".into(),
                    node: "".into(),
                }),
            }),
            allowed: Arc::new([allowed(host)]),
            request: u64::from(host.as_bytes()[0]),
            admitted_at: Moment::from_nanos(7),
            max_age: Duration::from_secs(60),
            revision,
            shadow: false,
        }
    }

    fn allowed(host: &str) -> Allowed {
        Allowed {
            destination: Destination {
                host: host.parse().unwrap(),
                ports: "3306".parse().unwrap(),
                protocol: Protocol::Tcp,
            },
            basis: Basis::Shadow,
        }
    }

    #[test]
    fn a_reused_address_never_inherits() {
        let first = place(&[], new_grant("order", "old", "db", 1), GrantId(1), NOW);
        let second =
            place(std::slice::from_ref(&first.grant), new_grant("order", "new", "cache", 1), GrantId(2), NOW);
        assert_eq!(second.ended, [first.grant]);
        assert_eq!(*second.grant.allowed, [allowed("cache")]);
        assert_eq!(second.grant.id, GrantId(2));
    }

    #[test]
    fn a_second_request_of_the_same_pod_adds_up() {
        let first = place(&[], new_grant("order", "uid", "db", 1), GrantId(1), NOW);
        let second = place(&[first.grant], new_grant("order", "uid", "cache", 1), GrantId(2), NOW);
        assert!(second.ended.is_empty());
        assert_eq!(*second.grant.allowed, [allowed("db"), allowed("cache")]);
        assert_eq!((second.grant.id, second.grant.generation), (GrantId(1), 2));
        assert!(second.grant.answers("order", "uid", u64::from(b'd'), 1, NOW));
        assert!(!second.grant.answers("order", "uid", u64::from(b'd'), 2, NOW));
        assert!(!second.grant.answers("order", "uid", u64::from(b'd'), 1, NOW.plus(Duration::from_secs(60))));
    }

    #[test]
    fn another_policy_replaces_what_the_old_one_allowed() {
        let first = place(&[], new_grant("order", "uid", "db", 1), GrantId(1), NOW);
        let second = place(&[first.grant], new_grant("order", "uid", "cache", 2), GrantId(2), NOW);
        assert_eq!(*second.grant.allowed, [allowed("cache")]);
    }

    #[test]
    fn requests_of_one_grant_are_bounded() {
        let mut held = place(&[], new_grant("order", "uid", "a", 1), GrantId(1), NOW).grant;
        for letter in 'b'..='z' {
            held = place(&[held], new_grant("order", "uid", &letter.to_string(), 1), GrantId(2), NOW).grant;
            assert!(held.requests.len() <= REQUESTS_MAX && held.allowed.len() <= REQUESTS_MAX);
        }
    }

    #[test]
    fn two_apps_of_one_pod_hold_two_grants() {
        let first = place(&[], new_grant("order", "uid", "db", 1), GrantId(1), NOW);
        let second = place(&[first.grant], new_grant("pay", "uid", "db", 1), GrantId(2), NOW);
        assert!(second.ended.is_empty());
        assert_eq!(second.grant.id, GrantId(2));
    }
}
