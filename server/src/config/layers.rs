//! Where values come from: default, file, environment, flag; the later overrides the earlier.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::Path as FilePath,
    sync::Arc,
};

use podgate_engine::fault::nearest;

use crate::{
    config::setting::{SETTINGS, Setting},
    document::{
        fault::{DocumentFault, Position},
        tree::{self, Node, Value},
    },
};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(Arc<str>, Position),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, at) => write!(f, "{file}:{}:{}", at.line, at.column),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// Every setting's text and where it came from.
#[derive(Debug)]
pub struct Layers(BTreeMap<&'static str, (String, Origin)>);

impl Layers {
    /// All defaults.
    pub fn defaults() -> Self {
        let rows = SETTINGS.iter();
        Self(rows.map(|row| (row.key, (row.default.to_owned(), Origin::Default))).collect())
    }

    /// The text of a setting and where it came from.
    pub fn get(&self, setting: &Setting) -> (&str, &Origin) {
        let (text, origin) = &self.0[setting.key];
        (text, origin)
    }

    /// Puts a file's values over what is there.
    pub fn add_file(&mut self, file: &FilePath, faults: &mut Vec<String>) {
        match fs::read_to_string(file) {
            Ok(text) => self.add_text(&file.display().to_string().into(), &text, faults),
            Err(error) => faults.push(format!("{}: cannot be read: {error}", file.display())),
        }
    }

    fn add_text(&mut self, file: &Arc<str>, text: &str, faults: &mut Vec<String>) {
        let mut fault = |position: Position, path: &str, message: String| {
            let (file, position) = (Arc::clone(file), Some(position));
            faults.push(DocumentFault { file, position, path: path.to_owned(), message }.to_string());
        };
        let documents = match tree::parse(text) {
            Ok(documents) => documents,
            Err(error) => return fault(error.at, "", error.message),
        };
        if let Some(second) = documents.get(1) {
            fault(second.at, "", "a second document; expected one".to_owned());
        }
        let mut found = Vec::new();
        if let Some(document) = documents.first() {
            flatten(document, "", &mut found, &mut fault);
        }
        for (key, text, at) in found {
            match SETTINGS.iter().find(|row| row.key == key) {
                Some(row) => {
                    self.0.insert(row.key, (text, Origin::File(Arc::clone(file), at)));
                }
                None => fault(at, &key, unknown(&key, SETTINGS.iter().map(|row| row.key))),
            }
        }
    }

    /// Puts `PODGATE_*` variables over what is there. Unknown ones are refused where they look like a misspelt setting,
    /// but those that Kubernetes makes for a service named `podgate` are left alone.
    pub fn add_variables(&mut self, variables: &[(OsString, OsString)], faults: &mut Vec<String>) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("PODGATE_")) else {
                continue;
            };
            if name == "PODGATE_CONFIG" || is_service_link(name) {
                continue;
            }
            match (SETTINGS.iter().find(|row| row.variable() == name), value.to_str()) {
                (Some(row), Some(value)) => {
                    self.0.insert(row.key, (value.to_owned(), Origin::Variable(name.to_owned())));
                }
                (Some(_), None) => faults.push(format!("{name}: expected UTF-8 text")),
                (None, _) => {
                    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
                    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
                        faults.push(format!("{name}: unknown variable; did you mean `{near}`?"));
                    }
                }
            }
        }
    }

    /// Puts a flag's value over what is there.
    pub fn add_flag(&mut self, setting: &Setting, value: &OsStr, faults: &mut Vec<String>) {
        match (value.to_str(), SETTINGS.iter().find(|row| row.key == setting.key)) {
            (Some(text), Some(row)) => {
                self.0.insert(row.key, (text.to_owned(), Origin::Flag(row.flag)));
            }
            (None, _) | (_, None) => faults.push(format!("--{}: expected UTF-8 text", setting.flag)),
        }
    }
}

/// Whether the kubelet may have made a variable for a service: `PODGATE_PORT`, `PODGATE_SERVICE_HOST`, … No setting's
/// variable looks like these.
fn is_service_link(name: &str) -> bool {
    name.contains("_PORT") || name.contains("_SERVICE_HOST")
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key; `podgate config --print` shows all".to_owned(),
    }
}

