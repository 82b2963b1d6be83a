//! Rate limits as YAML documents.

use podgate_engine::{
    draft::{DescriptorDraft, RateLimitsDraft},
    rate_limits::DEPTH_MAX,
};

use crate::document::{
    fields::{list, metadata, required, text},
    reader::{Entries, Path, Reader},
    tree::Node,
};

/// Reads the fields of a document, for the engine to look at.
pub(super) fn rate_limits_draft(reader: &mut Reader, tree: &Node, top: Entries<'_>) -> RateLimitsDraft {
    let (name, labels) = metadata(reader, tree, top);
    let Some(spec) = required(reader, tree, top, &Path::Top, "spec", "the domain and its descriptors") else {
        return RateLimitsDraft { name, labels, ..RateLimitsDraft::default() };
    };
    let path = Path::Top.field("spec");
    let fields = reader.entries(spec, &path, &["domain", "descriptors"]);
    let domain = required(reader, spec, fields, &path, "domain", "the domain that Envoys name")
        .and_then(|domain| reader.text(domain, &path.field("domain")));
    RateLimitsDraft {
        name,
        labels,
        domain: domain.unwrap_or_default(),
        descriptors: list(reader, fields, &path, "descriptors", |reader, node, path| {
            descriptor(reader, node, path, 1)
        }),
    }
}

/// Reads a descriptor and what is below it. One level more than may be is read, so that the engine sees it.
#[expect(clippy::unnecessary_wraps, reason = "the shape of what reads an item")]
fn descriptor(reader: &mut Reader, node: &Node, path: &Path<'_>, depth: usize) -> Option<DescriptorDraft> {
    let fields = reader.entries(node, path, &["key", "value", "rate", "burst", "shadow", "descriptors"]);
    let key = required(reader, node, fields, path, "key", "the key of the entry that it matches")
        .and_then(|key| reader.text(key, &path.field("key")));
    let descriptors = if depth > DEPTH_MAX {
        Vec::new()
    } else {
        list(reader, fields, path, "descriptors", |reader, node, path| {
            descriptor(reader, node, path, depth + 1)
        })
    };
    Some(DescriptorDraft {
        key: key.unwrap_or_default(),
        value: text(reader, fields, path, "value"),
        rate: text(reader, fields, path, "rate"),
        burst: fields.get("burst").and_then(|node| reader.number(node, &path.field("burst"))),
        shadow: text(reader, fields, path, "shadow"),
        descriptors,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::document::policy::{Document, read};

    const GOOD: &str = "\
apiVersion: podgate.io/v1
kind: RateLimits
metadata: { name: orders }
spec:
  domain: orders
  descriptors:
    - { key: remote_address, rate: 10/s, burst: 20 }
    - key: path
      value: /order
      rate: 600/m
      burst: 100
      shadow: true
      descriptors:
        - { key: user, rate: 1/s, burst: 5 }
";

    fn faults(text: &str) -> Vec<String> {
        read(&"limits.yaml".into(), text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_document_is_read_at_every_depth() {
        let documents = read(&"limits.yaml".into(), GOOD).unwrap();
        let [(_, Document::RateLimits(limits))] = &documents[..] else { panic!("{documents:?}") };
        let names: Vec<&str> = limits.descriptors.limits().iter().map(|limit| &*limit.name).collect();
        assert_eq!(names, ["path", "path/user", "remote_address"]);
    }

    #[test]
    fn every_fault_is_told_at_its_line() {
        let text = GOOD
            .replace("domain: orders\n", "domian: orders\n")
            .replace("rate: 600/m", "rate: fast")
            .replace("shadow: true", "shadow: [yes]")
            .replace("{ key: user, rate: 1/s, burst: 5 }", "{ rate: 1/s, burst: 0 }");
        assert_eq!(
            faults(&text),
            [
                "limits.yaml:5:3: spec.domian: unknown key; did you mean `domain`?",
                "limits.yaml:5:3: spec.domain: missing; expected the domain that Envoys name",
                "limits.yaml:14:11: spec.descriptors[1].descriptors[0].key: missing; expected the key of the entry that it \
                 matches",
                "limits.yaml:12:15: spec.descriptors[1].shadow: expected text, found a list",
                "limits.yaml:10:13: spec.descriptors[1].rate: `fast` is no rate; expected one such as `50/s`, `600/m` or \
                 `36000/h`, from 1/h to 1000000/s",
                "limits.yaml:14:31: spec.descriptors[1].descriptors[0].burst: 0 is no burst; expected 1 to 1000000",
            ]
        );
    }

    #[test]
    fn what_is_too_deep_is_a_fault() {
        let mut text = GOOD.split("    - key: path").next().unwrap().to_owned();
        for depth in 0..12 {
            let _ = write!(text, "{0}    - key: a{1}\n{0}      descriptors:\n", "    ".repeat(depth), depth);
        }
        assert!(faults(&text).iter().any(|fault| fault.contains("deeper than 8 descriptors")));
    }
}
