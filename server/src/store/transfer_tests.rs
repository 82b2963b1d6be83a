//! A store is exported and imported: all of it comes back, and a line that is wrong is told with its number and field,
//! and imports nothing.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::Refused,
};
use podgate_proto::store::{DestinationRecord, FormerRecord, GrantRecord, OccupancyRecord, TombstoneRecord};
use proptest::prelude::*;
use redb::ReadableTable as _;

use super::{
    Ending, Kept, Kind, Store, StoreError, Target,
    contents::{Entry, Frontier},
    crash_tests::new_grant,
    import::{ImportError, Imported, Standing, import},
    line::Line,
    offline::{Counts, Extent, OfflineStore, Secrecy, Unreadable},
};

const ALL: Extent = Extent { secrets: Secrecy::Told, unreadable: Unreadable::Refused };

fn any_document(_: Kind, _: &str, bytes: &[u8]) -> Result<(), String> {
    if bytes == b"broken" { Err("it is broken".to_owned()) } else { Ok(()) }
}

fn exported(directory: &Path, extent: Extent) -> String {
    let mut out = Vec::new();
    OfflineStore::open(directory).unwrap().export(&mut out, extent, &any_document).unwrap();
    String::from_utf8(out).unwrap()
}

fn imported(directory: &Path, lines: &str, standing: Standing) -> Result<Imported, ImportError> {
    import(directory, lines.as_bytes(), standing, &any_document)
}

/// What a gateway finds in a store.
fn contents(directory: &Path) -> (Vec<Arc<Grant>>, Kept) {
    let (store, kept) = Store::open(directory, 1_000).unwrap();
    let grants = store.grants().find(1_000, |_| true);
    store.close();
    (grants, kept)
}

/// A store that holds something of everything.
fn full_store() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let (store, kept, ends) = Store::open_with_ends(home.path(), 1_000).unwrap();
    let grant = |address: IpAddr, uid| {
        store.grant(new_grant(address, uid, 7)).unwrap().blocking_recv().unwrap().unwrap()
    };
    grant([10, 0, 0, 1].into(), "a");
    grant("fd00::7".parse().unwrap(), "b");
    let over = grant([10, 0, 0, 2].into(), "c");
    store.end(Ending::Revoke(Target::Grant(over.id))).unwrap().blocking_recv().unwrap().unwrap();
    store.put_document(Kind::Profile, "order", vec![0, 1, 255]).unwrap().blocking_recv().unwrap().unwrap();
    store.put_document(Kind::CommonPorts, "dns", b"x".to_vec()).unwrap().blocking_recv().unwrap().unwrap();
    let ahead = crate::clock::now().offset(kept.desk.clock_offset_ns + 600_000_000_000).as_nanos();
    let reserved = store.reserve(&"order".into(), ahead, Duration::from_millis(5)).unwrap();
    reserved.blocking_recv().unwrap().unwrap();
    drop(ends);
    store.close();
    home
}

#[test]
fn all_that_a_store_holds_comes_back() {
    let home = full_store();
    let lines = exported(home.path(), ALL);
    let copy = tempfile::tempdir().unwrap();
    let counts = Counts { secrets: 1, documents: 2, frontiers: 1, grants: 2, ends: 1, occupancies: 1 };
    assert_eq!(imported(copy.path(), &lines, Standing::Stays).unwrap(), Imported { counts, replaced: None });
    let without_header = |lines: &str| lines.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_header(&exported(copy.path(), ALL)), without_header(&lines));

    let ((grants, kept), (copied_grants, copied)) = (contents(home.path()), contents(copy.path()));
    assert_eq!(copied_grants, grants);
    assert_eq!(copied.documents, kept.documents);
    assert_eq!((copied.next_grant, copied.desk.epoch), (kept.next_grant, kept.desk.epoch));
    assert_eq!(copied.desk.keys, kept.desk.keys);
    assert!(!copied.desk.is_new);
    // The other store was made at another instant of the wall clock; so much may its kept clock differ.
    let at = |kept: &Kept| kept.desk.frontiers[0].frontier.offset(kept.desk.clock_offset_ns).as_nanos();
    assert_eq!(at(&copied), at(&kept));
    let (_, _, ends) = Store::open_with_ends(copy.path(), 10).unwrap();
    assert_eq!(ends.tombstones.page(None, 10, |_| true)[0].id, GrantId(3));
}

