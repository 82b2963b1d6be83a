//! Collects what was given for each flag, by argument or by variable, and everything that is wrong with it.

use std::{collections::BTreeMap, ffi::OsString};

use lexopt::{Arg, Parser};

use crate::{
    command::Command,
    fault::{Fault, nearest, quoted},
    flags::{self, Flag, Takes},
    narration::Narrator,
};

/// Most edits between a misspelt command and the one that is suggested.
const COMMAND_DISTANCE_MAX: usize = 2;
/// Most edits between a misspelt flag and the one that is suggested.
const FLAG_DISTANCE_MAX: usize = 3;
/// The same for variables, of which strange ones are no fault: the gateway's, or the kubelet's.
const VARIABLE_DISTANCE_MAX: usize = 2;

/// One given value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// `--wait` or `PODGATE_WAIT`.
    pub(crate) source: String,
    pub(crate) value: String,
}

/// What the program was told.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    values: BTreeMap<&'static str, Vec<Given>>,
    /// The downward API's variables, and all others that are valid.
    variables: BTreeMap<String, String>,
    pub(crate) faults: Vec<Fault>,
    /// Variables that look as if they were meant for us but are not ours.
    pub(crate) ignored: Vec<String>,
    pub(crate) page: Option<Page>,
}

/// A page that is asked for instead of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Help,
    Version,
}

impl Arguments {
    /// Sorts arguments and variables. An empty variable counts as absent.
    pub(crate) fn collect(mut args: Vec<OsString>, vars: Vec<(OsString, OsString)>) -> Self {
        let mut arguments = Self::default();
        arguments.read_command(&mut args);
        arguments.read_args(args);
        arguments.read_variables(vars);
        arguments
    }

    /// What was given for a flag; a flag goes before its variable.
    pub(crate) fn given(&self, flag: Flag) -> &[Given] {
        self.values.get(flag.name).map_or(&[], Vec::as_slice)
    }

    /// The one value of a flag that takes one.
    pub(crate) fn one(&self, flag: Flag) -> Option<&Given> {
        self.given(flag).first()
    }

    /// The app as it was named, if it was, for whoever can't use it any further.
    pub(crate) fn app(&self) -> &str {
        self.one(flags::APP).map_or("", |given| given.value.as_str())
    }

    /// Says which variables mean nothing.
    pub(crate) fn tell_ignored(&self, narrator: &mut Narrator<'_>) {
        for name in &self.ignored {
            narrator.say(&format!("{name} is no variable of podgate-init and means nothing here"));
        }
    }

