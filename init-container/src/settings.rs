//! The settings of a run, parsed whole: every fault is found before anything is asked.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use podgate_client::{Ask, Client, ClientConfig, Endpoint, Misconfigured, RetryPolicy, Subject, Tenure};

use crate::{
    arguments::{Arguments, Given},
    command::Command,
    destinations, duration,
    fault::{Fault, quoted},
    flags::{self, Flag},
    grant_file::GrantFile,
    identity,
    ready_file::ReadyFile,
    termination::TerminationLog,
    ticket_file::TicketFile,
};

/// The gateway that is asked unless another one is named.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7420";
/// Most gateways.
const ENDPOINTS_MAX: usize = 16;
/// Bounds of the wait and of its parts.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));
const RELEASE_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(5));
/// Well within a pod's grace, of which the main containers may have left little.
const RELEASE_WAIT_DEFAULT: Duration = Duration::from_secs(5);
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(5));

/// What a run that asks needs.
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

/// What a sidecar needs.
#[derive(Debug)]
pub(crate) struct SidecarSettings {
    pub(crate) asking: Settings,
    pub(crate) ready_file: Option<ReadyFile>,
    pub(crate) release_wait: Duration,
    /// Draws the delays between renewals.
    pub(crate) seed: u64,
}

/// What giving a grant back needs.
#[derive(Debug)]
pub(crate) struct ReleaseSettings {
    pub(crate) client: Client,
    pub(crate) grant_file: GrantFile,
    pub(crate) release_wait: Duration,
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

/// Parses everything of a run that asks; all faults at once.
pub(crate) fn parse(arguments: &Arguments, seed: u64) -> Result<Settings, Vec<Fault>> {
    let mut faults = arguments.faults.clone();
    asking(arguments, seed, &mut faults).filter(|_| faults.is_empty()).ok_or(faults)
}

/// Parses everything of a sidecar; all faults at once.
pub(crate) fn parse_sidecar(arguments: &Arguments, seed: u64) -> Result<SidecarSettings, Vec<Fault>> {
    let mut faults = arguments.faults.clone();
    let asking = asking(arguments, seed, &mut faults);
    let grant_file = asking.as_ref().and_then(|asking| asking.grant_file.as_ref());
    let ready_file = ready_file(arguments, grant_file.map(GrantFile::path), &mut faults);
    let release_wait = release_wait(arguments, &mut faults);
    let settings = asking.map(|asking| SidecarSettings { asking, ready_file, release_wait, seed });
    settings.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Parses everything of giving a grant back; all faults at once.
pub(crate) fn parse_release(arguments: &Arguments, seed: u64) -> Result<ReleaseSettings, Vec<Fault>> {
    let mut faults = arguments.faults.clone();
    let config = client_config(arguments, RetryPolicy::default(), &mut faults);
    let release_wait = release_wait(arguments, &mut faults);
    let grant_file = match arguments.one(flags::GRANT_FILE) {
        None => {
            missing(flags::GRANT_FILE, "the file that the grant is written in", &mut faults);
            None
        }
        Some(given) => usable(GrantFile::at(PathBuf::from(&given.value)), given, &mut faults),
    };
    let client = client(&config, seed, &mut faults);
    let settings = client.zip(grant_file);
    let settings = settings.map(|(client, grant_file)| ReleaseSettings { client, grant_file, release_wait });
    settings.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Parses where a sidecar says that it is ready; all faults at once.
pub(crate) fn parse_ready(arguments: &Arguments) -> Result<ReadyFile, Vec<Fault>> {
    let mut faults = arguments.faults.clone();
    let grant_file = arguments.one(flags::GRANT_FILE).map(|given| PathBuf::from(&given.value));
    let file = ready_file(arguments, grant_file.as_deref(), &mut faults);
    if file.is_none() && faults.is_empty() {
        missing(flags::READY_FILE, "the file that the sidecar was told", &mut faults);
    }
    file.filter(|_| faults.is_empty()).ok_or(faults)
}

fn asking(arguments: &Arguments, seed: u64, faults: &mut Vec<Fault>) -> Option<Settings> {
    let ask = ask(arguments, faults);
    let retry = RetryPolicy::default();
    let wait = span(arguments, flags::WAIT, WAIT, retry.budget, faults);
    let config = client_config(arguments, RetryPolicy { budget: wait, ..retry }, faults);
    let on_unavailable = on_unavailable(arguments, faults);
    let grant_file = grant_file(arguments, faults);
    let ticket_file = ticket_file(arguments, grant_file.as_ref(), faults);
    let client = client(&config, seed, faults)?;
    let endpoints = config.endpoints;
    Some(Settings { ask, client, endpoints, wait, grant_file, ticket_file, on_unavailable })
}

fn client_config(arguments: &Arguments, retry: RetryPolicy, faults: &mut Vec<Fault>) -> ClientConfig {
    let defaults = ClientConfig::new(endpoints(arguments, faults));
    ClientConfig {
        ca_file: arguments.one(flags::CA_FILE).map(|given| PathBuf::from(&given.value)),
        server_name: arguments.one(flags::SERVER_NAME).map(|given| given.value.clone()),
        connect_timeout: span(arguments, flags::CONNECT_TIMEOUT, TIMEOUT, defaults.connect_timeout, faults),
        call_timeout: span(arguments, flags::CALL_TIMEOUT, TIMEOUT, defaults.call_timeout, faults),
        retry,
        ..defaults
    }
}

fn release_wait(arguments: &Arguments, faults: &mut Vec<Fault>) -> Duration {
    span(arguments, flags::RELEASE_WAIT, RELEASE_WAIT, RELEASE_WAIT_DEFAULT, faults)
}

fn ask(arguments: &Arguments, faults: &mut Vec<Fault>) -> Ask {
    let app = arguments.one(flags::APP).map(|given| given.value.clone());
    if app.is_none() {
        missing(flags::APP, "the name of the app's profile", faults);
    }
    let cluster = arguments.one(flags::CLUSTER).map(|given| given.value.clone()).unwrap_or_default();
    let subject = if static_host(arguments, faults) {
        identity::static_host(arguments, cluster)
    } else {
        identity::pod(arguments, cluster, faults)
    };
    let destinations = destinations::read(arguments, faults);
    let tenure = match arguments.command {
        Command::Sidecar => Tenure::Renewed,
        Command::Init | Command::Check | Command::Ready | Command::Release => Tenure::Lasting,
    };
    let ask = Ask { app: app.unwrap_or_default(), subject, destinations, tenure };
    for fault in ask.faults() {
        let source = source_of(fault.field, arguments);
        // What is missing has been said in better words.
        if !faults.iter().any(|known| known.source == source) && !fault.reason.starts_with("is empty") {
            faults.push(Fault::new(source, fault.reason));
        }
    }
    ask
}

/// Says that a setting is not there, unless it is there and has its fault already.
fn missing(flag: Flag, expected: &str, faults: &mut Vec<Fault>) {
    let source = format!("--{}", flag.name);
    if !faults.iter().any(|fault| fault.source == source || fault.source == flag.variable) {
        faults
            .push(Fault::new(source, format!("is missing; expected {expected} (or set {})", flag.variable)));
    }
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

/// As the ticket file, it is beside the grant file unless it is named.
fn ready_file(
    arguments: &Arguments,
    grant_file: Option<&Path>,
    faults: &mut Vec<Fault>,
) -> Option<ReadyFile> {
    let given = match (arguments.one(flags::READY_FILE), grant_file) {
        (Some(given), _) => given.clone(),
        (None, Some(grant)) => Given {
            source: "--ready-file".to_owned(),
            value: ReadyFile::beside(grant).to_string_lossy().into_owned(),
        },
        (None, None) => return None,
    };
    if grant_file == Some(Path::new(&given.value)) {
        let shown = quoted(&given.value);
        faults
            .push(Fault::new(given.source, format!("{shown} is the grant file; expected a file of its own")));
        return None;
    }
    usable(ReadyFile::at(PathBuf::from(&given.value)), &given, faults)
}

/// The place, or the fault that it is none.
fn usable<T>(place: std::io::Result<T>, given: &Given, faults: &mut Vec<Fault>) -> Option<T> {
    match place {
        Ok(place) => Some(place),
        Err(error) => {
            let shown = quoted(&given.value);
            faults.push(Fault::new(&given.source, format!("{shown} can't be used: {error}")));
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
#[path = "settings_tests.rs"]
mod tests;
