//! Fields as all kinds of documents have them.

use std::collections::BTreeMap;

use crate::document::{
    reader::{Entries, Path, Reader},
    tree::{Node, Value},
};

pub(super) fn metadata(
    reader: &mut Reader,
    tree: &Node,
    top: Entries<'_>,
) -> (String, BTreeMap<String, String>) {
    let path = Path::Top.field("metadata");
    let Some(node) = required(reader, tree, top, &Path::Top, "metadata", "a mapping with name") else {
        return (String::new(), BTreeMap::new());
    };
    let fields = reader.entries(node, &path, &["name", "labels"]);
    let name = required(reader, node, fields, &path, "name", "the name of the app or document")
        .and_then(|name| reader.text(name, &path.field("name")))
        .unwrap_or_default();
    (name, fields.get("labels").map(|labels| read_labels(reader, labels, &path)).unwrap_or_default())
}

fn read_labels(reader: &mut Reader, node: &Node, parent: &Path<'_>) -> BTreeMap<String, String> {
    let path = parent.field("labels");
    let Value::Mapping(entries) = &node.value else {
        reader.fault(node.at, path, format!("expected a mapping of text to text, found {}", node.kind()));
        return BTreeMap::new();
    };
    let pairs = entries.iter();
    pairs
        .filter_map(|(key, value)| Some((key.text.clone(), reader.text(value, &path.field(&key.text))?)))
        .collect()
}

pub(super) fn required<'n>(
    reader: &mut Reader,
    around: &Node,
    entries: Entries<'n>,
    path: &Path<'_>,
    key: &str,
    expected: &str,
) -> Option<&'n Node> {
    let node = entries.get(key);
    if node.is_none() {
        reader.missing(around, &path.field(key), expected);
    }
    node
}

pub(super) fn text(reader: &mut Reader, entries: Entries<'_>, path: &Path<'_>, key: &str) -> Option<String> {
    entries.get(key).and_then(|node| reader.text(node, &path.field(key)))
}

pub(super) fn list<T: Default>(
    reader: &mut Reader,
    entries: Entries<'_>,
    path: &Path<'_>,
    key: &str,
    read: impl FnMut(&mut Reader, &Node, &Path<'_>) -> Option<T>,
) -> Vec<T> {
    entries.get(key).map(|node| reader.list(node, &path.field(key), read)).unwrap_or_default()
}