/// Turns nested mappings into dotted keys, and lists of text into text with commas.
fn flatten(
    node: &Node,
    key: &str,
    found: &mut Vec<(String, String, Position)>,
    fault: &mut impl FnMut(Position, &str, String),
) {
    match &node.value {
        _ if node.is_null() => {}
        Value::Plain(text) | Value::Quoted(text) => found.push((key.to_owned(), text.clone(), node.at)),
        Value::Sequence(items) => {
            let mut texts = Vec::with_capacity(items.len());
            for item in items {
                match &item.value {
                    Value::Plain(text) | Value::Quoted(text) => texts.push(text.as_str()),
                    Value::Sequence(_) | Value::Mapping(_) => {
                        fault(item.at, key, format!("expected text, found {}", item.kind()));
                    }
                }
            }
            found.push((key.to_owned(), texts.join(","), node.at));
        }
        Value::Mapping(entries) => {
            for (name, value) in entries {
                let key = if key.is_empty() { name.text.clone() } else { format!("{key}.{}", name.text) };
                flatten(value, &key, found, fault);
                if let Some((last, _, at)) = found.last_mut()
                    && *last == key
                {
                    *at = name.at;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any text is taken or refused, and a value that no setting can have is refused with its place.
        #[test]
        fn any_file_is_read_or_refused(
            text in "((listen|limits|  perIp|  rate|store): ?[a-z0-9:/.{}\\[\\]-]{0,12}\n){0,6}|[ -~\n]{0,80}",
        ) {
            let (mut layers, mut faults) = (Layers::defaults(), Vec::new());
            layers.add_text(&"podgate.yaml".into(), &text, &mut faults);
            if let Err(more) = crate::config::Config::parse(&layers) {
                prop_assert!(more.iter().all(|fault| fault.starts_with("podgate.yaml:")), "{more:?}");
            }
        }
    }

    fn row(key: &str) -> &'static Setting {
        SETTINGS.iter().find(|row| row.key == key).unwrap()
    }

    #[test]
    fn later_layers_override_earlier_ones_and_say_so() {
        let mut layers = Layers::defaults();
        let mut faults = Vec::new();
        let text = "limits:\n  perIp: { rate: 5/s, burst: 7 }\nworkers: 3\n";
        layers.add_text(&"podgate.yaml".into(), text, &mut faults);
        layers.add_variables(&[("PODGATE_PER_IP_BURST".into(), "8".into())], &mut faults);
        layers.add_flag(row("workers"), OsStr::new("4"), &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        let shown = |key| {
            let (text, origin) = layers.get(row(key));
            format!("{text} ({origin})")
        };
        assert_eq!(shown("limits.perIp.rate"), "5/s (podgate.yaml:2:12)");
        assert_eq!(shown("limits.perIp.burst"), "8 (PODGATE_PER_IP_BURST)");
        assert_eq!(shown("workers"), "4 (--workers)");
        assert_eq!(shown("listen"), "127.0.0.1:7420 (default)");
    }

    #[test]
    fn unknown_keys_and_variables_get_the_nearest_known_one() {
        let mut layers = Layers::defaults();
        let mut faults = Vec::new();
        layers.add_text(&"podgate.yaml".into(), "limit: { perIp: { rate: 5/s } }\nlisen: x\n", &mut faults);
        layers.add_variables(
            &[
                ("PODGATE_LISEN".into(), "x".into()),
                ("PODGATE_PORT".into(), "tcp://10.0.0.1:7420".into()),
                ("PODGATE_PORT_7420_TCP_ADDR".into(), "10.0.0.1".into()),
                ("PODGATE_SERVICE_HOST".into(), "10.0.0.1".into()),
                ("PODGATE_SERVICE_PORT_GRPC".into(), "7420".into()),
            ],
            &mut faults,
        );
        assert_eq!(
            faults,
            [
                "podgate.yaml:1:19: limit.perIp.rate: unknown key; did you mean `limits.perIp.rate`?",
                "podgate.yaml:2:1: lisen: unknown key; did you mean `listen`?",
                "PODGATE_LISEN: unknown variable; did you mean `PODGATE_LISTEN`?",
            ]
        );
    }

    #[test]
    fn flags_keys_and_variables_are_unique() {
        for (at, row) in SETTINGS.iter().enumerate() {
            assert!(!is_service_link(&row.variable()), "{}", row.variable());
            for other in &SETTINGS[at + 1..] {
                assert!(row.key != other.key && row.flag != other.flag);
            }
        }
    }
}
