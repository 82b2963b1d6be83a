//! What is made of flags and variables, and every fault in them.

use super::*;

const POD: [(&str, &str); 3] =
    [("POD_UID", "u-1"), ("POD_NAMESPACE", "hotel"), ("POD_SERVICE_ACCOUNT", "order")];

fn settings(args: &[&str], vars: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let vars = POD.iter().chain(vars).map(|(name, value)| (name.into(), value.into())).collect();
    parse(&Arguments::collect(args.iter().map(Into::into).collect(), vars), 1)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn little_has_to_be_said() {
    let settings = settings(&["--app", "hotel-order"], &[]).unwrap();
    assert_eq!(settings.wait, Duration::from_mins(9));
    assert_eq!(settings.endpoints, ["http://127.0.0.1:7420".parse().unwrap()]);
    assert_eq!((settings.on_unavailable, settings.grant_file.is_none()), (OnUnavailable::Fail, true));
    assert_eq!(named(&settings.ask.subject), "pod hotel/(unnamed), uid u-1");
}

#[test]
fn several_gateways_may_be_named() {
    let args = ["--endpoint", "http://a, https://b:1", "--endpoint", "http://a:7420"];
    let mut faults = Vec::new();
    let arguments = Arguments::collect(args.iter().map(Into::into).collect(), Vec::new());
    let named = endpoints(&arguments, &mut faults);
    assert_eq!(named, ["http://a".parse().unwrap(), "https://b:1".parse().unwrap()]);
    assert_eq!(faults, []);
}

#[test]
fn every_fault_is_found_at_once() {
    let vars = [
        ("PODGATE_WAIT", "9 minutes"),
        ("PODGATE_CLUSTER", "bj 1"),
        ("PODGATE_STATIC_HOST", "yes"),
        ("PODGATE_ENDPOINT", "gateway:7420,http://x:0"),
    ];
    let args = [
        "--connect-timeout=1h",
        "--on-unavailable=ignore",
        "--grant-file=/nonexistent/grant.json",
        "--destination=mysql",
    ];
    assert_eq!(
        settings(&args, &vars).unwrap_err(),
        [
            "--app: is missing; expected the name of the app's profile (or set PODGATE_APP)",
            "PODGATE_STATIC_HOST: \"yes\" is neither true nor false",
            "--destination: \"mysql\" is not a destination: the port is missing; \
             expected host:port[-last][/tcp|udp]",
            "PODGATE_CLUSTER: is \"bj 1\", but consists of letters, digits, '-', '_' and '.' only",
            "PODGATE_WAIT: \"9 minutes\" is not a span; expected such as 90s, 9m, 1h30m or 500ms",
            "PODGATE_ENDPOINT: \"gateway:7420\" is not an endpoint: the scheme is missing; \
             expected http://host:port or https://host:port",
            "PODGATE_ENDPOINT: \"http://x:0\" is not an endpoint: the port is not between 1 and 65535; \
             expected http://host:port or https://host:port",
            "--connect-timeout: \"1h\" is out of bounds; expected 10ms to 5m",
            "--on-unavailable: \"ignore\" is unknown; expected fail or continue",
            "--grant-file: \"/nonexistent/grant.json\" can't be written: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn a_ticket_is_kept_beside_the_grant_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let kept_at = |args: &[&str], vars: &[(&str, &str)]| {
        let args = [&["--app", "a"], args].concat();
        settings(&args, vars).map(|settings| settings.ticket_file.map(|file| file.path().to_owned()))
    };
    let grant = path("grant.json");
    assert_eq!(kept_at(&[], &[]), Ok(None));
    assert_eq!(kept_at(&["--grant-file", &grant], &[]), Ok(Some(path("podgate-ticket.json").into())));
    assert_eq!(kept_at(&[], &[("PODGATE_TICKET_FILE", "/x/t")]), Ok(Some("/x/t".into())));
    assert_eq!(
        kept_at(&["--grant-file", &grant, "--ticket-file", &grant], &[]).unwrap_err(),
        [format!("--ticket-file: \"{grant}\" is the grant file; expected a file of its own")]
    );
    assert_eq!(
        kept_at(&[], &[("PODGATE_TICKET_FILE", "/")]).unwrap_err(),
        ["PODGATE_TICKET_FILE: \"/\" can't be used: it names no file"]
    );
}

#[test]
fn a_uid_of_a_megabyte_is_refused() {
    let vars = [("POD_UID", "x".repeat(1 << 20))];
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let faults = settings(&["--app", "a"], &vars).unwrap_err();
    assert_eq!(faults, ["POD_UID: has 1048576 bytes, at most 64 are allowed"]);
}

#[test]
fn https_needs_an_authority() {
    let faults = settings(&["--app", "a", "--endpoint", "https://gateway:7420"], &[]).unwrap_err();
    assert_eq!(
        faults,
        ["--ca-file: https://gateway:7420 needs a CA file: no authority is trusted without one"]
    );
}

#[test]
fn a_machine_needs_no_pod() {
    let arguments = Arguments::collect(
        vec!["--static-host".into(), "--app=a".into()],
        vec![("NODE_NAME".into(), "vm-1".into())],
    );
    let settings = parse(&arguments, 1).unwrap();
    assert_eq!(named(&settings.ask.subject), "machine vm-1");
}

fn faults<T>(parsed: Result<T, Vec<Fault>>) -> Vec<String> {
    match parsed {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn collect(args: &[&str], vars: &[(&str, &str)]) -> Arguments {
    let vars = POD.iter().chain(vars).map(|(name, value)| (name.into(), value.into())).collect();
    Arguments::collect(args.iter().map(Into::into).collect(), vars)
}

#[test]
fn a_sidecar_renews_and_is_ready_beside_its_grant() {
    let directory = tempfile::tempdir().unwrap();
    let grant = directory.path().join("grant.json");
    let vars = [("PODGATE_GRANT_FILE", grant.to_str().unwrap())];
    let settings = parse_sidecar(&collect(&["sidecar", "--app", "a"], &vars), 1).unwrap();
    assert_eq!(settings.asking.ask.tenure, Tenure::Renewed);
    assert_eq!(settings.release_wait, Duration::from_secs(5));
    let beside = directory.path().join("podgate-ready");
    assert_eq!(settings.ready_file.unwrap().path(), beside);
    assert_eq!(parse_ready(&collect(&["ready"], &vars)).unwrap().path(), beside);
    assert_eq!(
        faults(parse_sidecar(&collect(&["sidecar", "--ready-file", grant.to_str().unwrap()], &vars), 1)),
        [
            "--app: is missing; expected the name of the app's profile (or set PODGATE_APP)".to_owned(),
            format!("--ready-file: \"{}\" is the grant file; expected a file of its own", grant.display()),
        ]
    );
}

#[test]
fn what_gives_back_needs_to_know_the_grant_and_nothing_of_the_pod() {
    let vars = [("PODGATE_WAIT", "soon"), ("PODGATE_GRANT_FILE", "/run/podgate/grant.json")];
    let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let settings = parse_release(&Arguments::collect(vec!["release".into()], vars), 1).unwrap();
    assert_eq!(settings.grant_file.path(), Path::new("/run/podgate/grant.json"));
    assert_eq!(
        faults(parse_release(&collect(&["release", "--release-wait=1h"], &[]), 1)),
        [
            "--release-wait: \"1h\" is out of bounds; expected 100ms to 5m",
            "--grant-file: is missing; expected the file that the grant is written in (or set PODGATE_GRANT_FILE)",
        ]
    );
    assert_eq!(
        faults(parse_ready(&collect(&["ready"], &[]))),
        ["--ready-file: is missing; expected the file that the sidecar was told (or set PODGATE_READY_FILE)"]
    );
}

#[test]
fn a_flag_of_another_command_is_a_fault_and_a_variable_is_none() {
    let arguments = collect(&["check", "--app=a", "--grant-file=/g", "--ready-file", "/r"], &[]);
    assert_eq!(
        faults(parse(&arguments, 1)),
        [
            "--grant-file: means nothing to podgate-init check",
            "--ready-file: means nothing to podgate-init check",
        ]
    );
    let arguments = collect(&["check", "--app=a"], &[("PODGATE_GRANT_FILE", "/nonexistent/g")]);
    assert!(parse(&arguments, 1).unwrap().grant_file.is_none());
    assert_eq!(
        faults(parse(&collect(&["sidcar", "--app=a"], &[]), 1)),
        ["\"sidcar\": is no command; did you mean sidecar?"]
    );
    assert_eq!(
        faults(parse(&collect(&["--app=a", "sidecar"], &[]), 1)),
        ["\"sidecar\": stands alone; expected a flag such as --app before it"]
    );
}