    /// A variable of the downward API.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn fault(&mut self, source: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault::new(source, what));
    }

    /// Takes the command off the arguments. A first argument that is none and no flag is taken off too, with its fault.
    fn read_command(&mut self, args: &mut Vec<OsString>) {
        let Some(first) = args.first().and_then(|first| first.to_str()) else { return };
        if let Some(command) = Command::named(first) {
            self.command = command;
        } else if let Some(nearest) = nearest(first, Command::names(), COMMAND_DISTANCE_MAX) {
            self.fault(quoted(first), format!("is no command; did you mean {nearest}?"));
        } else {
            return;
        }
        args.remove(0);
    }

    fn read_args(&mut self, args: Vec<OsString>) {
        let mut parser = Parser::from_args(args);
        // A value right after a flag that is unknown most likely belongs to it.
        let mut after_unknown = false;
        loop {
            let unknown = match parser.next() {
                Ok(None) => return,
                Ok(Some(Arg::Short('h') | Arg::Long("help"))) => self.ask_for(Page::Help),
                Ok(Some(Arg::Short('V') | Arg::Long("version"))) => self.ask_for(Page::Version),
                Ok(Some(Arg::Long(name))) => {
                    let name = name.to_owned();
                    self.read_long(&name, &mut parser)
                }
                Ok(Some(Arg::Short(letter))) => {
                    self.fault(
                        format!("-{}", letter.escape_debug()),
                        "is no flag; expected a flag such as --app",
                    );
                    true
                }
                Ok(Some(Arg::Value(value))) => {
                    if !after_unknown {
                        let value = quoted(&value.to_string_lossy());
                        self.fault(value, "stands alone; expected a flag such as --app before it");
                    }
                    false
                }
                Err(error) => {
                    self.fault("arguments", error.to_string());
                    false
                }
            };
            after_unknown = unknown;
        }
    }

    /// Whether the argument was unknown: it was not.
    fn ask_for(&mut self, page: Page) -> bool {
        self.page.get_or_insert(page);
        false
    }

    fn read_long(&mut self, name: &str, parser: &mut Parser) -> bool {
        if let Some(flag) = flags::ALL.iter().find(|flag| flag.name == name) {
            return self.read_flag(*flag, parser);
        }
        let _ = parser.optional_value();
        self.unknown_flag(name)
    }

    fn unknown_flag(&mut self, name: &str) -> bool {
        let known = flags::ALL.iter().map(|flag| flag.name).chain(["help", "version"]);
        let hint = match nearest(name, known, FLAG_DISTANCE_MAX) {
            Some(nearest) => format!("did you mean --{nearest}?"),
            None => "--help shows those that there are".to_owned(),
        };
        self.fault(format!("--{}", quoted(name).trim_matches('"')), format!("is no flag; {hint}"));
        true
    }

    fn read_flag(&mut self, flag: Flag, parser: &mut Parser) -> bool {
        let source = format!("--{}", flag.name);
        let value = match flag.takes {
            Takes::Nothing => Some(parser.optional_value().unwrap_or_else(|| "true".into())),
            Takes::One | Takes::Many => match parser.try_raw_args().map(|raw| raw.peek().map(is_flag)) {
                // Another flag follows, or nothing.
                Some(Some(true) | None) => None,
                Some(Some(false)) | None => parser.value().ok(),
            },
        };
        match value.map(OsString::into_string) {
            None => self.fault(source, "has no value; expected one after it"),
            Some(_) if !flag.is_of(self.command) => {
                self.fault(source, format!("means nothing to {}", self.command.called()));
            }
            Some(Err(raw)) => self.fault(source, not_utf8(&raw)),
            Some(Ok(value)) if value.is_empty() => self.fault(source, "is empty; expected a value"),
            Some(Ok(value)) => {
                let given = self.values.entry(flag.name).or_default();
                if flag.takes == Takes::Many || given.is_empty() {
                    given.push(Given { source, value });
                } else {
                    self.fault(source, format!("is given again, as {}; expected it once", quoted(&value)));
                }
            }
        }
        false
    }

    fn read_variables(&mut self, vars: Vec<(OsString, OsString)>) {
        for (name, value) in vars {
            let Ok(name) = name.into_string() else { continue };
            let flag = flags::ALL.iter().find(|flag| flag.variable == name);
            let ours = flag.is_some() || crate::identity::VARIABLES.contains(&name.as_str());
            if !ours {
                self.read_strange_variable(name);
                continue;
            }
            // A container's variables are for all commands that run in it.
            if flag.is_some_and(|flag| !flag.is_of(self.command)) {
                continue;
            }
            match value.into_string() {
                Err(raw) => self.fault(name, not_utf8(&raw)),
                Ok(value) if value.is_empty() => {}
                Ok(value) => {
                    if let Some(flag) = flag {
                        let source = name.clone();
                        self.values
                            .entry(flag.name)
                            .or_insert_with(|| vec![Given { source, value: value.clone() }]);
                    }
                    self.variables.insert(name, value);
                }
            }
        }
    }

    fn read_strange_variable(&mut self, name: String) {
        if !name.starts_with("PODGATE_") || is_service_link(&name) {
            return;
        }
        let known = flags::ALL.iter().map(|flag| flag.variable);
        match nearest(&name, known, VARIABLE_DISTANCE_MAX) {
            Some(nearest) => {
                self.fault(name, format!("is no variable of podgate-init; did you mean {nearest}?"));
            }
            None => self.ignored.push(name),
        }
    }
}

fn is_flag(argument: &std::ffi::OsStr) -> bool {
    argument.to_str().is_some_and(|argument| argument.starts_with("--"))
}

fn not_utf8(raw: &OsString) -> String {
    format!("is not UTF-8: {}", quoted(&raw.to_string_lossy()))
}

