//! The lanes against a service in memory, with a paused clock: batches, coalescing, retries, the breaker, and order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Fallback, Lifetimes, NewGrant, Tenure},
    subject::{PodIdentity, Subject, SubjectKind},
    time::Moment,
};
use podgate_proto::upstream::{
    ApplyRequest, ApplyResponse, Failure, FailureKind, RevokeRequest, RevokeResponse,
    acl_backend_service_server::{AclBackendService, AclBackendServiceServer},
};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Response, Status,
    transport::{Endpoint, Server},
};

use super::*;
use crate::store::{Ending, Store, Target};

/// A service that does as it is told, and remembers what it heard.
#[derive(Debug, Default)]
struct Script(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// What happened, in order.
    events: Vec<Event>,
    calls: usize,
    in_flight: usize,
    in_flight_max: usize,
    in_force: BTreeMap<GrantId, u64>,
    /// How it behaves.
    takes: Duration,
    fails: Option<Code>,
    fails_every_second: bool,
    poison: Option<(GrantId, Code)>,
    refuses: BTreeSet<GrantId>,
    deaf_to_ends: bool,
    epoch: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Apply(Vec<GrantId>),
    Applied(Vec<GrantId>),
    Revoke(Vec<GrantId>),
}

impl Script {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard());
    }

    /// The batches with grants in them, in order.
    fn batches(&self) -> Vec<Vec<GrantId>> {
        let heard = self.heard();
        let batches = heard.events.iter().filter_map(|event| match event {
            Event::Apply(batch) => Some(batch.clone()),
            Event::Applied(_) | Event::Revoke(_) => None,
        });
        batches.collect()
    }
}

fn id(text: &str) -> GrantId {
    text.parse().unwrap()
}

#[tonic::async_trait]
impl AclBackendService for Script {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let grants = request.into_inner().grants;
        let ids: Vec<GrantId> = grants.iter().map(|grant| id(&grant.grant_id)).collect();
        let (takes, fails) = {
            let mut heard = self.heard();
            if !ids.is_empty() {
                heard.events.push(Event::Apply(ids.clone()));
            }
            heard.calls += 1;
            heard.in_flight += 1;
            heard.in_flight_max = heard.in_flight_max.max(heard.in_flight);
            let poisoned = heard.poison.filter(|(id, _)| ids.contains(id)).map(|(_, code)| code);
            let second =
                (heard.fails_every_second && heard.calls.is_multiple_of(2)).then_some(Code::Unavailable);
            (heard.takes, heard.fails.or(poisoned).or(second))
        };
        sleep(takes).await;
        let mut heard = self.heard();
        heard.in_flight -= 1;
        if let Some(code) = fails {
            return Err(Status::new(code, "as told"));
        }
        let refused = |id: &GrantId| Failure {
            grant_id: id.to_string(),
            kind: FailureKind::Refused.into(),
            reason: "not this one".to_owned(),
        };
        let failures = ids.iter().filter(|id| heard.refuses.contains(id)).map(refused).collect();
        for grant in &grants {
            if !heard.refuses.contains(&id(&grant.grant_id)) {
                heard.in_force.insert(id(&grant.grant_id), grant.generation);
            }
        }
        if !ids.is_empty() {
            heard.events.push(Event::Applied(ids));
        }
        Ok(Response::new(ApplyResponse { failures, epoch: heard.epoch.clone() }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let ids: Vec<GrantId> = request.into_inner().grants.iter().map(|grant| id(&grant.grant_id)).collect();
        let mut heard = self.heard();
        if heard.deaf_to_ends {
            return Err(Status::unavailable("as told"));
        }
        for id in &ids {
            heard.in_force.remove(id);
        }
        heard.events.push(Event::Revoke(ids));
        Ok(Response::new(RevokeResponse { failures: Vec::new(), epoch: heard.epoch.clone() }))
    }
}

/// A store, lanes over it, and the service behind.
struct Stage {
    home: tempfile::TempDir,
    store: Store,
    intake: Arc<Intake>,
    script: Arc<Script>,
    lanes: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

fn settings(concurrency: usize, batch: usize) -> Settings {
    let endpoint = "http://acl.test:1".to_owned();
    Settings { endpoint, timeout: Duration::from_secs(2), concurrency, batch, queue: 1_000 }
}

impl Stage {
    /// Over an empty store, behind the first pass of the replay.
    async fn new(settings: &Settings) -> Self {
        let stage = Self::again(settings, tempfile::tempdir().unwrap(), Arc::default());
        sleep(Duration::from_millis(1)).await;
        stage
    }

