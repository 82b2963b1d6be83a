//! What goes out, and what of an answer is believed.

use prost_types::Timestamp;

use super::*;

fn ask(destinations: &[&str]) -> Ask {
    Ask {
        app: "hotel-order".to_owned(),
        subject: Subject::Pod(Pod {
            namespace: "hotel".to_owned(),
            uid: "u-1".to_owned(),
            service_account: "order".to_owned(),
            addresses: vec!["10.8.3.17".parse().unwrap()],
            ..Pod::default()
        }),
        destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
        tenure: Tenure::Lasting,
    }
}

fn decision(host: &str, verdict: v1::Verdict) -> v1::DestinationDecision {
    v1::DestinationDecision {
        destination: Some(v1::Destination { host: host.to_owned(), port: 3306, last_port: 0, protocol: 0 }),
        verdict: verdict.into(),
        rule: "order-db".to_owned(),
        document: "hotel-order".to_owned(),
        ..v1::DestinationDecision::default()
    }
}

fn granted() -> v1::Granted {
    v1::Granted {
        decisions: vec![decision("mysql", v1::Verdict::Allowed)],
        lease: Some(v1::Lease {
            grant_id: "00000000000000aa".to_owned(),
            generation: 3,
            addresses: vec!["10.8.3.17".to_owned()],
            expires_at: Some(Timestamp { seconds: 1_800_000_001, nanos: 0 }),
            renew_after: None,
        }),
        admitted_at: Some(prost_types::Duration { seconds: 12, nanos: 5 }),
        origin: v1::GrantOrigin::Fresh.into(),
        shadow: false,
    }
}

fn read(granted: v1::Granted) -> Result<Decided, String> {
    let outcome = Some(v1::authorize_response::Outcome::Granted(granted));
    decided(&ask(&["mysql:3306"]), v1::AuthorizeResponse { outcome, policy_revision: "r1".to_owned() })
}

#[test]
fn a_request_carries_everything() {
    let ticket = Ticket::new(b"booked".to_vec()).unwrap();
    let sent = request(
        &ask(&["mysql:3306", "redis:6379-6381", "10.0.0.0/8:53/udp"]),
        Terms::Keeps { wait_budget: Duration::from_millis(540_500), ticket: Some(&ticket) },
    );
    assert_eq!(sent.app, "hotel-order");
    assert_eq!(sent.wait_budget, Some(prost_types::Duration { seconds: 540, nanos: 500_000_000 }));
    assert!(sent.keeps_appointments && !sent.renews && !sent.barrier);
    assert_eq!(sent.ticket, b"booked");
    let Some(v1::authorize_request::Subject::Pod(pod)) = sent.subject else { panic!("no pod") };
    assert_eq!((pod.uid.as_str(), pod.addresses), ("u-1", vec!["10.8.3.17".to_owned()]));
    let places: Vec<_> =
        sent.destinations.iter().map(|to| (to.host.as_str(), to.port, to.last_port, to.protocol)).collect();
    assert_eq!(places, [("mysql", 3306, 0, 1), ("redis", 6379, 6381, 1), ("10.0.0.0/8", 53, 0, 2)]);
}

#[test]
fn who_ignores_appointments_has_nothing_booked() {
    let sent = request(&ask(&[]), Terms::Ignores);
    assert_eq!(sent.wait_budget, Some(prost_types::Duration { seconds: 0, nanos: 0 }));
    assert!(!sent.keeps_appointments && sent.ticket.is_empty());
    assert!(request(&Ask { tenure: Tenure::Renewed, ..ask(&[]) }, Terms::Ignores).renews);
}

