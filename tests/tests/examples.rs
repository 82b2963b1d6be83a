//! What the repository shows as an example is good, and says what is so.

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

/// The values that `config --print` shows.
async fn settings(arguments: &[&str]) -> BTreeMap<String, String> {
    let ended = Binary::Podgate.run(&[&["config", "--print"], arguments].concat(), &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines = ended.out.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, value @ .., _origin] = &words[..] else { panic!("{line}") };
        ((*key).to_owned(), value.join(" "))
    });
    lines.collect()
}

/// The defaults that a configuration's comments claim: `Default 20s.` above a key, or `# default` behind its value.
fn claims(text: &str) -> BTreeMap<String, String> {
    let mut claims = BTreeMap::new();
    let (mut around, mut comment): (Vec<(usize, &str)>, String) = Default::default();
    for line in text.lines() {
        let words = line.trim_start();
        if let Some(more) = words.strip_prefix('#') {
            comment.push_str(more);
            continue;
        }
        let Some((key, rest)) = words.split_once(':') else {
            comment.clear();
            continue;
        };
        let depth = line.len() - words.len();
        around.retain(|(other, _)| *other < depth);
        around.push((depth, key));
        let key = around.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        let (value, behind) = rest.split_once(" #").unwrap_or((rest, ""));
        if behind.split([' ', ';']).any(|word| word == "default") {
            claims.insert(key, value.trim().trim_matches('"').to_owned());
        } else if let Some((_, claim)) = comment.split_once("Default ") {
            let claim = claim.split(' ').next().unwrap_or_default().trim_end_matches(['.', ',', ';']);
            claims.insert(key, claim.to_owned());
        }
        comment.clear();
    }
    claims
}

#[tokio::test]
async fn the_example_configuration_is_good_and_right_about_the_defaults() {
    let file = "examples/podgate.yaml";
    let (in_force, defaults) = (settings(&["--config", file]).await, settings(&[]).await);
    let text = fs::read_to_string(root().join(file)).unwrap();
    for (key, _) in in_force.iter().filter(|(_, value)| !value.is_empty()) {
        let last = key.rsplit('.').next().unwrap_or_default();
        assert!(text.contains(&format!("{last}:")), "{file} does not show {key}");
    }
    let claims = claims(&text);
    assert!(claims.len() > 10, "{claims:?}");
    for (key, claim) in claims {
        assert_eq!(defaults.get(&key), Some(&claim), "{file}: {key}");
    }
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
