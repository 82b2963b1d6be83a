//! The settings of a run, parsed whole: every fault is found before anything is asked.

use std::{path::PathBuf, time::Duration};

use podgate_client::{Ask, Client, ClientConfig, Endpoint, Misconfigured, RetryPolicy, Subject};

use crate::{
    arguments::{Arguments, Given},
    destinations, duration,
    fault::{Fault, quoted},
    flags::{self, Flag},
    grant_file::GrantFile,
    identity,
    termination::TerminationLog,
    ticket_file::TicketFile,
};

/// The gateway that is asked unless another one is named.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7420";
/// Most gateways.
const ENDPOINTS_MAX: usize = 16;
/// Bounds of the wait and of its parts.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(5));

/// What a run needs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) ask: Ask,
    pub(crate) client: Client,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) wait: Duration,
    pub(crate) grant_file: Option<GrantFile>,
    pub(crate) ticket_file: Option<TicketFile>,
    pub(crate) on_unavailable: OnUnavailable,
}

/// What it means for the pod that no gateway decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnUnavailable {
    /// It does not start.
    Fail,
    /// It starts, without a grant.
    Continue,
}

/// Where the end is told, known even when other settings are wrong.
pub(crate) fn termination_log(arguments: &Arguments) -> TerminationLog {
    match arguments.one(flags::TERMINATION_LOG) {
        Some(given) => TerminationLog::at(PathBuf::from(&given.value)),
        None => TerminationLog::of_the_kubelet(),
    }
}

/// Parses everything; all faults at once.
pub(crate) fn parse(arguments: &Arguments, seed: u64) -> Result<Settings, Vec<Fault>> {
    let mut faults = arguments.faults.clone();
    let ask = ask(arguments, &mut faults);
    let endpoints = endpoints(arguments, &mut faults);
    let retry = RetryPolicy::default();
    let defaults = ClientConfig::new(endpoints);
    let wait = span(arguments, flags::WAIT, WAIT, retry.budget, &mut faults);
    let config = ClientConfig {
        ca_file: arguments.one(flags::CA_FILE).map(|given| PathBuf::from(&given.value)),
        server_name: arguments.one(flags::SERVER_NAME).map(|given| given.value.clone()),
        connect_timeout: span(
            arguments,
            flags::CONNECT_TIMEOUT,
            TIMEOUT,
            defaults.connect_timeout,
            &mut faults,
        ),
        call_timeout: span(arguments, flags::CALL_TIMEOUT, TIMEOUT, defaults.call_timeout, &mut faults),
        retry: RetryPolicy { budget: wait, ..retry },
        ..defaults
    };
    let on_unavailable = on_unavailable(arguments, &mut faults);
    let grant_file = grant_file(arguments, &mut faults);
    let ticket_file = ticket_file(arguments, grant_file.as_ref(), &mut faults);
    let client = client(&config, seed, &mut faults);
    match client {
        Some(client) if faults.is_empty() => {
            let endpoints = config.endpoints;
            Ok(Settings { ask, client, endpoints, wait, grant_file, ticket_file, on_unavailable })
        }
        _ => Err(faults),
    }
}

fn ask(arguments: &Arguments, faults: &mut Vec<Fault>) -> Ask {
    let app = arguments.one(flags::APP).map(|given| given.value.clone());
    if app.is_none() && !faults.iter().any(|fault| fault.source == "--app" || fault.source == "PODGATE_APP") {
        faults.push(Fault::new(
            "--app",
            "is missing; expected the name of the app's profile (or set PODGATE_APP)",
        ));
    }
    let cluster = arguments.one(flags::CLUSTER).map(|given| given.value.clone()).unwrap_or_default();
    let subject = if static_host(arguments, faults) {
        identity::static_host(arguments, cluster)
    } else {
        identity::pod(arguments, cluster, faults)
    };
    let destinations = destinations::read(arguments, faults);
    let ask = Ask { app: app.unwrap_or_default(), subject, destinations };
    for fault in ask.faults() {
        let source = source_of(fault.field, arguments);
        // What is missing has been said in better words.
        if !faults.iter().any(|known| known.source == source) && !fault.reason.starts_with("is empty") {
            faults.push(Fault::new(source, fault.reason));
        }
    }
    ask
}

/// The flag or variable behind a field of the request.
fn source_of(field: &str, arguments: &Arguments) -> String {
    let of_flag = |flag: Flag| match arguments.one(flag) {
        Some(given) => given.source.clone(),
        None => format!("--{}", flag.name),
    };
    match field {
        "app" => of_flag(flags::APP),
        "pod.cluster" | "static_host.cluster" => of_flag(flags::CLUSTER),
        "pod.namespace" => "POD_NAMESPACE".to_owned(),
        "pod.name" => "POD_NAME".to_owned(),
        "pod.uid" => "POD_UID".to_owned(),
        "pod.service_account" => "POD_SERVICE_ACCOUNT".to_owned(),
        "pod.node" | "static_host.name" => "NODE_NAME".to_owned(),
        "pod.addresses" => "POD_IPS".to_owned(),
        other => other.to_owned(),
    }
}

fn static_host(arguments: &Arguments, faults: &mut Vec<Fault>) -> bool {
    match arguments.one(flags::STATIC_HOST) {
        None => false,
        Some(Given { value, .. }) if value == "true" => true,
        Some(Given { value, .. }) if value == "false" => false,
        Some(Given { source, value }) => {
            faults.push(Fault::new(source, format!("{} is neither true nor false", quoted(value))));
            // Nothing should be demanded of a pod that may be none.
            true
        }
    }
}

