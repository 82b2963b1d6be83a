//! The command line. Flags of settings come from the table of settings.

use clap::{Arg, ArgAction, Command, builder::OsStringValueParser, value_parser};
use std::path::PathBuf;

use crate::config::SETTINGS;

/// The whole command line.
pub fn command() -> Command {
    Command::new("podgate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A rate-limited authorization gateway for pods at boot")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(Command::new("serve").about("Serve")).arg(
                Arg::new("address-file")
                    .long("address-file")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("Write a JSON file with the bound addresses once ready (for ports 0)"),
            ),
        )
        .subcommand(
            with_settings(Command::new("config").about("Show the settings in force")).arg(
                Arg::new("print")
                    .long("print")
                    .action(ArgAction::SetTrue)
                    .required(true)
                    .help("Print each setting, its value and where the value came from"),
            ),
        )
        .subcommand(
            Command::new("validate").about("Check a directory of profiles and common ports").arg(
                Arg::new("directory").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)),
            ),
        )
        .subcommand(explain())
        .subcommand(store())
}

fn with_settings(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("PODGATE_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file (YAML)");
    let flags = SETTINGS.iter().map(|setting| {
        let arg = Arg::new(setting.flag)
            .long(setting.flag)
            .value_name(setting.value_name)
            .value_parser(OsStringValueParser::new())
            .help(format!("{} [default: {}] [env: {}]", setting.help, setting.default, setting.variable()));
        if setting.key == "insecure" {
            arg.num_args(0..=1).default_missing_value("true").require_equals(true)
        } else {
            arg.allow_hyphen_values(true)
        }
    });
    command.arg(config).args(flags)
}

fn explain() -> Command {
    let text = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).help(help)
    };
    Command::new("explain")
        .about("Show how a request would be decided by the profiles of a directory, and why")
        .arg(
            Arg::new("profiles")
                .long("profiles")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Directory of profiles"),
        )
        .arg(text("app", "APP", "The app").required(true))
        .arg(text("cluster", "NAME", "Cluster of the subject").default_value(""))
        .arg(text("namespace", "NAME", "Namespace of the pod").requires("service-account"))
        .arg(text("service-account", "NAME", "Service account of the pod").requires("namespace"))
        .arg(
            text("host-address", "ADDR", "Address of a machine that is no pod")
                .conflicts_with_all(["namespace", "service-account"]),
        )
        .arg(
            text("destination", "HOST:PORT[-LAST][/tcp|udp]", "A destination; none: all that is allowed")
                .action(ArgAction::Append),
        )
}

fn store() -> Command {
    let directory = Arg::new("directory")
        .value_name("DIR")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("Directory of the store; no gateway may be serving it");
    let file =
        |arg: Arg, help: &'static str| arg.value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("store")
        .about("Look after the store of a gateway that is stopped")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Verify every page and every record; exits with 11 if a gateway would not serve it")
                .arg(directory.clone()),
        )
        .subcommand(
            Command::new("compact").about("Make the file as small as it can be").arg(directory.clone()),
        )
        .subcommand(
            Command::new("export")
                .about("Write all that the store holds as lines of JSON")
                .arg(directory.clone())
                .arg(file(
                    Arg::new("out").long("out"),
                    "Write to a file, whole or not at all [default: standard output]",
                ))
                .arg(switch("with-keys", "Also the keys that seal tickets; they are secret"))
                .arg(switch("skip-unreadable", "Leave out records that cannot be read, and tell which")),
        )
        .subcommand(
            Command::new("import")
                .about("Make a store of exported lines; all of them, or none")
                .arg(directory)
                .arg(file(Arg::new("file").required(true), "The exported lines; `-` for standard input"))
                .arg(switch(
                    "replace",
                    "Put it in the place of the store that is there, which is kept beside it",
                )),
        )
}
