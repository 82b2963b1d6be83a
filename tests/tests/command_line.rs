//! `podgate config`, `validate` and `explain`, and what `serve` refuses before it binds a port.

use podgate_tests::{
    binary::{Binary, Ended},
    home::Home,
    yaml::{common_ports, profile},
};

async fn podgate(arguments: &[&str]) -> Ended {
    Binary::Podgate.run(arguments, &[]).await
}

/// The value and origin that `config --print` shows for a setting.
fn setting<'a>(printed: &'a str, key: &str) -> Vec<&'a str> {
    let line = printed.lines().find(|line| line.split_whitespace().next() == Some(key));
    line.unwrap_or_else(|| panic!("no {key} in:\n{printed}")).split_whitespace().skip(1).collect()
}

#[tokio::test]
async fn each_setting_is_shown_with_where_it_came_from() {
    let home = Home::new();
    home.write("podgate.yaml", "workers: 3\nlimits:\n  perIp: { rate: 5/s, burst: 7 }\n  callsInFlight: 9\n");
    let file = home.path("podgate.yaml").display().to_string();
    let arguments = ["config", "--print", "--config", &file, "--workers", "5", "--insecure"];
    let variables =
        [("PODGATE_PER_IP_BURST", "8"), ("PODGATE_WORKERS", "4"), ("PODGATE_PORT_7420_TCP", "tcp://x")];
    let ended = Binary::Podgate.run(&arguments, &variables).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let at = |place: &str| format!("{file}:{place}");
    assert_eq!(setting(&ended.out, "listen"), ["127.0.0.1:7420", "default"]);
    assert_eq!(setting(&ended.out, "limits.perIp.rate"), ["5/s", &at("3:12")]);
    assert_eq!(setting(&ended.out, "limits.callsInFlight"), ["9", &at("4:3")]);
    assert_eq!(setting(&ended.out, "limits.perIp.burst"), ["8", "PODGATE_PER_IP_BURST"]);
    assert_eq!(setting(&ended.out, "workers"), ["5", "--workers"]);
    assert_eq!(setting(&ended.out, "insecure"), ["true", "--insecure"]);
    // The file can be named by a variable as well.
    let ended = Binary::Podgate.run(&["config", "--print"], &[("PODGATE_CONFIG", &file)]).await;
    assert_eq!(setting(&ended.out, "workers"), ["3", &at("1:1")]);
}

#[tokio::test]
async fn every_fault_of_the_settings_is_told_at_once() {
    let home = Home::new();
    home.write(
        "podgate.yaml",
        "lisen: 127.0.0.1:1\nworkers: many\nlimits:\n  perIP: { rate: 5/s }\n  capacity: { rate: 0/s }\n  connections: [1]\n",
    );
    let file = home.path("podgate.yaml").display().to_string();
    let variables = [("PODGATE_DRAIN_TIMEOUT", "soon"), ("PODGATE_LISEN", "127.0.0.1:1")];
    for command in [&["config", "--print"][..], &["serve"][..]] {
        let arguments = [command, &["--config", &file, "--http", "localhost"]].concat();
        let ended = Binary::Podgate.run(&arguments, &variables).await;
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        for fault in [
            format!("{file}:1:1: lisen: unknown key; did you mean `listen`?"),
            format!("{file}:2:1: workers: `many` is out of bounds; expected 0 to 1024"),
            format!("{file}:4:12: limits.perIP.rate: unknown key; did you mean `limits.perIp.rate`?"),
            format!("{file}:5:15: limits.capacity.rate: `0/s` is no rate"),
            format!("{file}:6:3: limits.connections: unknown key"),
            "PODGATE_LISEN: unknown variable; did you mean `PODGATE_LISTEN`?".to_owned(),
            "PODGATE_DRAIN_TIMEOUT: `soon` is no duration".to_owned(),
            "--http: `localhost` is no address".to_owned(),
        ] {
            assert!(ended.err.contains(&format!("error: {fault}")), "{fault:?} is not in:\n{}", ended.err);
        }
        assert_eq!(ended.err.lines().count(), 8, "{}", ended.err);
    }
}