fn endpoints(arguments: &Arguments, faults: &mut Vec<Fault>) -> Vec<Endpoint> {
    let default = [Given { source: "--endpoint".to_owned(), value: DEFAULT_ENDPOINT.to_owned() }];
    let given = match arguments.given(flags::ENDPOINT) {
        [] => &default[..],
        given => given,
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for Given { source, value } in given {
        let items: Vec<&str> =
            value.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()).collect();
        if items.is_empty() {
            faults.push(Fault::new(
                source,
                "names no endpoint; expected http://host:port or https://host:port",
            ));
        }
        for item in items {
            match item.parse::<Endpoint>() {
                Ok(endpoint) if endpoints.contains(&endpoint) => {}
                Ok(endpoint) if endpoints.len() < ENDPOINTS_MAX => endpoints.push(endpoint),
                Ok(endpoint) => {
                    faults.push(Fault::new(
                        source,
                        format!("{endpoint} is one too many; at most {ENDPOINTS_MAX}"),
                    ));
                    return endpoints;
                }
                Err(error) => faults.push(Fault::new(source, error.to_string())),
            }
        }
    }
    endpoints
}

fn span(
    arguments: &Arguments,
    flag: Flag,
    (least, most): (Duration, Duration),
    default: Duration,
    faults: &mut Vec<Fault>,
) -> Duration {
    let Some(Given { source, value }) = arguments.one(flag) else { return default };
    match duration::parse(value) {
        Some(span) if (least..=most).contains(&span) => return span,
        Some(_) => {
            let (least, most) = (duration::spoken(least), duration::spoken(most));
            faults.push(Fault::new(
                source,
                format!("{} is out of bounds; expected {least} to {most}", quoted(value)),
            ));
        }
        None => {
            let given = quoted(value);
            faults.push(Fault::new(
                source,
                format!("{given} is not a span; expected such as 90s, 9m, 1h30m or 500ms"),
            ));
        }
    }
    default
}

fn on_unavailable(arguments: &Arguments, faults: &mut Vec<Fault>) -> OnUnavailable {
    match arguments.one(flags::ON_UNAVAILABLE) {
        None => OnUnavailable::Fail,
        Some(Given { value, .. }) if value == "fail" => OnUnavailable::Fail,
        Some(Given { value, .. }) if value == "continue" => OnUnavailable::Continue,
        Some(Given { source, value }) => {
            faults
                .push(Fault::new(source, format!("{} is unknown; expected fail or continue", quoted(value))));
            OnUnavailable::Fail
        }
    }
}

fn grant_file(arguments: &Arguments, faults: &mut Vec<Fault>) -> Option<GrantFile> {
    let Given { source, value } = arguments.one(flags::GRANT_FILE)?;
    match GrantFile::prepare(PathBuf::from(value)) {
        Ok(file) => Some(file),
        Err(error) => {
            faults.push(Fault::new(source, format!("{} can't be written: {error}", quoted(value))));
            None
        }
    }
}

/// The place is not tried: whether an appointment can be kept there is nothing to fail for.
fn ticket_file(
    arguments: &Arguments,
    grant_file: Option<&GrantFile>,
    faults: &mut Vec<Fault>,
) -> Option<TicketFile> {
    let grant = grant_file.map(GrantFile::path);
    let (source, path) = match (arguments.one(flags::TICKET_FILE), grant) {
        (Some(Given { source, value }), _) => (source.as_str(), PathBuf::from(value)),
        (None, Some(grant)) => ("--ticket-file", TicketFile::beside(grant)),
        (None, None) => return None,
    };
    let shown = quoted(&path.to_string_lossy());
    if grant == Some(path.as_path()) {
        faults.push(Fault::new(source, format!("{shown} is the grant file; expected a file of its own")));
        return None;
    }
    match TicketFile::at(path) {
        Ok(file) => Some(file),
        Err(error) => {
            faults.push(Fault::new(source, format!("{shown} can't be used: {error}")));
            None
        }
    }
}

fn client(config: &ClientConfig, seed: u64, faults: &mut Vec<Fault>) -> Option<Client> {
    if config.endpoints.is_empty() {
        return None;
    }
    match Client::new(config, seed) {
        Ok(client) => Some(client),
        Err(error) => {
            let source = match error {
                Misconfigured::CaFile { .. } | Misconfigured::NoAuthority { .. } => "--ca-file",
                Misconfigured::Tls { .. } if config.server_name.is_some() => "--server-name",
                Misconfigured::Tls { .. } | Misconfigured::NoTls { .. } | Misconfigured::NoEndpoint => {
                    "--endpoint"
                }
            };
            faults.push(Fault::new(source, error.to_string()));
            None
        }
    }
}

/// The subject as the log names it.
pub(crate) fn named(subject: &Subject) -> String {
    match subject {
        Subject::Pod(pod) => {
            let name = if pod.name.is_empty() { "(unnamed)" } else { &pod.name };
            let mut text = format!("pod {}/{name}, uid {}", pod.namespace, pod.uid);
            for address in &pod.addresses {
                text.extend([", ", &address.to_string()]);
            }
            text
        }
        Subject::StaticHost(host) if host.name.is_empty() => "this machine".to_owned(),
        Subject::StaticHost(host) => format!("machine {}", host.name),
    }
}

#[cfg(test)]
mod tests {
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
                "PODGATE_ENDPOINT: \"gateway:7420\" is not an endpoint: the scheme is missing; \
                 expected http://host:port or https://host:port",
                "PODGATE_ENDPOINT: \"http://x:0\" is not an endpoint: the port is not between 1 and 65535; \
                 expected http://host:port or https://host:port",
                "PODGATE_WAIT: \"9 minutes\" is not a span; expected such as 90s, 9m, 1h30m or 500ms",
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
}
