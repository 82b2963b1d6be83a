//! `podgate store`: looked at, made smaller, exported, imported, by the program that ships; and a disk that is full.

use std::fs;

use podgate_proto::v1::ProfileServiceApplyRequest;
use podgate_proto::v1::{GrantOrigin, Verdict};
use podgate_tests::{
    binary::{Binary, Ended},
    caller::Caller,
    documents,
    eventually::eventually,
    gateway::Setup,
    refusal::reason,
    requests::authorize,
    small_disk::SmallDisk,
    yaml::{common_ports, profile},
};
use tonic::Code;

const DB: [(&str, u32); 1] = [("db.shop.svc", 3306)];

fn shop() -> Setup {
    Setup::new()
        .with_file("shop.yaml", profile("shop", DB[0].0, "  limits: { rate: 1000/s, burst: 1000 }\n"))
        .with_file("common.yaml", common_ports("everywhere", "dns.corp"))
}

async fn store(command: &str, directory: &str, more: &[&str]) -> Ended {
    Binary::Podgate.run(&[&["store", command, directory], more].concat(), &[]).await
}

#[tokio::test]
async fn an_export_is_served_by_another_gateway() {
    let gateway = shop().start().await;
    let directory = gateway.home().path("store").display().to_string();
    for command in ["check", "compact", "export"] {
        let refused = store(command, &directory, &[]).await;
        assert_eq!(refused.code, Some(1), "{command}: {refused:?}");
        assert!(refused.err.contains("is open in another process"), "{command}: {}", refused.err);
        assert!(refused.err.contains("stop the gateway"), "{command}: {}", refused.err);
    }
    let caller = Caller::of(&gateway).await;
    let lease = caller.granted(authorize("shop", "a", &DB)).await.lease.unwrap();
    let other = documents::profile("other", "db.other.svc");
    let request =
        ProfileServiceApplyRequest { profile: Some(other), ..ProfileServiceApplyRequest::default() };
    caller.profiles().apply(request).await.unwrap();
    let setup = gateway.kill().await;

    let checked = store("check", &directory, &[]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for part in ["had not been closed in order", "1 grants, ", "1 documents", "all good"] {
        assert!(checked.out.contains(part), "{}", checked.out);
    }
    let file = setup.home().path("export.jsonl").display().to_string();
    let exported = store("export", &directory, &["--out", &file]).await;
    assert_eq!((exported.code, exported.out.as_str()), (Some(0), ""), "{}", exported.err);
    assert!(exported.err.contains("the keys of tickets are not in it"), "{}", exported.err);
    let printed = store("export", &directory, &[]).await;
    let lines = fs::read_to_string(&file).unwrap();
    assert_eq!(printed.out.lines().skip(1).collect::<Vec<_>>(), lines.lines().skip(1).collect::<Vec<_>>());
    assert_eq!(store("compact", &directory, &[]).await.code, Some(0));

    let next = shop();
    let copy = next.home().path("store").display().to_string();
    let broken = next.home().path("broken.jsonl").display().to_string();
    fs::write(&broken, lines.replace("\"generation\":1", "\"generation\":\"one\"")).unwrap();
    let refused = store("import", &copy, &[&broken]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let line = 1 + lines.lines().position(|line| line.contains("\"generation\"")).unwrap();
    assert!(
        refused.err.contains(&format!("{broken}:{line}: grant.generation: invalid type")),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("nothing was imported"), "{}", refused.err);

    let imported = store("import", &copy, &[&file]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let again = store("import", &copy, &[&file]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("--replace"), "{}", again.err);
    assert_eq!(store("import", &copy, &["--replace", &file]).await.code, Some(0));

    let gateway = next.start().await;
    let caller = Caller::of(&gateway).await;
    let granted = caller.granted(authorize("shop", "a", &DB)).await;
    assert_eq!(granted.origin(), GrantOrigin::Repeated);
    assert_eq!(granted.lease.unwrap().grant_id, lease.grant_id);
    gateway.until_profiles(2).await;
}

#[tokio::test]
async fn a_store_that_is_damaged_is_refused_by_name_and_left_as_it_is() {
    let gateway = shop().start().await;
    Caller::of(&gateway).await.granted(authorize("shop", "a", &DB)).await;
    let setup = gateway.terminate().await;
    let (directory, file) = (setup.home().path("store"), setup.home().path("store/podgate.redb"));
    let directory = directory.display().to_string();
    let mut bytes = fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    for (damaged, part) in [(half, "it is damaged"), (0, "it is empty")] {
        bytes.truncate(damaged);
        fs::write(&file, &bytes).unwrap();
        let refused = setup.run_to_end().await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let checked = store("check", &directory, &[]).await;
        assert_eq!(checked.code, Some(11), "{checked:?}");
        for told in [&refused.err, &checked.err] {
            assert!(told.contains(part) && told.contains("podgate.redb"), "{told}");
            assert!(told.contains("podgate store import"), "{told}");
        }
        assert_eq!(fs::metadata(&file).unwrap().len(), damaged as u64);
    }
    let missing = store("check", "/nowhere/at/all", &[]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("there is no store"), "{}", missing.err);
}

#[tokio::test]
async fn a_full_disk_refuses_new_grants_and_answers_the_rest() {
    let setup = shop();
    let Some(disk) = SmallDisk::mount(&setup.home().path("store")) else {
        eprintln!(
            "!!! SKIPPED: a_full_disk_refuses_new_grants_and_answers_the_rest. No tmpfs can be mounted here."
        );
        return;
    };
    let gateway = setup.start().await;
    let (caller, other) = (Caller::of(&gateway).await, Caller::from(&gateway, "127.0.0.9").await);
    let held = caller.granted(authorize("shop", "a", &DB)).await.lease.unwrap();
    disk.fill();
    // What has room in the file's own pages may still be written.
    let refused = eventually("a refusal", async || {
        let number = gateway.metric("podgate_store_bytes").await.unwrap_or_default();
        assert!(number > 0.0);
        let uid = format!("next-{}", uid());
        other.authorize(authorize("shop", &uid, &DB)).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(reason(&refused), "STORE_UNAVAILABLE");
    for _ in 0..20 {
        let refused = other.refused(authorize("shop", &uid(), &DB)).await;
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(caller.check("127.0.0.1", DB[0].0, DB[0].1).await.grant_id, held.grant_id);
        assert_eq!(caller.check("127.0.0.1", "dns.corp", 53).await.verdict(), Verdict::Common);
        let again = caller.granted(authorize("shop", "a", &DB)).await;
        assert_eq!(again.origin(), GrantOrigin::Repeated);
        let common = other.granted(authorize("shop", "b", &[("dns.corp", 53)])).await;
        assert_eq!(common.origin(), GrantOrigin::Common);
    }
    disk.make_room();
    let granted =
        eventually("a grant", async || other.authorize(authorize("shop", "c", &DB)).await.ok()).await;
    drop(granted);
    let before = caller.all_grants().await;
    let gateway = gateway.kill().await.start().await;
    assert_eq!(Caller::of(&gateway).await.all_grants().await, before);
    drop(gateway);
}

fn uid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("uid-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