    /// Over what a store holds.
    fn again(settings: &Settings, home: tempfile::TempDir, script: Arc<Script>) -> Self {
        let (store, _, ends) = Store::open_with_ends(home.path(), 1_000).unwrap();
        let measures = Arc::new(Measures::new());
        let backend = Backend::over(channel(&script), settings.timeout, Arc::clone(&measures));
        let intake = Arc::new(Intake::new(settings, Arc::clone(&ends.tombstones)));
        let (stop, stopped) = oneshot::channel();
        let lanes = work(Arc::clone(&intake), backend, ends, settings.clone(), measures, stopped);
        Self { home, store, intake, script, lanes: tokio::spawn(lanes), stop }
    }

    /// Ends the lanes and the store, as a gateway that ends.
    async fn end(self) -> (tempfile::TempDir, Arc<Script>) {
        drop(self.stop);
        self.lanes.await.unwrap();
        self.store.close();
        (self.home, self.script)
    }

    fn grant(&self, last: u8) -> Arc<Grant> {
        aside(self.store.grant(new_grant(last, 1)).unwrap())
    }

    fn revoke(&self, grant: &Grant) {
        assert_eq!(aside(self.store.end(Ending::Revoke(Target::Grant(grant.id))).unwrap()), 1);
    }

    /// Asks for a grant in a task of its own.
    fn ask(&self, grant: &Arc<Grant>) -> JoinHandle<Result<(), UpstreamError>> {
        let (intake, grant) = (Arc::clone(&self.intake), Arc::clone(grant));
        tokio::spawn(async move { intake.apply(&grant, Duration::from_secs(60)).await })
    }
}

/// Waits for the store's thread without letting the paused clock run on.
fn aside<T: Send + 'static>(pending: crate::store::Pending<T>) -> T {
    std::thread::spawn(move || pending.blocking_recv().unwrap().unwrap_or_else(|error| panic!("{error}")))
        .join()
        .unwrap()
}

fn channel(script: &Arc<Script>) -> tonic::transport::Channel {
    let (dial, listener) = mpsc::channel::<DuplexStream>(4);
    let service = AclBackendServiceServer::from_arc(Arc::clone(script));
    let incoming = ReceiverStream::new(listener).map(std::io::Result::Ok);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    Endpoint::from_static("http://acl.test:1").connect_with_connector_lazy(tower::service_fn(
        move |_: http::Uri| {
            let dial = dial.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                dial.send(theirs).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                std::io::Result::Ok(TokioIo::new(ours))
            }
        },
    ))
}

fn new_grant(last: u8, request: u64) -> NewGrant {
    NewGrant {
        app: "order".into(),
        subject: Arc::new(Subject {
            cluster: "".into(),
            address: [10, 0, 0, last].into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: "hotel".into(),
                name: "".into(),
                uid: "uid".into(),
                service_account: "order".into(),
                node: "".into(),
            }),
        }),
        allowed: Arc::new([]),
        request,
        admitted_at: Moment::from_nanos(1),
        tenure: Tenure::Fixed,
        lifetimes: Lifetimes { ttl: Duration::from_secs(60), max_age: Duration::from_secs(3600) },
        revision: 1,
        shadow: false,
        fallback: Fallback::Deny,
        seen: u64::MAX,
        app_max: u32::MAX,
    }
}

