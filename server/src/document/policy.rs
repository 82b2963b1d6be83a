//! Profiles, common ports and rate limits as YAML documents.

use std::sync::Arc;

use podgate_engine::{
    common_ports::CommonPorts,
    draft::{CommonPortsDraft, LeaseDraft, LimitsDraft, ProfileDraft, RuleDraft, SubjectDraft},
    fault::{Fault, nearest, shown},
    profile::Profile,
    rate_limits::RateLimits,
};

use crate::document::{
    fault::{DocumentFault, Position},
    fields::{list, metadata, required, text},
    rate_limits::rate_limits_draft,
    reader::{Entries, Path, Reader},
    tree::{self, Node},
};

const API_VERSION: &str = "podgate.io/v1";
const KINDS: [&str; 3] = ["AppProfile", "CommonPorts", "RateLimits"];

/// A document that makes up policy.
#[derive(Clone, Debug)]
pub enum Document {
    /// `kind: AppProfile`
    Profile(Arc<Profile>),
    /// `kind: CommonPorts`
    CommonPorts(Arc<CommonPorts>),
    /// `kind: RateLimits`
    RateLimits(Arc<RateLimits>),
}

/// Reads all documents of a file, or tells everything that is wrong with any of them.
///
/// With each document comes the place where it begins.
pub fn read(file: &Arc<str>, text: &str) -> Result<Vec<(Position, Document)>, Vec<DocumentFault>> {
    let trees = tree::parse(text).map_err(|error| {
        vec![DocumentFault {
            file: Arc::clone(file),
            position: Some(error.at),
            path: String::new(),
            message: error.message,
        }]
    })?;
    let (mut documents, mut faults) = (Vec::with_capacity(trees.len()), Vec::new());
    for tree in &trees {
        match read_one(file, tree) {
            Ok(document) => documents.push((tree.at, document)),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

fn read_one(file: &Arc<str>, tree: &Node) -> Result<Document, Vec<DocumentFault>> {
    let mut reader = Reader::new(Arc::clone(file));
    let top = reader.entries(tree, &Path::Top, &["apiVersion", "kind", "metadata", "spec"]);
    expect_api_version(&mut reader, tree, top);
    let kind = match top.get("kind") {
        Some(node) => reader.text(node, &Path::Top.field("kind")),
        None => {
            reader.missing(tree, &Path::Top.field("kind"), &KINDS.join(", "));
            None
        }
    };
    match kind.as_deref() {
        Some("AppProfile") => {
            let draft = profile_draft(&mut reader, tree, top);
            finish(reader, tree, Profile::parse(&draft)).map(|it| Document::Profile(Arc::new(it)))
        }
        Some("CommonPorts") => {
            let draft = common_ports_draft(&mut reader, tree, top);
            finish(reader, tree, CommonPorts::parse(&draft)).map(|it| Document::CommonPorts(Arc::new(it)))
        }
        Some("RateLimits") => {
            let draft = rate_limits_draft(&mut reader, tree, top);
            finish(reader, tree, RateLimits::parse(&draft)).map(|it| Document::RateLimits(Arc::new(it)))
        }
        Some(other) => {
            let hint =
                nearest(other, KINDS).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("{} is no kind; expected {}{hint}", shown(other), KINDS.join(", "));
            reader.fault(tree.locate("kind"), "kind", message);
            Err(reader.into_faults())
        }
        None => Err(reader.into_faults()),
    }
}

/// Joins what the reader found in the tree with what the engine found in the draft.
///
/// A field that the reader could not read is missing from the draft; the reader's word on it is the better one.
fn finish<T>(
    mut reader: Reader,
    tree: &Node,
    parsed: Result<T, Vec<Fault>>,
) -> Result<T, Vec<DocumentFault>> {
    let faults = match parsed {
        Ok(value) if reader.is_clean() => return Ok(value),
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    };
    for Fault { path, message } in faults {
        if !reader.speaks_of(&path) {
            reader.fault(tree.locate(&path), path, message);
        }
    }
    Err(reader.into_faults())
}

fn expect_api_version(reader: &mut Reader, tree: &Node, top: Entries<'_>) {
    let path = Path::Top.field("apiVersion");
    match top.get("apiVersion") {
        None => reader.missing(tree, &path, API_VERSION),
        Some(node) => match reader.text(node, &path) {
            Some(text) if text != API_VERSION => {
                reader.fault(
                    node.at,
                    path,
                    format!("{} is not known here; expected {API_VERSION}", shown(&text)),
                );
            }
            Some(_) | None => {}
        },
    }
}

fn profile_draft(reader: &mut Reader, tree: &Node, top: Entries<'_>) -> ProfileDraft {
    let (name, labels) = metadata(reader, tree, top);
    let Some(spec) = required(reader, tree, top, &Path::Top, "spec", "what the app may reach") else {
        return ProfileDraft { name, labels, ..ProfileDraft::default() };
    };
    let path = Path::Top.field("spec");
    let known = ["owner", "priority", "subjects", "allow", "limits", "lease", "onUnavailable", "mode"];
    let fields = reader.entries(spec, &path, &known);
    ProfileDraft {
        name,
        labels,
        owner: text(reader, fields, &path, "owner").unwrap_or_default(),
        priority: text(reader, fields, &path, "priority"),
        subjects: list(reader, fields, &path, "subjects", subject),
        allow: list(reader, fields, &path, "allow", rule),
        limits: limits(reader, fields, &path),
        lease: lease(reader, fields, &path),
        on_unavailable: text(reader, fields, &path, "onUnavailable"),
        mode: text(reader, fields, &path, "mode"),
    }
}

fn common_ports_draft(reader: &mut Reader, tree: &Node, top: Entries<'_>) -> CommonPortsDraft {
    let (name, labels) = metadata(reader, tree, top);
    let Some(spec) = required(reader, tree, top, &Path::Top, "spec", "the destinations") else {
        return CommonPortsDraft { name, labels, ..CommonPortsDraft::default() };
    };
    let path = Path::Top.field("spec");
    let fields = reader.entries(spec, &path, &["clusters", "priorities", "allow"]);
    CommonPortsDraft {
        name,
        labels,
        clusters: list(reader, fields, &path, "clusters", Reader::text),
        priorities: list(reader, fields, &path, "priorities", Reader::text),
        allow: list(reader, fields, &path, "allow", rule),
    }
}

fn subject(reader: &mut Reader, node: &Node, path: &Path<'_>) -> Option<SubjectDraft> {
    let fields = reader.entries(node, path, &["serviceAccount", "hosts"]);
    let subject = match (fields.get("serviceAccount"), fields.get("hosts")) {
        (Some(account), None) => {
            let path = path.field("serviceAccount");
            let fields = reader.entries(account, &path, &["cluster", "namespace", "name"]);
            SubjectDraft::ServiceAccount {
                cluster: text(reader, fields, &path, "cluster"),
                namespace: text(reader, fields, &path, "namespace").unwrap_or_default(),
                name: text(reader, fields, &path, "name").unwrap_or_default(),
            }
        }
        (None, Some(hosts)) => {
            let path = path.field("hosts");
            let fields = reader.entries(hosts, &path, &["cidrs"]);
            SubjectDraft::Hosts { cidrs: list(reader, fields, &path, "cidrs", Reader::text) }
        }
        (Some(_), Some(_)) => {
            reader.fault(node.at, path, "names both `serviceAccount` and `hosts`; expected one of them");
            return None;
        }
        (None, None) => SubjectDraft::Missing,
    };
    Some(subject)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of what reads an item")]
fn rule(reader: &mut Reader, node: &Node, path: &Path<'_>) -> Option<RuleDraft> {
    let fields = reader.entries(node, path, &["name", "hosts", "ports", "protocol"]);
    Some(RuleDraft {
        name: text(reader, fields, path, "name").unwrap_or_default(),
        hosts: list(reader, fields, path, "hosts", Reader::text),
        ports: list(reader, fields, path, "ports", Reader::text),
        protocol: text(reader, fields, path, "protocol"),
    })
}

fn limits(reader: &mut Reader, spec: Entries<'_>, parent: &Path<'_>) -> LimitsDraft {
    let Some(node) = spec.get("limits") else {
        return LimitsDraft::default();
    };
    let path = parent.field("limits");
    let fields = reader.entries(node, &path, &["rate", "burst", "horizon"]);
    LimitsDraft {
        rate: text(reader, fields, &path, "rate"),
        burst: fields.get("burst").and_then(|node| reader.number(node, &path.field("burst"))),
        horizon: fields.get("horizon").and_then(|node| reader.duration(node, &path.field("horizon"))),
    }
}

fn lease(reader: &mut Reader, spec: Entries<'_>, parent: &Path<'_>) -> LeaseDraft {
    let Some(node) = spec.get("lease") else {
        return LeaseDraft::default();
    };
    let path = parent.field("lease");
    let fields = reader.entries(node, &path, &["ttl", "maxAge", "max", "grace"]);
    let mut duration = |key| fields.get(key).and_then(|node| reader.duration(node, &path.field(key)));
    LeaseDraft {
        ttl: duration("ttl"),
        max_age: duration("maxAge"),
        grace: duration("grace"),
        max: fields.get("max").and_then(|node| reader.number(node, &path.field("max"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match read(&"app.yaml".into(), text) {
            Ok(documents) => panic!("read {} documents", documents.len()),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    const GOOD: &str = "\
apiVersion: podgate.io/v1
kind: AppProfile
metadata: { name: hotel-order, labels: { team: hotel } }
spec:
  owner: hotel-order-dev@example.com
  priority: P1
  subjects:
    - serviceAccount: { cluster: bj-1, namespace: hotel, name: order }
    - hosts: { cidrs: [10.1.2.0/28] }
  allow:
    - { name: order-db, hosts: [mysql-order.db.svc, 10.9.0.0/24], ports: [3306], protocol: TCP }
    - { name: cache, hosts: [\"*.redis.internal\"], ports: [6379-6381] }
  limits: { rate: 50/s, burst: 100, horizon: 2m }
  lease: { ttl: 10m, maxAge: 7d, max: 5000, grace: 1h }
  onUnavailable: lastGrant
  mode: enforce
---
apiVersion: podgate.io/v1
kind: CommonPorts
metadata: { name: base }
spec:
  priorities: [P1]
  allow: [{ name: dns, hosts: [10.96.0.10], ports: [53], protocol: UDP }]
";

    #[test]
    fn a_file_may_hold_several_documents() {
        let documents = read(&"app.yaml".into(), GOOD).unwrap();
        assert_eq!(documents.len(), 2);
        assert!(matches!(&documents[0].1, Document::Profile(it) if it.name.as_str() == "hotel-order"));
        assert!(matches!(&documents[1].1, Document::CommonPorts(it) if it.name.as_str() == "base"));
    }

    #[test]
    fn every_fault_is_told_with_line_and_field_and_the_nearest_key() {
        let text = GOOD
            .replace("priority: P1", "priorty: P1")
            .replace("ports: [3306]", "ports: [99999]")
            .replace("burst: 100", "burst: lots")
            .replace("mode: enforce", "mode: enforced")
            .replace("hosts: [10.96.0.10]", "hosts: [10.96.0.300]");
        assert_eq!(
            faults(&text),
            [
                "app.yaml:6:3: spec.priorty: unknown key; did you mean `priority`?",
                "app.yaml:13:32: spec.limits.burst: `lots` is no whole number",
                "app.yaml:11:75: spec.allow[0].ports[0]: 99999 is no port; expected 1 to 65535",
                "app.yaml:16:9: spec.mode: `enforced` is no mode; expected enforce, shadow; did you mean `enforce`?",
                "app.yaml:23:32: spec.allow[0].hosts[0]: `10.96.0.300` is no IP address; expected one such as \
                 `10.9.0.7` or `fd00::7`",
            ]
        );
    }

    #[test]
    fn an_item_that_cannot_be_read_leaves_the_others_in_their_places() {
        let text = GOOD.replace("[mysql-order.db.svc, 10.9.0.0/24]", "[[x], ok, bad!]");
        assert_eq!(
            faults(&text),
            [
                "app.yaml:11:33: spec.allow[0].hosts[0]: expected text, found a list",
                "app.yaml:11:42: spec.allow[0].hosts[2]: `bad!` is no host: labels consist of letters, digits, `-` and `_`; \
                 expected a DNS name, `*.` and a DNS name, an IP address or a CIDR",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_named_once() {
        assert_eq!(
            faults("kind: AppProfile\nmetadata: {}\n"),
            [
                "app.yaml:1:1: apiVersion: missing; expected podgate.io/v1",
                "app.yaml:2:11: metadata.name: missing; expected the name of the app or document",
                "app.yaml:1:1: spec: missing; expected what the app may reach",
            ]
        );
        assert_eq!(
            faults("apiVersion: podgate.io/v1\nkind: AppProfil\n"),
            [
                "app.yaml:2:7: kind: `AppProfil` is no kind; expected AppProfile, CommonPorts, RateLimits; did you mean `AppProfile`?"
            ]
        );
    }

    proptest! {
        /// A good document with one stretch of it overwritten is read or refused, with a place for each fault.
        #[test]
        fn damage_is_survived(start in 0usize..900, length in 0usize..40, noise in "[ \\n:\\-\\[\\]{},a-z0-9]{0,20}") {
            let start = start.min(GOOD.len());
            let end = (start + length).min(GOOD.len());
            let text = format!("{}{noise}{}", &GOOD[..start], &GOOD[end..]);
            if let Err(faults) = read(&"app.yaml".into(), &text) {
                prop_assert!(!faults.is_empty());
                prop_assert!(faults.iter().all(|fault| fault.position.is_some()));
            }
        }
    }
}
