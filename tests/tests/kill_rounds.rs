//! Rounds of kill −9: pods ask, give back and lose their grants while the gateway is killed, at any instant or at a stage
//! of a group of writes; then it starts again on the same store. What was acknowledged is there, and what was taken back
//! is not.
//!
//! `tests/rounds` runs more of them and tells the figures.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use podgate_proto::v1::{
    Grant, GrantServiceRevokeRequest, Lease, ReleaseRequest, Verdict, authorize_response::Outcome,
    grant_service_revoke_request::Target,
};
use podgate_tests::{
    caller::Caller,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    requests::authorize,
    rounds::{rounds, seed},
    yaml::{common_ports, profile},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tonic::Status;

const ROUNDS: u64 = 20;
const SEED: u64 = 20_250_612;
const PODS: usize = 16;
const STAGES: [&str; 5] = ["gathered", "written", "committed", "published", "answered"];
const DB: (&str, u32) = ("db.shop.svc", 3306);
/// A range of ports of it is common, so that a pod can ask many questions.
const DNS: &str = "dns.corp";

/// A pod's address, and what is known of the grant on it.
#[derive(Debug)]
struct Pod {
    address: String,
    /// Uids of this address so far.
    uids: u32,
    held: Option<Held>,
    /// What was asked last, if nobody answered.
    unanswered: Option<Asked>,
    /// Grants that were acknowledged to be over, or were seen to be.
    gone: BTreeSet<String>,
    questions: u32,
    tally: Tally,
}

/// A grant that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    id: String,
    generation: u64,
    uid: String,
}

#[derive(Clone, Debug)]
enum Asked {
    /// For more of what the pod has.
    More,
    /// As another pod on the same address, with this uid.
    Anew(String),
    Release,
    Revoke,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    granted: u64,
    released: u64,
    revoked: u64,
    unanswered_done: u64,
    unanswered_undone: u64,
    lost: u64,
    resurrected: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.granted += other.granted;
        self.released += other.released;
        self.revoked += other.revoked;
        self.unanswered_done += other.unanswered_done;
        self.unanswered_undone += other.unanswered_undone;
        self.lost += other.lost;
        self.resurrected += other.resurrected;
    }
}

impl Pod {
    fn new(number: usize) -> Self {
        Self {
            address: format!("127.0.3.{}", number + 1),
            uids: 0,
            held: None,
            unanswered: None,
            gone: BTreeSet::new(),
            questions: 0,
            tally: Tally::default(),
        }
    }