/// Whether the kubelet made this variable for a Service of a name like ours (`PODGATE_PORT_7420_TCP_ADDR`).
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    fn collect(args: &[&str], vars: &[(&str, &str)]) -> Arguments {
        let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Arguments::collect(args.iter().map(Into::into).collect(), vars)
    }

    fn faults(args: &[&str], vars: &[(&str, &str)]) -> Vec<String> {
        collect(args, vars).faults.iter().map(Fault::to_string).collect()
    }

    #[test]
    fn a_flag_goes_before_its_variable() {
        let vars = [("PODGATE_APP", "b"), ("PODGATE_WAIT", "5s"), ("PODGATE_CLUSTER", ""), ("HOME", "/")];
        let arguments =
            collect(&["--app", "a", "--destination=x:1", "--destination", "y:2", "--static-host"], &vars);
        assert_eq!(arguments.faults, []);
        assert_eq!(arguments.one(flags::APP).unwrap().value, "a");
        assert_eq!(arguments.one(flags::WAIT).unwrap().source, "PODGATE_WAIT");
        assert_eq!(arguments.one(flags::CLUSTER), None);
        assert_eq!(arguments.one(flags::STATIC_HOST).unwrap().value, "true");
        assert_eq!(arguments.given(flags::DESTINATION).len(), 2);
    }

    #[test]
    fn every_fault_is_said_at_once_with_the_nearest_right_name() {
        assert_eq!(
            faults(
                &[
                    "--ap",
                    "a",
                    "--wiat=5s",
                    "--colour",
                    "red",
                    "stray",
                    "-x",
                    "--wait",
                    "--app",
                    "a",
                    "--app",
                    "b",
                    "--cluster="
                ],
                &[("PODGATE_ENDPOINTS", "x"), ("PODGATE_WAI", "1s")],
            ),
            [
                "--ap: is no flag; did you mean --app?",
                "--wiat: is no flag; did you mean --wait?",
                "--colour: is no flag; --help shows those that there are",
                "\"stray\": stands alone; expected a flag such as --app before it",
                "-x: is no flag; expected a flag such as --app",
                "--wait: has no value; expected one after it",
                "--app: is given again, as \"b\"; expected it once",
                "--cluster: is empty; expected a value",
                "PODGATE_ENDPOINTS: is no variable of podgate-init; did you mean PODGATE_ENDPOINT?",
                "PODGATE_WAI: is no variable of podgate-init; did you mean PODGATE_WAIT?",
            ]
        );
    }

    #[test]
    fn what_the_kubelet_makes_of_a_service_is_no_fault() {
        let arguments = collect(
            &[],
            &[
                ("PODGATE_SERVICE_HOST", "10.0.0.1"),
                ("PODGATE_SERVICE_PORT_GRPC", "7420"),
                ("PODGATE_PORT", "tcp://10.0.0.1:7420"),
                ("PODGATE_PORT_7420_TCP_ADDR", "10.0.0.1"),
                ("PODGATE_LISTEN", "0.0.0.0:7420"),
            ],
        );
        assert_eq!(arguments.faults, []);
        assert_eq!(arguments.ignored, ["PODGATE_LISTEN"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let bad = || OsString::from_vec(b"a\xff".to_vec());
        let vars = vec![("POD_UID".into(), bad()), ("UNRELATED".into(), bad()), (bad(), "x".into())];
        let arguments = Arguments::collect(vec!["--app".into(), bad()], vars);
        let faults: Vec<String> = arguments.faults.iter().map(Fault::to_string).collect();
        assert_eq!(faults, ["--app: is not UTF-8: \"a\u{fffd}\"", "POD_UID: is not UTF-8: \"a\u{fffd}\""]);
    }

    #[test]
    fn a_letter_that_is_none_stays_on_its_line() {
        assert_eq!(faults(&["-\n"], &[]), ["-\\n: is no flag; expected a flag such as --app"]);
    }

    #[test]
    fn a_page_can_be_asked_for() {
        assert_eq!(collect(&["--app", "a", "-h"], &[]).page, Some(Page::Help));
        assert_eq!(collect(&["--version"], &[]).page, Some(Page::Version));
        assert_eq!(collect(&["--app", "a"], &[]).page, None);
    }

    proptest! {
        #[test]
        fn no_argument_is_too_strange(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6),
            known in proptest::collection::vec(0..flags::ALL.len(), 0..4),
        ) {
            let mut args: Vec<OsString> = args.into_iter().map(OsString::from_vec).collect();
            for flag in known {
                args.insert(flag % (args.len() + 1), format!("--{}", flags::ALL[flag].name).into());
            }
            let arguments = Arguments::collect(args, Vec::new());
            prop_assert!(arguments.faults.iter().all(|fault| !fault.to_string().contains('\n')));
        }
    }
}
