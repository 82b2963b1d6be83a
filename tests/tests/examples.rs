//! What the repository shows as an example is good.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use podgate_tests::{binary::Binary, gateway::Setup, home::Home, init::Init, workspace::root};

#[tokio::test]
async fn the_example_profiles_are_good() {
    let ended = Binary::Podgate.run(&["validate", "examples/profiles"], &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

/// As `examples/README.md` tells it.
#[tokio::test]
async fn the_demo_works_as_it_is_told() {
    let profiles = root().join("examples/profiles").display().to_string();
    let gateway = Setup::new().flag("--profiles", &profiles).start().await;
    let demo = |app: &str, uid: &str| {
        let init = Init::for_app(app, &gateway.endpoint()).variable("POD_UID", uid);
        init.variable("POD_NAMESPACE", "demo").variable("POD_SERVICE_ACCOUNT", app)
    };
    let asked = demo("demo", "a").argument("--destination", "mysql.demo.svc:3306,redis.demo.svc:6379-6381");
    let ended = asked.run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    let ended = demo("demo", "a").argument("--destination", "mysql.demo.svc:3307").run().await;
    assert_eq!(ended.code, Some(10), "{}", ended.out());
    let ended = demo("slow", "b").argument("--wait", "10s").run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    let ended = demo("slow", "c").argument("--wait", "10s").run().await;
    assert_eq!(ended.code, Some(11), "{}", ended.out());
}

/// Every file below a directory, by its path in it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), PathBuf::from(entry.file_name()))).unwrap();
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn generated_profiles_are_good_and_the_same_from_the_same_seed() {
    let home = Home::new();
    let generate = async |name: &str| {
        let out = home.path(name).display().to_string();
        let line =
            ["generate", "--apps", "30", "--rules", "5", "--seed", "7", "--per-file", "10", "--out", &out];
        let ended = Binary::LoadTest.run(&line, &[]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let ended = Binary::Podgate.run(&["validate", &out], &[]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(ended.out.contains("30 profiles"), "{}", ended.out);
        contents(Path::new(&out))
    };
    assert_eq!(generate("first").await, generate("second").await);
}
