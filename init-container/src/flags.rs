//! The flags and their variables: what there is, and the page that tells of it.

use crate::command::Command::{self, Check, Init, Ready, Release, Sidecar};

/// A setting that is given by flag or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Name without the dashes.
    pub(crate) name: &'static str,
    /// The variable that means the same.
    pub(crate) variable: &'static str,
    pub(crate) takes: Takes,
    /// The commands that it means something to.
    commands: &'static [Command],
    /// Placeholder of the value in the help text.
    value: &'static str,
    help: &'static [&'static str],
}

/// The commands that ask for access, or would.
const ASKING: &[Command] = &[Init, Sidecar, Check];
/// Those that call a gateway.
const CALLING: &[Command] = &[Init, Sidecar, Check, Release];
/// Those that leave a grant.
const GRANTED: &[Command] = &[Init, Sidecar];

impl Flag {
    /// Whether it means something to this command.
    pub(crate) fn is_of(self, command: Command) -> bool {
        self.commands.contains(&command)
    }
}

/// How many values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// None: it is there or it is not; its variable is `true` or `false`.
    Nothing,
    /// One.
    One,
    /// Any number, by repetition or as a list with commas or line breaks.
    Many,
}

macro_rules! flags {
    ($($constant:ident = $name:literal, $variable:literal, $takes:ident, $commands:expr, $value:literal, [$($help:literal),+];)+) => {
        $(pub(crate) const $constant: Flag = Flag {
            name: $name, variable: $variable, takes: Takes::$takes, commands: $commands, value: $value,
            help: &[$($help),+],
        };)+
        /// All of them, in the order of the help text.
        pub(crate) const ALL: &[Flag] = &[$($constant),+];
    };
}

flags! {
    APP = "app", "PODGATE_APP", One, ASKING, "NAME", ["The app in whose name the pod asks. Required."];
    ENDPOINT = "endpoint", "PODGATE_ENDPOINT", Many, CALLING, "URI",
        ["A gateway, http://host:port or https://host:port; several by commas or repetition.",
         "Default: http://127.0.0.1:7420"];
    DESTINATION = "destination", "PODGATE_DESTINATIONS", Many, ASKING, "HOST:PORT",
        ["What to reach, host:port[-last][/tcp|udp]; several by commas or repetition.",
         "None at all: whatever the app's profile allows."];
    DESTINATIONS_FILE = "destinations-file", "PODGATE_DESTINATIONS_FILE", One, ASKING, "FILE",
        ["A file with more of them, one a line; # begins a comment."];
    WAIT = "wait", "PODGATE_WAIT", One, ASKING, "SPAN", ["How long to wait for a grant, all in all. Default: 9m"];
    GRANT_FILE = "grant-file", "PODGATE_GRANT_FILE", One, &[Init, Sidecar, Ready, Release], "FILE",
        ["Where to write the grant, as JSON. Default: nowhere",
         "The grant that release gives back."];
    TICKET_FILE = "ticket-file", "PODGATE_TICKET_FILE", One, GRANTED, "FILE",
        ["Where to keep the ticket of a booked turn for the next start of this container.",
         "Default: podgate-ticket.json beside the grant file, and else nowhere"];
    READY_FILE = "ready-file", "PODGATE_READY_FILE", One, &[Sidecar, Ready], "FILE",
        ["What a sidecar holds open once the pod may start, for podgate-init ready to see.",
         "Default: podgate-ready beside the grant file, and else nowhere"];
    RELEASE_WAIT = "release-wait", "PODGATE_RELEASE_WAIT", One, &[Sidecar, Release], "SPAN",
        ["How long to try to give the grant back, all in all. Default: 5s"];
    TERMINATION_LOG = "termination-log", "PODGATE_TERMINATION_LOG", One, ASKING, "FILE",
        ["Where to write how it ended, as short JSON. Default: /dev/termination-log"];
    ON_UNAVAILABLE = "on-unavailable", "PODGATE_ON_UNAVAILABLE", One, GRANTED, "fail|continue",
        ["What it means when no gateway decides in time: fail (12), or continue (0) without",
         "a grant. Default: fail"];
    CONNECT_TIMEOUT = "connect-timeout", "PODGATE_CONNECT_TIMEOUT", One, CALLING, "SPAN",
        ["Longest time for one connection. Default: 2s"];
    CALL_TIMEOUT = "call-timeout", "PODGATE_CALL_TIMEOUT", One, CALLING, "SPAN", ["Longest time for one call. Default: 10s"];
    CA_FILE = "ca-file", "PODGATE_CA_FILE", One, CALLING, "FILE",
        ["PEM file with the authorities that an https gateway is trusted by."];
    SERVER_NAME = "server-name", "PODGATE_SERVER_NAME", One, CALLING, "NAME",
        ["The name in an https gateway's certificate. Default: the endpoint's host"];
    CLUSTER = "cluster", "PODGATE_CLUSTER", One, ASKING, "NAME", ["The cluster's name, where the gateway serves several."];
    STATIC_HOST = "static-host", "PODGATE_STATIC_HOST", Nothing, ASKING, "",
        ["Ask as a machine known by its address, not as a pod."];
}

/// The page for `--help`.
pub(crate) fn help() -> String {
    let mut page = String::from(
        "podgate-init: asks podgate to let this pod through, and waits until it may start.\n\n\
         Usage: podgate-init [COMMAND] --app NAME [FLAGS]\n\n\
         \x20 (none)     Asks, waits for the decision, and ends with it. For an init container.\n\
         \x20 sidecar    Asks, renews the lease until SIGTERM or SIGINT, and gives it back. For a native sidecar.\n\
         \x20 ready      Ends with 0 if a sidecar is there and the pod may start. For the sidecar's startupProbe.\n\
         \x20 release    Gives back the grant in the grant file. For the preStop hook of a pod without a sidecar.\n\
         \x20 check      Asks for the decision without effect: nothing is granted or spent.\n\n\
         Every flag can be given as the variable named beside it; a flag goes before its variable.\n\n",
    );
    for flag in ALL {
        let Flag { name, value, variable, .. } = flag;
        let usage = if value.is_empty() { format!("--{name}") } else { format!("--{name} {value}") };
        page.extend([format!("  {usage:<34}[{variable}]\n")]);
        for line in flag.help {
            page.extend(["      ", line, "\n"]);
        }
    }
    page.push_str(
        "  -h, --help                        Shows this page.\n\
         \x20 -V, --version                     Shows the version.\n\n\
         A SPAN is written as 90s, 9m, 1h30m or 500ms.\n\n\
         The pod is described by the downward API's variables: POD_UID, POD_NAMESPACE and POD_SERVICE_ACCOUNT\n\
         (required), POD_NAME, POD_IPS or POD_IP, NODE_NAME.\n\n\
         Exit codes: 0 granted (ready, given back, allowed), 1 not ready, 2 misconfigured, 10 denied, 11 throttled to\n\
         the end, 12 unavailable to the end, 13 not authenticated, 14 superseded by another pod, 130 ended by SIGINT,\n\
         143 ended by SIGTERM. A sidecar that is told to end ends with 0.\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_page_is_as_it_is() {
        assert_eq!(help(), include_str!("help.txt"));
    }

    #[test]
    fn every_flag_is_documented() {
        let page = include_str!("../../docs/init-container.md");
        for flag in ALL {
            assert!(page.contains(&format!("`--{}", flag.name)), "--{}", flag.name);
            assert!(page.contains(&format!("`{}`", flag.variable)), "{}", flag.variable);
        }
    }
}