#[tokio::test]
async fn a_misspelt_flag_gets_the_nearest_one() {
    let ended = podgate(&["serve", "--lisen", "127.0.0.1:0"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("'--listen'"), "{}", ended.err);
    for wrong in [&[][..], &["serv"], &["config"], &["validate"], &["explain", "--app", "a"]] {
        assert_eq!(podgate(wrong).await.code, Some(2), "{wrong:?}");
    }
    let help = podgate(&["serve", "--help"]).await;
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("[env: PODGATE_LISTEN]") && help.out.contains("[default: 127.0.0.1:7420]"));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_refused() {
    let home = Home::new();
    home.write("broken.yaml", "listen: [127.0.0.1:1\n");
    for (name, said) in [("broken.yaml", "broken.yaml:"), ("missing.yaml", "cannot be read")] {
        let file = home.path(name).display().to_string();
        let ended = podgate(&["serve", "--config", &file]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[tokio::test]
async fn an_open_door_needs_a_word_that_says_so() {
    for open in ["0.0.0.0:0", "[::]:0", "10.8.3.17:7420"] {
        let ended = podgate(&["serve", "--listen", open]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains("--insecure") && ended.err.contains(open), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, home) = (taken.local_addr().unwrap().to_string(), Home::new());
    let store = home.path("store").display().to_string();
    let ended = podgate(&["serve", "--listen", &address, "--store", &store]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains(&format!("cannot listen on {address} (listen)")), "{}", ended.err);
}

const BAD: &str = "\
apiVersion: podgate.io/v2
kind: AppProfile
metadata: { name: Bad }
spec:
  subjects:
    - hosts: { cidrs: [10.1.2.3/24] }
  allow:
    - { name: db, host: [db], ports: [3306-3300] }
  limits: { rate: fast, burst: 0 }
  lease: { maxAge: 1y }
---
kind: AppProfil
";

#[tokio::test]
async fn validate_tells_every_fault_of_every_file() {
    let home = Home::new();
    home.write("a/shop.yaml", profile("shop", "db.shop.svc", ""));
    home.write("common.yaml", common_ports("everywhere", "dns.corp"));
    let root = home.path("").display().to_string();
    let good = podgate(&["validate", &root]).await;
    assert_eq!((good.code, good.err.as_str()), (Some(0), ""));
    assert!(
        good.out.contains("1 profiles, 1 common-ports documents and 0 rate-limits documents, all good"),
        "{}",
        good.out
    );

    home.write("bad.yaml", BAD);
    home.write("worse.yml", "kind: [\n");
    home.write("worst.yaml", b"\xff");
    let bad = podgate(&["validate", &root]).await;
    assert_eq!(bad.code, Some(2));
    for fault in [
        "bad.yaml:1:13: apiVersion: `podgate.io/v2` is not known here; expected podgate.io/v1",
        "bad.yaml:3:19: metadata.name: `Bad` is no name",
        "bad.yaml:6:24: spec.subjects[0].hosts.cidrs[0]: `10.1.2.3/24` has host bits set; did you mean `10.1.2.0/24`?",
        "bad.yaml:8:19: spec.allow[0].host: unknown key; did you mean `hosts`?",
        "spec.allow[0].hosts: ",
        "bad.yaml:8:39: spec.allow[0].ports[0]: the range 3306-3300 runs backwards",
        "bad.yaml:9:19: spec.limits.rate: `fast` is no rate",
        "bad.yaml:9:32: spec.limits.burst: ",
        "spec.lease.maxAge: ",
        "bad.yaml:12:7: kind: `AppProfil` is no kind; expected AppProfile, CommonPorts, RateLimits; did you mean `AppProfile`?",
        "worse.yml:",
        "worst.yaml: is not UTF-8 text (at byte 0)",
        "nothing of this would be put in force",
    ] {
        assert!(bad.err.contains(fault), "{fault:?} is not in:\n{}", bad.err);
    }
    let missing = podgate(&["validate", "/nonexistent"]).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("/nonexistent: cannot be read"), "{}", missing.err);
}

#[tokio::test]
async fn explain_decides_without_a_gateway() {
    let home = Home::new();
    home.write("shop.yaml", profile("shop", "db.shop.svc", ""));
    home.write("common.yaml", common_ports("everywhere", "dns.corp"));
    let root = home.path("").display().to_string();
    let explain = async |more: &[&str]| {
        let pod = ["explain", "--profiles", &root, "--namespace", "shop", "--service-account", "shop"];
        podgate(&[&pod, more].concat()).await
    };
    for (more, code, said) in [
        (&["--app", "shop"][..], 0, "allowed  db.shop.svc:3306/TCP  by rule `db` of `shop`"),
        (
            &["--app", "shop", "--destination", "dns.corp:53"],
            0,
            "common   dns.corp:53/TCP  by rule `dns` of `everywhere`",
        ),
        (
            &["--app", "shop", "--destination", "db.shop.svc:3300-3306/tcp"],
            10,
            "rule `db` of `shop` allows the host db.shop.svc, but not all of the ports 3300-3306",
        ),
        (&["--app", "shop", "--destination", "db.shop.svc:3306/udp"], 10, "but not over UDP"),
        (&["--app", "shop", "--destination", "else.where:1"], 10, "no rule allows the host else.where"),
        (&["--app", "nobody", "--destination", "db.shop.svc:3306"], 10, "there is no profile `nobody`"),
    ] {
        let ended = explain(more).await;
        assert_eq!(ended.code, Some(code), "{more:?}: {}{}", ended.out, ended.err);
        assert!(ended.out.contains(said), "{said:?} is not in:\n{}", ended.out);
    }
    let host =
        podgate(&["explain", "--profiles", &root, "--app", "shop", "--host-address", "10.1.2.3"]).await;
    assert_eq!(host.code, Some(10), "{}", host.err);
    assert!(host.out.contains("does not list host 10.1.2.3"), "{}", host.out);

    let wrong = explain(&["--app", "shop", "--destination", "db", "--destination", "db:0"]).await;
    assert_eq!((wrong.code, wrong.err.lines().count()), (Some(2), 2), "{}", wrong.err);
    let nobody = podgate(&["explain", "--profiles", &root, "--app", "shop"]).await;
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.err.contains("who asks?"), "{}", nobody.err);
    home.write("bad.yaml", BAD);
    assert_eq!(explain(&["--app", "shop"]).await.code, Some(2));
}

/// The kubelet names variables after Services; one called `podgate` makes PODGATE_PORT.
#[tokio::test]
async fn variables_of_a_service_called_podgate_are_no_misspelt_settings() {
    let variables = [
        ("PODGATE_SERVICE_HOST", "10.0.0.1"),
        ("PODGATE_SERVICE_PORT", "7420"),
        ("PODGATE_SERVICE_PORT_GRPC", "7420"),
        ("PODGATE_PORT", "tcp://10.0.0.1:7420"),
        ("PODGATE_PORT_7420_TCP", "tcp://10.0.0.1:7420"),
        ("PODGATE_PORT_7420_TCP_ADDR", "10.0.0.1"),
    ];
    let ended = Binary::Podgate.run(&["config", "--print"], &variables).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}