/// Waits in virtual time.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_same_grant_waits_for_one_call() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.takes = Duration::from_millis(500));
    let grant = stage.grant(1);
    let asked: Vec<_> = (0..20).map(|_| stage.ask(&grant)).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    assert!(stage.intake.is_applied(&grant));
    assert_eq!(stage.intake.apply(&grant, Duration::ZERO).await, Ok(()));
    assert_eq!(stage.script.batches(), [[grant.id]]);
}

#[tokio::test(start_paused = true)]
async fn applies_gather_while_calls_are_in_flight_and_calls_are_bounded() {
    let stage = Stage::new(&settings(2, 16)).await;
    stage.script.set(|heard| heard.takes = Duration::from_millis(100));
    let grants: Vec<_> = (1..=100).map(|last| stage.grant(last)).collect();
    let began = Instant::now();
    let asked: Vec<_> = grants.iter().map(|grant| stage.ask(grant)).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    let batches = stage.script.batches();
    assert!(batches.iter().all(|batch| batch.len() <= 16), "{batches:?}");
    let told: Vec<GrantId> = batches.iter().flatten().copied().collect();
    assert_eq!(told.len(), 100);
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(stage.script.heard().in_flight_max, 2);
    // 100 in batches of 16, two at a time: four rounds, and one more for the first calls, which go out with few.
    assert!(began.elapsed() <= Duration::from_millis(510), "{:?} {batches:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_refused_fails_alone() {
    let stage = Stage::new(&settings(1, 256)).await;
    let grants: Vec<_> = (1..=3).map(|last| stage.grant(last)).collect();
    stage.script.set(|heard| {
        heard.refuses.insert(grants[1].id);
    });
    let asked: Vec<_> = grants.iter().map(|grant| stage.ask(grant)).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers, [Ok(()), Err(UpstreamError::Refused("not this one".to_owned())), Ok(())]);
    assert_eq!(stage.intake.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_breaks_its_batch_is_found_and_the_others_are_in_force() {
    for (code, expected) in [
        (Code::Unknown, UpstreamError::Unavailable),
        (Code::InvalidArgument, UpstreamError::Refused("InvalidArgument: as told".to_owned())),
    ] {
        // All of them in one batch: it waits behind a first call.
        let stage = Stage::new(&settings(1, 256)).await;
        stage.script.set(|heard| heard.takes = Duration::from_millis(50));
        let first = stage.grant(100);
        let first = stage.ask(&first);
        sleep(Duration::from_millis(10)).await;
        let grants: Vec<_> = (1..=8).map(|last| stage.grant(last)).collect();
        stage.script.set(|heard| heard.poison = Some((grants[4].id, code)));
        let asked: Vec<_> = grants.iter().map(|grant| stage.ask(grant)).collect();
        assert_eq!(first.await.unwrap(), Ok(()));
        for (at, answer) in asked.into_iter().enumerate() {
            let expected = if at == 4 { Err(expected.clone()) } else { Ok(()) };
            assert_eq!(answer.await.unwrap(), expected, "{code:?}, grant {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nothing_with_him() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.takes = Duration::from_secs(1));
    let grant = stage.grant(1);
    let answer = stage.intake.apply(&grant, Duration::from_millis(200)).await;
    assert_eq!(answer, Err(UpstreamError::Pending));
    assert!(!stage.intake.is_applied(&grant));
    until("the grant in force", || stage.intake.is_applied(&grant)).await;
    assert_eq!(stage.script.batches(), [[grant.id]]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_given_a_rest_and_what_was_left_behind_follows() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.fails = Some(Code::Unavailable));
    let grants: Vec<_> = (1..=5).map(|last| stage.grant(last)).collect();
    let asked: Vec<_> = grants.iter().map(|grant| stage.ask(grant)).collect();
    until("an open breaker", || stage.intake.ready() == Err(UpstreamError::Unavailable)).await;
    let extra = stage.grant(6);
    let refused = stage.intake.apply(&extra, Duration::from_secs(60)).await;
    assert_eq!(refused, Err(UpstreamError::Unavailable));
    // At rest there is one call at the end of each rest, and no other: 1, 2, 4, 8, 16 s, half up or down.
    let before = stage.script.heard().calls;
    sleep(Duration::from_secs(30)).await;
    let during = stage.script.heard().calls - before;
    assert!((3..=6).contains(&during), "{during}");
    for answer in asked {
        assert!(matches!(answer.await.unwrap(), Err(UpstreamError::Pending | UpstreamError::Unavailable)));
    }
    stage.script.set(|heard| heard.fails = None);
    until("everything in force", || {
        grants.iter().chain([&extra]).all(|grant| stage.intake.is_applied(grant))
    })
    .await;
    assert_eq!(stage.intake.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_is_found_out_before_anybody_asks() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.takes = Duration::from_secs(3600));
    until("an open breaker", || stage.intake.ready().is_err()).await;
    stage.script.set(|heard| heard.takes = Duration::ZERO);
    until("a closed one", || stage.intake.ready().is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_budget() {
    let stage = Stage::new(&settings(1, 1)).await;
    stage.script.set(|heard| {
        // Every second call fails: the breaker stays closed, and only the budget stands between us and twice the load.
        heard.fails_every_second = true;
        heard.takes = Duration::from_millis(1);
    });
    let gave_up = Arc::new(AtomicUsize::new(0));
    for last in 1..=200 {
        let grant = stage.grant(last);
        if stage.ask(&grant).await.unwrap() == Err(UpstreamError::Unavailable) {
            gave_up.fetch_add(1, Ordering::Relaxed);
        }
    }
    let calls = stage.script.heard().calls;
    // One in five, ten on top over ten seconds, and the replay of what was given up, which has no retries.
    let gave_up = gave_up.load(Ordering::Relaxed);
    assert!(gave_up > 30, "{gave_up} given up, {calls} calls");
    assert!((200..=290).contains(&calls), "{gave_up} given up, {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_for_the_call_that_may_still_apply_its_grant() {
    let stage = Stage::new(&settings(1, 256)).await;
    stage.script.set(|heard| heard.takes = Duration::from_millis(500));
    let (sent, waiting) = (stage.grant(1), stage.grant(2));
    let first = stage.ask(&sent);
    until("the first call", || !stage.script.batches().is_empty()).await;
    let second = stage.ask(&waiting);
    tokio::task::yield_now().await;
    stage.revoke(&sent);
    stage.revoke(&waiting);
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(second.await.unwrap(), Err(UpstreamError::Ended));
    until("both ends", || stage.intake.pending() == 0).await;
    let events = stage.script.heard().events.clone();
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let applied = at(&|event| *event == Event::Applied(vec![sent.id]));
    let revoked = at(&|event| matches!(event, Event::Revoke(ids) if ids.contains(&sent.id)));
    assert!(applied < revoked, "{events:?}");
    assert!(!stage.script.batches().iter().flatten().any(|id| *id == waiting.id), "{events:?}");
    assert!(stage.script.heard().in_force.is_empty() && !stage.intake.is_applied(&sent));
}

#[tokio::test(start_paused = true)]
async fn a_newer_generation_is_not_taken_for_applied() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.takes = Duration::from_millis(500));
    let first = stage.grant(1);
    let asked = stage.ask(&first);
    until("the first call", || !stage.script.batches().is_empty()).await;
    let second = aside(stage.store.grant(new_grant(1, 2)).unwrap());
    assert_eq!((second.id, second.generation), (first.id, 2));
    let began = Instant::now();
    let again = stage.ask(&second);
    assert_eq!(asked.await.unwrap(), Ok(()));
    assert!(stage.intake.is_applied(&first) && !stage.intake.is_applied(&second));
    assert_eq!(again.await.unwrap(), Ok(()));
    assert!(began.elapsed() > Duration::from_millis(500), "a second call, behind the first one");
    assert_eq!(stage.script.heard().in_force[&first.id], 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_tells_again_newest_first_and_no_end_is_lost() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.deaf_to_ends = true);
    let grants: Vec<_> = (1..=12).map(|last| stage.grant(last)).collect();
    for grant in &grants {
        assert_eq!(stage.ask(grant).await.unwrap(), Ok(()));
    }
    stage.revoke(&grants[3]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.intake.pending(), 1);
    let (home, script) = stage.end().await;
    assert!(script.heard().in_force.contains_key(&grants[3].id));
    script.set(|heard| {
        (heard.deaf_to_ends, heard.takes) = (false, Duration::from_millis(10));
        heard.events.clear();
    });
    let stage = Stage::again(&settings(1, 4), home, script);
    until("all ends told", || stage.intake.pending() == 0).await;
    until("all in force", || {
        grants.iter().enumerate().all(|(at, grant)| at == 3 || stage.intake.is_applied(grant))
    })
    .await;
    let told: Vec<GrantId> = stage.script.batches().into_iter().flatten().collect();
    assert!(told.is_sorted_by(|one, next| one > next), "{told:?}");
    assert!(stage.script.batches().iter().all(|batch| batch.len() <= 4));
    assert!(!stage.script.heard().in_force.contains_key(&grants[3].id));
    // What was acknowledged is forgotten, durably.
    let (home, _) = stage.end().await;
    let (_store, _, ends) = Store::open_with_ends(home.path(), 1_000).unwrap();
    assert!(ends.tombstones.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_lost_everything_is_told_again() {
    let stage = Stage::new(&settings(4, 256)).await;
    stage.script.set(|heard| heard.epoch = "one".to_owned());
    let grants: Vec<_> = (1..=5).map(|last| stage.grant(last)).collect();
    for grant in &grants {
        assert_eq!(stage.ask(grant).await.unwrap(), Ok(()));
    }
    stage.script.set(|heard| {
        heard.in_force.clear();
        heard.epoch = "two".to_owned();
    });
    // The sign of life learns of it within 5 s, without a caller.
    let began = Instant::now();
    until("everything in force again", || stage.script.heard().in_force.len() == 5).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(grants.iter().all(|grant| stage.intake.is_applied(grant)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_handed_in_is_found_and_nothing_is_told_twice() {
    let stage = Stage::new(&settings(4, 256)).await;
    let (asked, unasked) = (stage.grant(1), stage.grant(2));
    assert_eq!(stage.ask(&asked).await.unwrap(), Ok(()));
    assert_eq!(stage.script.batches(), [[asked.id]]);
    until("the other one in force", || stage.intake.is_applied(&unasked)).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(stage.script.batches(), [[asked.id], [unasked.id]]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded() {
    let settings = Settings { queue: 2, ..settings(1, 256) };
    let stage = Stage::new(&settings).await;
    stage.script.set(|heard| heard.takes = Duration::from_secs(1));
    let (one, two, three) = (stage.grant(1), stage.grant(2), stage.grant(3));
    let asked = [stage.ask(&one), stage.ask(&two)];
    until("the first call", || !stage.script.batches().is_empty()).await;
    assert_eq!(stage.intake.ready(), Err(UpstreamError::Busy));
    assert_eq!(stage.intake.apply(&three, Duration::from_secs(1)).await, Err(UpstreamError::Busy));
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    // Who was turned away follows all the same.
    let began = Instant::now();
    until("the third one in force", || stage.intake.is_applied(&three)).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // A grant that is waited for by too many takes no more.
    let four = stage.grant(4);
    let many: Vec<_> = (0..80).map(|_| stage.ask(&four)).collect();
    let mut busy = 0;
    for answer in many {
        busy += usize::from(answer.await.unwrap() == Err(UpstreamError::Busy));
    }
    assert_eq!(busy, 80 - 64);
}
