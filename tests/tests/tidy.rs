//! The house style, as far as a program can read it: arrows between crates and modules, what the engine may not do,
//! how files look, and which TLS provider is built into what.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use podgate_tests::{
    rust_file::RustFile,
    workspace::{Crate, cargo, crates, root, rust_files},
};

/// Which crates of the workspace a crate is built on.
const CRATES: [(&str, &[&str]); 8] = [
    ("podgate-proto", &[]),
    ("podgate-engine", &[]),
    ("podgate", &["podgate-engine", "podgate-proto"]),
    ("podgate-client", &["podgate-proto"]),
    ("podgate-init", &["podgate-client"]),
    // The engine for its words alone (destinations, ports, grants' ids): what a guard covers is said there, once.
    ("podgate-agent", &["podgate-client", "podgate-engine", "podgate-proto"]),
    ("podgate-loadtest", &["podgate", "podgate-client", "podgate-engine", "podgate-proto"]),
    (
        "podgate-tests",
        &["podgate", "podgate-client", "podgate-engine", "podgate-init", "podgate-loadtest", "podgate-proto"],
    ),
];

/// Which modules of the server a module may know, beside the engine; a module that is not named may know all.
const SERVER_MODULES: [(&str, &[&str]); 12] = [
    ("clock", &[]),
    ("environment", &[]),
    ("wording", &[]),
    ("document", &[]),
    ("config", &["document"]),
    ("authn", &["clock", "config"]),
    ("limits", &["clock", "config"]),
    ("source", &["clock", "config", "document"]),
    ("store", &["clock", "config", "vital"]),
    ("upstream", &["clock", "config", "store", "vital"]),
    ("gate", &["authn", "clock", "config", "document", "limits", "source", "store", "upstream"]),
    (
        "grpc",
        &["authn", "clock", "config", "document", "gate", "limits", "source", "store", "upstream", "wording"],
    ),
];

/// What knows the wire, and must not be known by what decides.
const WIRE: [&str; 9] =
    ["axum", "h2", "http", "http_body", "hyper", "hyper_util", "podgate_proto", "tonic", "tower"];

/// What the engine does not do: no I/O, no threads, no clock, no chance.
const NOT_IN_THE_ENGINE: [&str; 15] = [
    "getrandom",
    "h2",
    "hyper",
    "mio",
    "rand",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "tonic",
];

/// Names of sockets and clocks; addresses and durations are values, and fine.
const NOT_IN_THE_ENGINE_EITHER: [&str; 8] = [
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::net::*",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::*",
];

/// Longest file that is no test.
const LINES_MAX: usize = 500;

/// Fails with everything that is wrong at once.
#[track_caller]
fn expect_none(faults: &BTreeSet<String>) {
    assert!(faults.is_empty(), "\n{}", faults.iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn allowed_crates(name: &str) -> BTreeSet<&'static str> {
    let row = CRATES.iter().find(|(mine, _)| *mine == name);
    row.unwrap_or_else(|| panic!("{name} is new: say in CRATES what it may be built on"))
        .1
        .iter()
        .copied()
        .collect()
}

/// Everything below a crate, at any distance.
fn below(name: &str) -> BTreeSet<&'static str> {
    let direct = allowed_crates(name);
    let further: Vec<_> = direct.iter().flat_map(|name| below(name)).collect();
    direct.into_iter().chain(further).collect()
}

fn of_workspace(name: &str) -> bool {
    CRATES.iter().any(|(mine, _)| *mine == name)
}

#[test]
fn crates_are_built_on_what_lies_below_them() {
    let mut faults = BTreeSet::new();
    for Crate { name, dependencies, dev_dependencies, .. } in crates() {
        let (allowed, below) = (allowed_crates(&name), below(&name));
        for other in dependencies.iter().filter(|other| of_workspace(other)) {
            if !allowed.contains(other.as_str()) {
                faults.insert(format!("{name} is built on {other}"));
            }
        }
        for other in dev_dependencies.iter().filter(|other| of_workspace(other) && **other != name) {
            if !below.contains(other.as_str()) {
                faults.insert(format!("the tests of {name} are built on {other}"));
            }
        }
    }
    expect_none(&faults);
}

#[test]
fn imports_follow_the_arrows_between_crates() {
    let mut faults = BTreeSet::new();
    for one in crates() {
        let allowed = allowed_crates(&one.name);
        for file in one.sources().iter().filter(|file| !file.is_test()) {
            for path in file.paths() {
                let first = path.split("::").next().unwrap_or_default().replace('_', "-");
                if of_workspace(&first) && first != one.name && !allowed.contains(first.as_str()) {
                    faults.insert(format!("{}: {path}", shown(&file.path)));
                }
            }
        }
    }
    expect_none(&faults);
}

/// The files of the server with the top module that each belongs to.
fn server_files() -> Vec<(String, RustFile)> {
    let server = root().join("server/src");
    let files = rust_files(&server).into_iter().filter(|file| !file.is_test());
    files
        .map(|file| {
            let inside = file.path.strip_prefix(&server).unwrap_or(&file.path).with_extension("");
            let top = inside.components().next().map(|top| top.as_os_str().to_string_lossy().into_owned());
            (top.unwrap_or_default(), file)
        })
        .collect()
}

/// The server's modules that a file names.
fn modules_named(file: &RustFile) -> BTreeSet<String> {
    let paths = file.paths().into_iter();
    paths.filter_map(|path| path.strip_prefix("crate::")?.split("::").next().map(str::to_owned)).collect()
}