#[test]
fn a_pod_that_lost_its_address_does_not_get_it_back_by_an_import() {
    let home = tempfile::tempdir().unwrap();
    let ask = |directory: &Path, uid| {
        let (store, _) = Store::open(directory, 10).unwrap();
        let answer = store.grant(new_grant([10, 0, 0, 1].into(), uid, 1)).unwrap().blocking_recv().unwrap();
        store.close();
        answer
    };
    ask(home.path(), "old").unwrap();
    ask(home.path(), "new").unwrap();
    let copy = tempfile::tempdir().unwrap();
    imported(copy.path(), &exported(home.path(), ALL), Standing::Stays).unwrap();
    assert!(matches!(ask(copy.path(), "old"), Err(StoreError::Refused(Refused::Superseded))));
    ask(copy.path(), "new").unwrap();
}

#[test]
fn keys_are_told_only_if_asked_for() {
    let home = full_store();
    let lines = exported(home.path(), Extent { secrets: Secrecy::Withheld, ..ALL });
    assert!(!lines.contains("secret\"") && lines.contains("\"secrets\":0"));
    let copy = tempfile::tempdir().unwrap();
    imported(copy.path(), &lines, Standing::Stays).unwrap();
    let (kept, copied) = (contents(home.path()).1, contents(copy.path()).1);
    assert_ne!(copied.desk.epoch, kept.desk.epoch);
    assert_ne!(copied.desk.keys, kept.desk.keys);
}

#[test]
fn a_store_that_is_there_stays_unless_it_is_to_be_replaced() {
    let (home, other) = (full_store(), full_store());
    let lines = exported(other.path(), ALL);
    let refused = imported(home.path(), &lines, Standing::Stays);
    assert!(matches!(refused, Err(ImportError::Exists(_))));
    let before = contents(home.path());
    let replaced = imported(home.path(), &lines, Standing::IsReplaced).unwrap().replaced.unwrap();
    assert_eq!(contents(home.path()).1.desk.epoch, contents(other.path()).1.desk.epoch);
    std::fs::rename(replaced, home.path().join("podgate.redb")).unwrap();
    assert_eq!(contents(home.path()).0, before.0);
}

#[test]
fn a_store_in_use_is_left_alone() {
    let home = full_store();
    let (store, _) = Store::open(home.path(), 10).unwrap();
    assert!(matches!(OfflineStore::open(home.path()), Err(StoreError::InUse(_))));
    let refused = imported(home.path(), "", Standing::IsReplaced);
    assert!(matches!(refused, Err(ImportError::Store(StoreError::InUse(_)))));
    store.close();
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(OfflineStore::open(nowhere.path()), Err(StoreError::Missing(_))));
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
}

#[test]
fn a_line_that_is_wrong_is_told_with_its_number_and_field_and_imports_nothing() {
    let home = full_store();
    let lines = exported(home.path(), ALL);
    let number = |part: &str| 1 + lines.lines().position(|line| line.contains(part)).unwrap();
    let (grant, document) = (number("{\"grant\""), number("{\"document\""));
    let cases = [
        (
            "\"address\":\"10.0.0.1\"",
            "\"address\":\"10.0.0\"",
            grant,
            "grant.address: invalid IP address syntax",
        ),
        ("\"generation\":1,\"app\":\"order\",\"cluster\":\"\",\"address\":\"10.0.0.1\"", "", grant, "column"),
        ("\"uid\":\"a\"", "\"uid\":\"a\",\"colour\":1", grant, "grant.pod.colour: unknown field `colour`"),
        ("\"id\":\"0000000000000001\"", "\"id\":\"one\"", grant, "grant.id: `one` is no grant"),
        (
            "\"id\":\"0000000000000001\"",
            "\"id\":\"00000000000000ff\"",
            grant,
            "is not before header.next_grant",
        ),
        ("\"id\":\"0000000000000002\"", "\"id\":\"0000000000000001\"", grant + 1, "grant.id: it came before"),
        (
            "\"kind\":\"AppProfile\"",
            "\"kind\":\"Profile\"",
            document,
            "document.kind: unknown variant `Profile`",
        ),
        ("\"message\":\"AAH/\"", "\"message\":\"AAH\"", document, "document.message: Invalid padding"),
        ("\"message\":\"AAH/\"", "\"message\":\"YnJva2Vu\"", document, "document.message: it is broken"),
        ("\"podgate_export\":1", "\"podgate_export\":2", 1, "header.podgate_export: 2; this podgate reads 1"),
        ("\"grants\":2", "\"grants\":3", lines.lines().count() + 1, "grants: the header tells 3, and 2 came"),
        ("{\"header\"", "{\"grant\"", 1, "grant.podgate_export: unknown field"),
    ];
    for (from, to, line, message) in cases {
        assert!(lines.contains(from), "{from}");
        let broken = lines.replacen(from, to, 1);
        let copy = tempfile::tempdir().unwrap();
        let Err(ImportError::Faults(faults)) = imported(copy.path(), &broken, Standing::Stays) else {
            panic!("{from} to {to} is imported");
        };
        let fault = faults.first().unwrap();
        assert_eq!(fault.line, line as u64, "{fault}");
        assert!(fault.message.contains(message), "{fault}");
        assert!(!copy.path().join("podgate.redb").exists());
        assert!(!copy.path().join("podgate.redb.new").exists());
    }
    let copy = tempfile::tempdir().unwrap();
    let Err(ImportError::Faults(faults)) = imported(copy.path(), "", Standing::Stays) else { panic!() };
    assert_eq!(faults[0].to_string(), "1: the file is empty; expected a header");
    let cut_short = &lines[..lines.len() / 2];
    assert!(matches!(imported(copy.path(), cut_short, Standing::Stays), Err(ImportError::Faults(_))));
}