#[test]
fn a_turn_is_a_delay_and_a_ticket() {
    let read = |seconds, nanos, ticket_bytes: usize| {
        let delay = Some(prost_types::Duration { seconds, nanos });
        let deferred = v1::Deferred { delay, ticket: vec![7; ticket_bytes] };
        let outcome = Some(v1::authorize_response::Outcome::Deferred(deferred));
        decided(&ask(&[]), v1::AuthorizeResponse { outcome, policy_revision: String::new() })
    };
    let turn = |delay| {
        let ticket = Ticket::new(vec![7; 100]).unwrap();
        Ok(Decided::Deferred { delay, ticket })
    };
    assert_eq!(read(12, 300_000_000, 100), turn(Duration::from_millis(12_300)));
    assert_eq!(read(0, 0, 100), turn(Duration::ZERO));
    assert_eq!(read(i64::MAX, 0, 100), turn(Duration::from_secs(i64::MAX as u64)));
    for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
        assert_eq!(read(seconds, nanos, 100), Err("it defers into the past".to_owned()));
    }
    assert_eq!(read(1, 0, 0), Err("it defers with a ticket of 0 bytes".to_owned()));
    assert_eq!(read(1, 0, 513), Err("it defers with a ticket of 513 bytes".to_owned()));
    let outcome = Some(v1::authorize_response::Outcome::Deferred(v1::Deferred::default()));
    let nothing = v1::AuthorizeResponse { outcome, policy_revision: String::new() };
    assert_eq!(decided(&ask(&[]), nothing), Err("it defers without a delay".to_owned()));
}

#[test]
fn a_whole_grant_is_read() {
    let Ok(Decided::Granted(access)) = read(granted()) else { panic!("not granted") };
    assert_eq!(access.admitted_at_ns, Some(12_000_000_005));
    assert_eq!((access.origin, access.policy_revision.as_str()), (Origin::Fresh, "r1"));
    assert_eq!(access.decisions[0].destination.to_string(), "mysql:3306");
    let lease = access.lease.unwrap();
    assert_eq!((lease.grant_id.as_str(), lease.generation), ("00000000000000aa", 3));
    assert_eq!(lease.expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001)));
}

#[test]
fn half_a_grant_is_none() {
    let refused = |change: fn(&mut v1::Granted)| {
        let mut granted = granted();
        change(&mut granted);
        read(granted).unwrap_err()
    };
    assert_eq!(refused(|granted| granted.lease = None), "it grants without a lease");
    assert_eq!(refused(|granted| granted.origin = 0), "it grants without an origin");
    assert_eq!(refused(|granted| granted.origin = 99), "it grants without an origin");
    assert_eq!(refused(|granted| granted.decisions.clear()), "it decides on 0 destinations of 1");
    assert_eq!(refused(|granted| granted.decisions[0].verdict = 3), "it grants what it denies");
    assert_eq!(refused(|granted| granted.decisions[0].verdict = 0), "it holds a decision without a verdict");
    assert_eq!(
        refused(|granted| granted.decisions[0].destination = None),
        "it decides on what is no destination"
    );
    let nothing = v1::AuthorizeResponse { outcome: None, policy_revision: String::new() };
    assert_eq!(decided(&ask(&[]), nothing), Err("it has no outcome".to_owned()));
}

#[test]
fn common_ports_need_no_lease_and_shadow_lets_denials_through() {
    let common = v1::Granted { lease: None, origin: v1::GrantOrigin::Common.into(), ..granted() };
    assert!(matches!(read(common), Ok(Decided::Granted(Access { lease: None, .. }))));
    let decisions = vec![decision("mysql", v1::Verdict::Denied)];
    assert!(matches!(read(v1::Granted { shadow: true, decisions, ..granted() }), Ok(Decided::Granted(_))));
}

#[test]
fn a_denial_says_what_and_why() {
    let denied = v1::Denied {
        decisions: vec![v1::DestinationDecision {
            reason: v1::DenialReason::PortNotAllowed.into(),
            ..decision("mysql", v1::Verdict::Denied)
        }],
        reason: v1::DenialReason::PortNotAllowed.into(),
        explanation: "no rule allows\nmysql:3306".to_owned(),
    };
    let outcome = Some(v1::authorize_response::Outcome::Denied(denied));
    let response = v1::AuthorizeResponse { outcome, policy_revision: String::new() };
    let Ok(Decided::Denied(refusal)) = decided(&ask(&["mysql:3306"]), response) else { panic!("not denied") };
    assert_eq!(refusal.explanation, "no rule allows mysql:3306");
    assert_eq!(refusal.decisions[0].verdict, Verdict::Denied(DenialReason::PortNotAllowed));
    assert_eq!(refusal.reason.to_string(), "PORT_NOT_ALLOWED");
}
