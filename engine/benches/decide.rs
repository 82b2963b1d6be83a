//! Instructions of a decision at ten profiles and at 100,000, with apps drawn at random.
//!
//! `cargo bench -p podgate-engine` (needs valgrind, and gungraun-runner of the same version).
#![expect(missing_docs, reason = "the macros make public items without any")]
#![expect(clippy::unwrap_used, reason = "a benchmark of documents that are known to be good")]

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use gungraun::{library_benchmark, library_benchmark_group, main};
use podgate_engine::{
    destination::Destination,
    draft::{ProfileDraft, RuleDraft, SubjectDraft},
    policy::PolicySet,
    profile::{Profile, Source, Sourced},
    subject::{PodIdentity, Subject, SubjectKind},
};

const RULES: usize = 20;
const DECISIONS: u64 = 1_000;

struct Case {
    policy: PolicySet,
    asked: Vec<(String, Subject, Arc<[Destination]>)>,
}

fn profile(number: u64) -> Profile {
    let rules = (0..RULES).map(|rule| RuleDraft {
        name: format!("rule-{rule}"),
        hosts: vec![format!("db-{rule}-{number}.db.svc"), format!("10.{rule}.{}.0/24", number % 256)],
        ports: vec!["3306".into(), "6379-6381".into()],
        protocol: None,
    });
    Profile::parse(&ProfileDraft {
        name: format!("app-{number}"),
        subjects: vec![SubjectDraft::ServiceAccount {
            cluster: None,
            namespace: format!("team-{}", number % 100),
            name: format!("app-{number}"),
        }],
        allow: rules.collect(),
        ..ProfileDraft::default()
    })
    .unwrap()
}

fn case(profiles: u64) -> Case {
    let documents: BTreeMap<Arc<str>, Sourced<Profile>> = (0..profiles)
        .map(|number| {
            let document = Arc::new(profile(number));
            (document.name.shared(), Sourced { etag: number, document, source: Source::Api })
        })
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let asked = (0..DECISIONS)
        .map(|_| {
            // xorshift64 (Marsaglia 2003): apps in no order, the same ones in each run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = random % profiles;
            let subject = Subject {
                cluster: "bj-1".into(),
                address: [10, 8, 3, 17].into(),
                kind: SubjectKind::Pod(PodIdentity {
                    namespace: format!("team-{}", number % 100).into(),
                    name: "pod".into(),
                    uid: "uid".into(),
                    service_account: format!("app-{number}").into(),
                    node: "".into(),
                }),
            };
            let wanted = [
                format!("db-7-{number}.db.svc:3306"),
                format!("10.3.{}.9:6380", number % 256),
                format!("db-19-{number}.db.svc:6379-6381"),
            ];
            (format!("app-{number}"), subject, wanted.iter().map(|text| text.parse().unwrap()).collect())
        })
        .collect();
    Case { policy: PolicySet::compile(documents, BTreeMap::new()), asked }
}

#[library_benchmark]
#[bench::at_10_profiles(args = (10), setup = case)]
#[bench::at_100_000_profiles(args = (100_000), setup = case)]
fn decide(case: Case) -> Case {
    for (app, subject, destinations) in &case.asked {
        let standing = case.policy.standing(app, subject);
        black_box(case.policy.decide(standing, &subject.cluster, Arc::clone(destinations)));
    }
    // Given back, so that dropping it is not counted.
    case
}

library_benchmark_group!(name = decisions, benchmarks = decide);
main!(library_benchmark_groups = decisions);