    /// Asks one thing after another until nobody answers.
    async fn run(&mut self, pod: &Caller, portal: &Caller, chance: &mut StdRng, answers: &AtomicU32) {
        loop {
            let asked = match &self.held {
                None => self.anew(),
                Some(_) => match chance.random_range(0..6) {
                    0 | 1 => Asked::More,
                    2 | 3 => self.anew(),
                    4 => Asked::Release,
                    _ => Asked::Revoke,
                },
            };
            self.unanswered = Some(asked.clone());
            let answered = match &asked {
                Asked::More | Asked::Anew(_) => self.authorize(pod, &asked).await,
                Asked::Release => self.release(pod).await,
                Asked::Revoke => self.revoke(portal).await,
            };
            if answered.is_err() {
                return;
            }
            self.unanswered = None;
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn anew(&mut self) -> Asked {
        self.uids += 1;
        Asked::Anew(format!("uid-{}-{}", self.address, self.uids))
    }

    async fn authorize(&mut self, pod: &Caller, asked: &Asked) -> Result<(), Status> {
        let uid = match (asked, &self.held) {
            (Asked::Anew(uid), _) => uid.clone(),
            (_, Some(held)) => held.uid.clone(),
            (_, None) => panic!("nothing is held"),
        };
        self.questions = self.questions % 60_000 + 1;
        let request = authorize("shop", &uid, &[DB, (DNS, self.questions)]);
        let outcome = pod.authorize(request).await?.outcome;
        let Some(Outcome::Granted(granted)) = outcome else { panic!("{outcome:?}") };
        let Some(Lease { grant_id, generation, .. }) = granted.lease else { panic!("no lease") };
        if let Some(before) = self.held.take().filter(|before| before.id != grant_id) {
            self.gone.insert(before.id);
        }
        self.held = Some(Held { id: grant_id, generation, uid });
        self.tally.granted += 1;
        Ok(())
    }

    async fn release(&mut self, pod: &Caller) -> Result<(), Status> {
        let Some(held) = self.held.clone() else { panic!("nothing is held") };
        let request =
            ReleaseRequest { grant_id: held.id.clone(), pod_uid: held.uid, ..ReleaseRequest::default() };
        let answer = within("an answer to Release", pod.authorization().release(request)).await?;
        assert!(answer.into_inner().released, "{} was there", held.id);
        self.end();
        self.tally.released += 1;
        Ok(())
    }

    async fn revoke(&mut self, portal: &Caller) -> Result<(), Status> {
        let Some(held) = self.held.clone() else { panic!("nothing is held") };
        let target = Some(Target::GrantId(held.id));
        let request = GrantServiceRevokeRequest { target, reason: String::new() };
        let answer = within("an answer to Revoke", portal.grants().revoke(request)).await?;
        assert_eq!(answer.into_inner().revoked, 1);
        self.end();
        self.tally.revoked += 1;
        Ok(())
    }

    fn end(&mut self) {
        self.gone.extend(self.held.take().map(|held| held.id));
    }

    /// Compares with the grants that a gateway lists on the address, and goes on from these.
    fn compare(&mut self, there: &[Grant]) {
        self.tally.resurrected +=
            there.iter().filter(|grant| self.gone.contains(&grant.grant_id)).count() as u64;
        let found: Vec<Held> = there
            .iter()
            .map(|grant| Held {
                id: grant.grant_id.clone(),
                generation: grant.generation,
                uid: grant.pod.clone().unwrap_or_default().uid,
            })
            .collect();
        let asked = self.unanswered.take();
        let is_as_before = match (&*found, &self.held) {
            ([], None) => true,
            ([found], Some(held)) => found == held,
            _ => false,
        };
        let is_as_asked = match (&asked, &*found, &self.held) {
            (Some(Asked::More), [found], Some(held)) => {
                found.id == held.id && found.generation == held.generation + 1
            }
            (Some(Asked::Anew(uid)), [found], before) => {
                found.uid == *uid && before.as_ref().is_none_or(|before| before.id != found.id)
            }
            (Some(Asked::Release | Asked::Revoke), [], Some(_)) => true,
            _ => false,
        };
        match (is_as_before, is_as_asked) {
            (true, _) => self.tally.unanswered_undone += u64::from(asked.is_some()),
            (false, true) => self.tally.unanswered_done += 1,
            (false, false) if found.is_empty() => self.tally.lost += 1,
            (false, false) if self.held.is_none() => self.tally.resurrected += 1,
            (false, false) => {
                panic!("{}: {:?} and then {asked:?} became {found:?}", self.address, self.held);
            }
        }
        let found = found.into_iter().next_back();
        if self.held.as_ref().map(|held| &held.id) != found.as_ref().map(|found| &found.id) {
            self.end();
        }
        self.held = found;
    }
}

/// How a round ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// By a kill, when so many calls have been answered.
    Kill(u32),
    /// By itself, when so many groups have come to a stage.
    Fault(&'static str, u32),
}

/// Lets pods ask until the gateway dies.
async fn storm(gateway: Gateway, pods: Vec<Pod>, death: Death, chance: &mut StdRng) -> (Setup, Vec<Pod>) {
    let portal = Caller::of(&gateway).await;
    let answers = Arc::new(AtomicU32::new(0));
    let mut running = JoinSet::new();
    for mut pod in pods {
        let caller = Caller::from(&gateway, &pod.address).await;
        let (portal, answers) = (portal.clone(), Arc::clone(&answers));
        let mut chance = StdRng::seed_from_u64(chance.random());
        running.spawn(async move {
            pod.run(&caller, &portal, &mut chance, &answers).await;
            pod
        });
    }
    let setup = match death {
        Death::Kill(after) => {
            eventually("answers", async || (answers.load(Ordering::Relaxed) >= after).then_some(())).await;
            gateway.kill().await
        }
        Death::Fault(..) => gateway.ended().await.1,
    };
    let mut pods = running.join_all().await;
    pods.sort_by(|one, other| one.address.cmp(&other.address));
    (setup, pods)
}

/// Compares what was acknowledged with what List and Check tell.
async fn compare(gateway: &Gateway, pods: &mut [Pod]) {
    let portal = Caller::of(gateway).await;
    let grants = portal.all_grants().await;
    for pod in pods {
        let there: Vec<Grant> = grants.iter().filter(|grant| grant.address == pod.address).cloned().collect();
        pod.compare(&there);
        let checked = portal.check(&pod.address, DB.0, DB.1).await;
        let allowed_by = pod.held.as_ref().map_or("", |held| &held.id);
        assert_eq!(checked.grant_id, allowed_by, "{}: Check and List differ", pod.address);
        assert_eq!(checked.verdict() == Verdict::Allowed, !allowed_by.is_empty());
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9_and_what_was_taken_back_does_not() {
    let (rounds, seed) = (rounds(ROUNDS), seed(SEED));
    let mut chance = StdRng::seed_from_u64(seed);
    let common = common_ports("everywhere", DNS).replace("[53]", "[1-65535]");
    let mut setup = Setup::new()
        .with_file("shop.yaml", profile("shop", DB.0, "  limits: { rate: 100000/s, burst: 1000 }\n"))
        .with_file("common.yaml", common);
    let mut pods: Vec<Pod> = (0..PODS).map(Pod::new).collect();
    for round in 0..rounds {
        let death = if chance.random_bool(0.5) {
            Death::Kill(chance.random_range(1..300))
        } else {
            Death::Fault(STAGES[round as usize % STAGES.len()], chance.random_range(1..60))
        };
        if let Death::Fault(stage, group) = death {
            setup = setup.variable("FAULT_POINT", &format!("{stage}:{group}"));
        }
        let gateway = setup.start().await;
        compare(&gateway, &mut pods).await;
        (setup, pods) = storm(gateway, pods, death, &mut chance).await;
        let lost: u64 = pods.iter().map(|pod| pod.tally.lost + pod.tally.resurrected).sum();
        assert_eq!(lost, 0, "round {round} of seed {seed}, before {death:?}");
    }
    let gateway = setup.start().await;
    compare(&gateway, &mut pods).await;
    let mut tally = Tally::default();
    for pod in &pods {
        tally += pod.tally;
    }
    println!("{rounds} rounds of kill -9, seed {seed}: {tally:?}");
    assert_eq!((tally.lost, tally.resurrected), (0, 0));
    assert!(tally.granted > 0 && tally.released > 0 && tally.revoked > 0, "{tally:?}");
}
