//! YAML as a tree of text with positions. The parser is saphyr's; this keeps what it says.
//!
//! Scalars stay text: `name: no` is the name `no`. Anchors, aliases and tags are refused, so that a document cannot
//! grow while it is read.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::document::fault::Position;

/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// The value.
    pub value: Value,
}

/// A YAML value.
#[derive(Debug)]
pub enum Value {
    /// Text in quotes, or in a block.
    Quoted(String),
    /// Text without quotes.
    Plain(String),
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub struct Key {
    /// Where it stands.
    pub at: Position,
    /// The key.
    pub text: String,
}

impl Node {
    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Plain(_) if self.is_null() => "nothing",
            Value::Plain(_) | Value::Quoted(_) => "text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|(mine, _)| mine.text == key).map(|(_, node)| node)
            }
            Value::Plain(_) | Value::Quoted(_) | Value::Sequence(_) => None,
        }
    }

    /// Where the field at `path` stands, or the nearest thing around it that is written.
    pub fn locate(&self, path: &str) -> Position {
        let mut node = self;
        for step in path.split(['.', '[']) {
            let next = match &node.value {
                Value::Sequence(items) => {
                    step.strip_suffix(']').and_then(|index| items.get(index.parse::<usize>().ok()?))
                }
                Value::Mapping(_) => node.get(step),
                Value::Plain(_) | Value::Quoted(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }
}

/// Why a text is no YAML that podgate reads.
#[derive(Debug, PartialEq, Eq)]
pub struct NotYaml {
    /// Where.
    pub at: Position,
    /// What is wrong there.
    pub message: String,
}

/// Reads the documents of a text; empty ones are left out.
pub fn parse(text: &str) -> Result<Vec<Node>, NotYaml> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| NotYaml {
            at: Position { line: error.marker().line(), column: error.marker().col() + 1 },
            message: format!("this is no YAML: {}", error.info()),
        })?;
        if let Some(document) = builder.take(event, position(span))? {
            documents.push(document);
        }
    }
    Ok(documents)
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
}

struct Open {
    at: Position,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>, Option<Key>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<Option<Node>, NotYaml> {
        let plain = |anchor: usize, tagged: bool| {
            if anchor != 0 || tagged {
                return Err(NotYaml {
                    at,
                    message: "anchors and tags are not read here; write it out".into(),
                });
            }
            Ok(())
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                return self.close(scalar(text, style, at));
            }
            Event::SequenceStart(.., anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.open(at, OpenKind::Sequence(Vec::new()))?;
            }
            Event::MappingStart(.., anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.open(at, OpenKind::Mapping(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let value = match open.kind {
                        OpenKind::Sequence(items) => Value::Sequence(items),
                        OpenKind::Mapping(entries, _) => Value::Mapping(entries),
                    };
                    return self.close(Node { at: open.at, value });
                }
            }
            Event::Alias(_) => {
                return Err(NotYaml { at, message: "aliases are not read here; write it out".into() });
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => {}
        }
        Ok(None)
    }

    fn open(&mut self, at: Position, kind: OpenKind) -> Result<(), NotYaml> {
        if self.open.len() >= DEPTH_MAX {
            return Err(NotYaml { at, message: format!("nested deeper than {DEPTH_MAX} levels") });
        }
        self.open.push(Open { at, kind });
        Ok(())
    }

    /// Puts a whole value where it belongs; one that belongs nowhere is a document.
    fn close(&mut self, node: Node) -> Result<Option<Node>, NotYaml> {
        let Some(open) = self.open.last_mut() else {
            return Ok(Some(node).filter(|node| !node.is_null()));
        };
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(node),
            OpenKind::Mapping(entries, pending) => match pending.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let key = as_key(node)?;
                    if entries.iter().any(|(earlier, _)| earlier.text == key.text) {
                        let message = format!("the key `{}` stands here a second time", key.text);
                        return Err(NotYaml { at: key.at, message });
                    }
                    *pending = Some(key);
                }
            },
        }
        Ok(None)
    }
}

fn as_key(node: Node) -> Result<Key, NotYaml> {
    match node.value {
        Value::Plain(text) | Value::Quoted(text) => Ok(Key { at: node.at, text }),
        Value::Sequence(_) | Value::Mapping(_) => {
            Err(NotYaml { at: node.at, message: "a key has to be text".into() })
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, at: Position) -> Node {
    let text = text.into_owned();
    let value = match style {
        ScalarStyle::Plain => Value::Plain(text),
        ScalarStyle::SingleQuoted
        | ScalarStyle::DoubleQuoted
        | ScalarStyle::Literal
        | ScalarStyle::Folded => Value::Quoted(text),
    };
    Node { at, value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stays_text_and_knows_its_place() {
        let documents = parse("a: no\nb:\n  - 1\n  - {c: 'x'}\n---\n# nothing\n---\nd: ~\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert!(matches!(&documents[0].get("a").unwrap().value, Value::Plain(text) if text == "no"));
        assert_eq!(documents[0].locate("b[1].c"), Position { line: 4, column: 9 });
        assert_eq!(documents[0].locate("b[1].missing.x"), Position { line: 4, column: 5 });
        assert!(documents[1].get("d").unwrap().is_null());
    }

    #[test]
    fn what_could_grow_or_mislead_is_refused() {
        let deep = "[".repeat(100);
        for (text, says) in [
            ("a: &x 1\nb: *x", "anchors"),
            ("a: !!binary aGk=", "tags"),
            ("a: 1\na: 2", "second time"),
            ("? [a]\n: 1", "key has to be text"),
            (deep.as_str(), "nested deeper"),
            ("a: [1", "no YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(says), "{text:.20}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ \\n:\\-\\[\\]{}#&*!|>'\"%@`a-c0-9~?,]{0,120}") {
            if let Ok(documents) = parse(&text) {
                for document in documents {
                    prop_assert!(document.at.line >= 1);
                }
            }
        }
    }
}