#[test]
fn a_look_at_a_store_tells_what_is_wrong_with_it() {
    let home = full_store();
    let survey = |home: &Path| OfflineStore::open(home).unwrap().survey(&any_document).unwrap();
    let sound = survey(home.path());
    assert_eq!((sound.anomalies_total, sound.counts.grants, sound.counts.documents), (0, 2, 2));
    let database = redb::Database::open(home.path().join("podgate.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let mut grants = write.open_table(super::database::GRANTS).unwrap();
    let bytes = grants.get(1).unwrap().unwrap().value().to_vec();
    grants.insert(2, &[0xff_u8][..]).unwrap();
    grants.insert(900, bytes.as_slice()).unwrap();
    drop(grants);
    write.open_table(Kind::Profile.table()).unwrap().insert("order", &b"broken"[..]).unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("of tomorrow")).unwrap();
    write.commit().unwrap();
    drop(database);
    let unsound = survey(home.path());
    assert_eq!((unsound.anomalies_total, unsound.counts.grants, unsound.counts.documents), (4, 2, 1));
    let told = unsound.anomalies.join("\n");
    for part in [
        "`of tomorrow`",
        "it is broken",
        "grants 0000000000000002",
        "0000000000000384: its id would be given again",
    ] {
        assert!(told.contains(part), "{told}");
    }
    // What can be read is saved, and the ids that were given stay given.
    let store = OfflineStore::open(home.path()).unwrap();
    assert!(store.export(&mut Vec::new(), ALL, &any_document).is_err());
    drop(store);
    let saved = exported(home.path(), Extent { unreadable: Unreadable::LeftOut, ..ALL });
    let copy = tempfile::tempdir().unwrap();
    imported(copy.path(), &saved, Standing::Stays).unwrap();
    let (grants, kept) = contents(copy.path());
    assert_eq!(grants.iter().map(|grant| grant.id.0).collect::<Vec<_>>(), [1, 900]);
    assert_eq!(kept.next_grant, GrantId(901));
}

#[test]
fn compaction_gives_back_what_is_not_used() {
    let home = full_store();
    let (store, _) = Store::open(home.path(), 10).unwrap();
    for number in 0..40 {
        let bytes = vec![7; 100_000];
        store
            .put_document(Kind::Profile, &format!("large-{number}"), bytes)
            .unwrap()
            .blocking_recv()
            .unwrap()
            .unwrap();
    }
    for number in 0..39 {
        store
            .delete_document(Kind::Profile, &format!("large-{number}"))
            .unwrap()
            .blocking_recv()
            .unwrap()
            .unwrap();
    }
    store.close();
    let before = contents(home.path());
    let store = OfflineStore::open(home.path()).unwrap();
    let bytes_before = store.bytes().unwrap();
    let bytes_after = store.compact().unwrap();
    assert!(bytes_after < bytes_before, "{bytes_before} to {bytes_after}");
    let after = contents(home.path());
    assert_eq!((after.0, after.1.documents), (before.0, before.1.documents));
}

fn address() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<[u8; 4]>().prop_map(Vec::from), any::<[u8; 16]>().prop_map(Vec::from)]
}

