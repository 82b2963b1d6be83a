//! What is found in a store's place, and what is made of it: a store is opened, made where there is none, or refused by
//! name; never made anew over something that is there.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use podgate_engine::grant::Grant;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::TableDefinition;

use super::{
    Store, StoreError,
    crash_tests::new_grant,
    finding::Finding,
    medium::{Medium as _, StoreFile},
    recovery::Recovery,
};

const FILE: &str = "podgate.redb";

/// A directory with a store that holds some grants.
fn with_grants(count: u8) -> (tempfile::TempDir, PathBuf, Vec<Arc<Grant>>) {
    let home = tempfile::tempdir().unwrap();
    let (store, kept) = Store::open(home.path(), 1_000).unwrap();
    assert!(kept.desk.is_new);
    assert_eq!(kept.recovery, Recovery::NotNeeded);
    let grant = |last| {
        let new = new_grant(IpAddr::from([10, 0, 0, last]), "a", 1);
        store.grant(new).unwrap().blocking_recv().unwrap().unwrap()
    };
    let grants = (0..count).map(grant).collect();
    store.close();
    let file = home.path().join(FILE);
    (home, file, grants)
}

fn finding(directory: &Path) -> Finding {
    match Store::open(directory, 10) {
        Err(StoreError::Unusable { file, finding }) => {
            assert_eq!(file, directory.join(FILE));
            finding
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is opened"),
    }
}

#[test]
fn what_is_no_store_is_told_by_name_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(FILE);
    for (bytes, expected) in [
        (&b""[..], Finding::Empty),
        (&[0; 4_096][..], Finding::NoHead),
        (b"redb", Finding::OtherFile),
        (b"SQLite format 3\0 and so on", Finding::OtherFile),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_eq!(finding(home.path()), expected);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    fs::remove_file(&file).unwrap();
    let other = redb::Database::create(&file).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("of another program")).unwrap();
    write.commit().unwrap();
    drop(other);
    assert_eq!(finding(home.path()), Finding::OtherDatabase);
}

#[test]
fn records_of_a_later_version_are_refused() {
    let (home, file, _) = with_grants(1);
    let set = |version: u64| {
        let database = redb::Database::open(&file).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("schema", version)
            .unwrap();
        write.commit().unwrap();
    };
    set(99);
    assert_eq!(finding(home.path()), Finding::Schema { found: 99, known: 1 });
    set(1);
    assert_eq!(Store::open(home.path(), 10).unwrap().0.grants().len(), 1);
}

#[test]
fn a_store_cut_short_is_damaged() {
    let (home, file, _) = with_grants(100);
    let length = fs::metadata(&file).unwrap().len();
    for kept in [10, 300, 4_096, length / 2, length - 1] {
        let whole = fs::read(&file).unwrap();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(kept).unwrap();
        let found = finding(home.path());
        assert!(matches!(found, Finding::Damaged(_)), "{kept} of {length}: {found:?}");
        fs::write(&file, whole).unwrap();
    }
    assert_eq!(Store::open(home.path(), 1_000).unwrap().0.grants().len(), 100);
}

/// Whatever byte changes, the store opens with all that it held or is refused. It never panics, and never loses in silence.
#[test]
fn a_byte_that_changed_is_noticed_or_does_no_harm() {
    let (home, file, grants) = with_grants(200);
    let whole = fs::read(&file).unwrap();
    let mut chance = StdRng::seed_from_u64(7);
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut noticed = 0;
    for _ in 0..300 {
        // Half anywhere in what is used, half in the head, of which the rest depends.
        let at = if chance.random_bool(0.5) {
            used[chance.random_range(0..used.len())]
        } else {
            chance.random_range(0..400)
        };
        let flipped = whole[at] ^ (1 << chance.random_range(0..8));
        fs::write(&file, &whole).unwrap();
        let mut open = OpenOptions::new().write(true).open(&file).unwrap();
        open.seek(SeekFrom::Start(at as u64)).unwrap();
        open.write_all(&[flipped]).unwrap();
        drop(open);
        match Store::open(home.path(), 1_000) {
            Err(StoreError::Unusable { .. }) => noticed += 1,
            Err(other) => panic!("byte {at}: {other}"),
            Ok((store, _)) => {
                assert_eq!(store.grants().find(1_000, |_| true), grants, "byte {at}");
                store.close();
            }
        }
    }
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn a_store_that_was_not_closed_says_so() {
    let (home, file, grants) = with_grants(3);
    let (store, kept) = Store::open(home.path(), 10).unwrap();
    assert_eq!(kept.recovery, Recovery::NotNeeded);
    // What a kill leaves behind is what is in the file now.
    let left = fs::read(&file).unwrap();
    store.close();
    fs::write(&file, left).unwrap();
    let (store, kept) = Store::open(home.path(), 10).unwrap();
    assert_eq!(kept.recovery, Recovery::LastCommitWhole);
    assert_eq!(store.grants().find(10, |_| true), grants);
}

#[test]
fn a_store_is_made_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("podgate.redb.new"), "of a start that was cut short").unwrap();
    let file = StoreFile::hold(home.path()).unwrap();
    let made = file.make(|_| Err(StoreError::Busy));
    assert!(matches!(made, Err(StoreError::Busy)));
    assert!(!file.exists().unwrap());
    assert!(matches!(file.open(), Err(StoreError::Directory { .. })));
    drop(file);
    let (store, kept) = Store::open(home.path(), 10).unwrap();
    assert!(kept.desk.is_new);
    store.close();
    let mut names: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["podgate.lock", FILE]);
    let mode = fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_record_that_cannot_be_read_is_told_by_table_and_key() {
    let (home, file, _) = with_grants(2);
    let database = redb::Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    let mut grants = write.open_table(TableDefinition::<u64, &[u8]>::new("grants")).unwrap();
    grants.insert(2, &[0xff_u8, 1, 2][..]).unwrap();
    drop(grants);
    write.commit().unwrap();
    drop(database);
    let failure = Store::open(home.path(), 10).err().unwrap();
    assert!(matches!(failure, StoreError::Record { table: "grants", .. }));
    assert!(failure.to_string().contains("0000000000000002"), "{failure}");
    assert!(failure.advice(home.path()).unwrap().contains("--skip-unreadable"));
}