#[test]
fn modules_of_the_server_know_what_lies_below_them() {
    let mut faults = BTreeSet::new();
    for (top, file) in server_files() {
        let Some((_, allowed)) = SERVER_MODULES.iter().find(|(name, _)| *name == top) else { continue };
        for other in modules_named(&file) {
            if other != top && !allowed.contains(&other.as_str()) {
                faults.insert(format!("{}: crate::{other}", shown(&file.path)));
            }
        }
    }
    expect_none(&faults);
}

#[test]
fn modules_of_the_server_form_no_circle() {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (top, file) in server_files().into_iter().filter(|(top, _)| !matches!(top.as_str(), "lib" | "main")) {
        let mut named = modules_named(&file);
        named.remove(&top);
        arrows.entry(top).or_default().extend(named);
    }
    // What knows nothing that is left can be built; what is left in the end goes round in a circle.
    loop {
        let left: BTreeSet<String> = arrows.keys().cloned().collect();
        let before = arrows.len();
        arrows.retain(|_, named| named.iter().any(|name| left.contains(name)));
        if arrows.len() == before {
            break;
        }
    }
    assert!(arrows.is_empty(), "{arrows:?}");
}

#[test]
fn what_decides_knows_no_wire() {
    let mut faults = BTreeSet::new();
    for (top, file) in server_files() {
        // The store's records are messages of their own package, `podgate_proto::store`.
        let is_store = |path: &str| top == "store" && is_within(path, "podgate_proto::store");
        if matches!(top.as_str(), "authn" | "document" | "gate" | "limits" | "source" | "store" | "wording") {
            for path in file.paths() {
                if WIRE.iter().any(|name| is_within(&path, name)) && !is_store(&path) {
                    faults.insert(format!("{}: {path}", shown(&file.path)));
                }
            }
        }
    }
    expect_none(&faults);
}

#[test]
fn the_engine_is_pure() {
    let mut faults = BTreeSet::new();
    for file in rust_files(&root().join("engine/src")).iter().filter(|file| !file.is_test()) {
        let banned = NOT_IN_THE_ENGINE.iter().chain(&NOT_IN_THE_ENGINE_EITHER);
        for path in file.paths() {
            if banned.clone().any(|name| is_within(&path, name)) {
                faults.insert(format!("{}: {path}", shown(&file.path)));
            }
        }
        for word in file.words().iter().filter(|word| matches!(word.as_str(), "async" | "await")) {
            faults.insert(format!("{}: {word}", shown(&file.path)));
        }
    }
    let engine = crates().into_iter().find(|one| one.name == "podgate-engine").unwrap();
    for name in engine.dependencies.iter().filter(|name| NOT_IN_THE_ENGINE.contains(&name.as_str())) {
        faults.insert(format!("engine/Cargo.toml: {name}"));
    }
    expect_none(&faults);
}

#[test]
fn files_look_as_they_should() {
    let mut faults = BTreeSet::new();
    for file in rust_files(root()) {
        let path = shown(&file.path);
        if !file.text.starts_with("//! ") {
            faults.insert(format!("{path}: does not open with a line that says what it is for (`//! …`)"));
        }
        if file.path.file_name().is_some_and(|name| name == "mod.rs") {
            faults.insert(format!("{path}: `foo.rs` with `foo/`, not `foo/mod.rs`"));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX && !file.is_test() {
            faults.insert(format!("{path}: {lines} lines; at most {LINES_MAX}, and better 300"));
        }
        for attribute in file.attributes() {
            if attribute.starts_with("allow(") && !attribute.contains("reason=") {
                faults.insert(format!("{path}: #[{attribute}] without a reason; `#[expect(…, reason = …)]`"));
            }
        }
    }
    expect_none(&faults);
}

#[test]
fn each_program_has_the_tls_provider_that_is_meant_for_it() {
    for (program, wanted, unwanted) in
        [("podgate-init", "ring", "aws-lc-rs"), ("podgate", "", "ring"), ("podgate-loadtest", "", "ring")]
    {
        let tree = cargo(&["tree", "-p", program, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
        let holds = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
        assert!(wanted.is_empty() || holds(wanted), "{program} is built without {wanted}");
        assert!(!holds(unwanted), "{program} is built with {unwanted}");
    }
}

/// The reader of Rust files itself, on what it has to tell apart.
#[test]
fn paths_and_tests_are_told_apart() {
    let text = r#"
        //! About crate::comment.
        use a::{b, c::{self, d as e}, *};
        #[derive(Debug)] struct X(crate::store::Y<'static>);
        fn f() { let text = "crate::text"; vec![g::h::<i::j>(1)]; x.k::<l::m>(); }
        #[cfg(test)] mod tests { use n::o; }
        #[cfg(test)] #[path = "x_tests.rs"] mod more;
        #[allow(dead_code)] fn z() { async {}; p::q }
    "#;
    let file = RustFile::parse(Path::new("x.rs"), text.to_owned());
    let expected =
        ["a::b", "a::c::self", "a::c::d", "a::*", "crate::store::Y", "g::h", "i::j", "l::m", "p::q"];
    assert_eq!(file.paths(), expected);
    assert!(file.words().contains(&"async".to_owned()) && !file.words().contains(&"n".to_owned()));
    assert!(file.attributes().contains(&"allow(dead_code)".to_owned()));
}