fn destination() -> impl Strategy<Value = DestinationRecord> {
    let host = prop_oneof![
        "[a-z]{1,8}\\.svc",
        "\\*\\.[a-z]{1,8}",
        Just("10.9.0.0/24".to_owned()),
        Just("fd00::7".to_owned())
    ];
    let ports = (1..=65_535_u32).prop_flat_map(|last| (1..=last, Just(last)));
    (host, ports, 1..=2_u32, 1..=3_u32, ".*", ".*").prop_map(
        |(host, ports, protocol, basis, rule, document)| DestinationRecord {
            host,
            first_port: ports.0,
            last_port: ports.1,
            protocol,
            basis,
            rule,
            document,
        },
    )
}

fn grant() -> impl Strategy<Value = GrantRecord> {
    let who = prop_oneof![
        ("[a-z0-9-]{1,64}", ".*", ".*", ".*", ".*")
            .prop_map(|(uid, namespace, name, account, node)| { [uid, namespace, name, account, node] }),
        ".*".prop_map(|name| [String::new(), String::new(), name, String::new(), String::new()]),
    ];
    let numbers = any::<[u64; 5]>();
    let lists = (prop::collection::vec(destination(), 0..4), prop::collection::vec(any::<u64>(), 0..8));
    let tenure = any::<(bool, bool, Option<u64>)>();
    (who, ".*", ".*", address(), numbers, lists, tenure).prop_map(
        |(who, app, cluster, address, numbers, (destinations, request_digests), tenure)| {
            let (shadow, renewed, grace_ms) = tenure;
            let [pod_uid, namespace, name, service_account, node] = who;
            let [generation, admitted_at_ns, created_at_ms, expires_at_ms, policy_revision] = numbers;
            GrantRecord {
                generation,
                app,
                cluster,
                address,
                pod_uid,
                namespace,
                name,
                service_account,
                node,
                destinations,
                request_digests,
                admitted_at_ns,
                created_at_ms,
                expires_at_ms,
                policy_revision,
                shadow,
                renewed,
                grace_ms,
            }
        },
    )
}

fn occupancy() -> impl Strategy<Value = OccupancyRecord> {
    let former = any::<[u64; 2]>().prop_map(|[uid, until_ms]| FormerRecord { uid, until_ms });
    let former = prop::collection::vec(former, 0..4);
    (".*", address(), any::<Option<u64>>(), any::<Option<u64>>(), any::<[u64; 3]>(), former).prop_map(
        |(cluster, address, seat, taken_from, [holder, quarantined_until_ms, kept_until_ms], former)| {
            OccupancyRecord {
                cluster,
                address,
                seat,
                holder,
                taken_from,
                quarantined_until_ms,
                former,
                kept_until_ms,
            }
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (any::<u64>(), grant()).prop_map(|(id, record)| Entry::Grant(GrantId(id), Box::new(record))),
        (any::<bool>(), ".*", any::<Vec<u8>>()).prop_map(|(is_profile, name, bytes)| {
            Entry::Document(if is_profile { Kind::Profile } else { Kind::CommonPorts }, name, bytes)
        }),
        (".*", any::<i64>(), any::<u64>()).prop_map(|(app, at_ns, interval_ns)| Entry::Frontier(Frontier {
            app,
            at_ns,
            interval_ns
        })),
        (any::<u64>(), any::<u64>(), ".*", ".*", address()).prop_map(
            |(id, generation, app, cluster, address)| {
                Entry::End(GrantId(id), TombstoneRecord { generation, app, cluster, address })
            }
        ),
        (any::<u64>(), occupancy()).prop_map(|(number, record)| Entry::Occupancy(number, record)),
    ]
}

proptest! {
    #[test]
    fn each_record_is_the_same_after_a_line_of_it(entry in entry()) {
        let line = Line::try_from(entry.clone()).unwrap();
        let json = serde_json::to_string(&line).unwrap();
        prop_assert!(!json.contains('\n'));
        let read = match serde_json::from_str(&json).unwrap() {
            Line::Document(line) => Entry::from(line),
            Line::Frontier(line) => Entry::from(line),
            Line::Grant(line) => Entry::from(*line),
            Line::End(line) => Entry::from(line),
            Line::Occupancy(line) => Entry::from(line),
            other @ (Line::Header(_) | Line::Secrets(_)) => panic!("{other:?}"),
        };
        prop_assert_eq!(read, entry);
    }
}
