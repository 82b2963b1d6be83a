//! Walks a tree by the keys that are known, and notes everything that is wrong on the way.

use std::{fmt, sync::Arc, time::Duration};

use podgate_engine::fault::{nearest, shown};

use crate::document::{
    fault::{DocumentFault, Position},
    tree::{Key, Node, Value},
};

/// Where the walk is, for messages.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// At the top.
    Top,
    /// In a field of something.
    Field(&'a Path<'a>, &'a str),
    /// At an item of something.
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// A field of this.
    pub fn field<'a>(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// An item of this.
    pub fn item(&self, index: usize) -> Path<'_> {
        Path::Item(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Top => Ok(()),
            Path::Field(Path::Top, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads one document and gathers its faults.
#[derive(Debug)]
pub struct Reader {
    file: Arc<str>,
    faults: Vec<DocumentFault>,
}

impl Reader {
    /// A reader of a document in `file`.
    pub fn new(file: Arc<str>) -> Self {
        Self { file, faults: Vec::new() }
    }

    /// What was wrong.
    pub fn into_faults(self) -> Vec<DocumentFault> {
        self.faults
    }

    /// Whether nothing was wrong so far.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether a fault is noted for the field at `path`, or for one around it.
    pub fn speaks_of(&self, path: &str) -> bool {
        self.faults.iter().any(|fault| {
            path.strip_prefix(fault.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes a fault.
    pub fn fault(&mut self, at: Position, path: impl fmt::Display, message: impl Into<String>) {
        self.faults.push(DocumentFault {
            file: Arc::clone(&self.file),
            position: Some(at),
            path: path.to_string(),
            message: message.into(),
        });
    }

    /// The entries of a mapping of which exactly the `known` keys are expected.
    pub fn entries<'n>(&mut self, node: &'n Node, path: &Path<'_>, known: &[&str]) -> Entries<'n> {
        let Value::Mapping(entries) = &node.value else {
            if !node.is_null() {
                self.fault(node.at, path, format!("expected a mapping with {}", known.join(", ")));
            }
            return Entries(&[]);
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let hint = match nearest(&key.text, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected {}", known.join(", ")),
                };
                self.fault(key.at, path.field(&key.text), format!("unknown key; {hint}"));
            }
        }
        Entries(entries)
    }

    /// Notes a missing field.
    pub fn missing(&mut self, around: &Node, path: &Path<'_>, expected: &str) {
        self.fault(around.at, path, format!("missing; expected {expected}"));
    }

    /// A text.
    pub fn text(&mut self, node: &Node, path: &Path<'_>) -> Option<String> {
        match &node.value {
            Value::Plain(text) | Value::Quoted(text) => Some(text.clone()),
            Value::Sequence(_) | Value::Mapping(_) => {
                self.fault(node.at, path, format!("expected text, found {}", node.kind()));
                None
            }
        }
    }

    /// A whole number.
    pub fn number(&mut self, node: &Node, path: &Path<'_>) -> Option<u64> {
        let text = self.text(node, path)?;
        let parsed = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        if parsed.is_none() {
            self.fault(node.at, path, format!("{} is no whole number", shown(&text)));
        }
        parsed
    }

    /// A duration, such as `90s`, `10m`, `1h30m` or `7d`.
    pub fn duration(&mut self, node: &Node, path: &Path<'_>) -> Option<Duration> {
        let text = self.text(node, path)?;
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.fault(node.at, path, message);
                None
            }
        }
    }

    /// The items of a list. One that cannot be read is kept as a default, so that those behind it keep their places.
    pub fn list<T: Default>(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        mut read: impl FnMut(&mut Self, &Node, &Path<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Value::Sequence(items) = &node.value else {
            if !node.is_null() {
                self.fault(node.at, path, format!("expected a list, found {}", node.kind()));
            }
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items.map(|(index, item)| read(self, item, &path.item(index)).unwrap_or_default()).collect()
    }
}

/// Reads a duration, or says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("{} is no duration; expected one such as `500ms`, `90s`, `10m`, `1h30m` or `7d`", shown(text))
    })
}

/// The entries of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'n>(&'n [(Key, Node)]);

impl<'n> Entries<'n> {
    /// What is written for a key, if anything is.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        let found = self.0.iter().find(|(mine, _)| mine.text == key);
        found.map(|(_, node)| node).filter(|node| !node.is_null())
    }
}
