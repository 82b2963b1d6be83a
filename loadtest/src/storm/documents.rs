//! The profiles of a storm's apps, as files and as messages.

use std::{fmt::Write as _, fs, io, num::NonZeroU32, path::Path};

use podgate_proto::v1::{
    LeasePolicy, Limits, Profile, ProfileSubject, Protocol, Rule, ServiceAccount, profile_subject,
};

use crate::{cli::StormArgs, quantity::Rate};

/// Namespace of every virtual pod.
pub(crate) const NAMESPACE: &str = "storm";
/// Most living grants of an app: as many as a profile may say.
const LEASES_MAX: u32 = 1_000_000;
/// Profiles a file.
const PER_FILE: usize = 1000;
/// Rate, a second, and burst of the background's apps: ten times what one of them may ask.
const BACKGROUND_LIMIT: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// The rules of every app: name, host, ports.
const RULES: [(&str, &str, &str); 4] = [
    ("order-db", "mysql-order.db.svc", "3306"),
    ("cache", "*.redis.internal", "6379-6381"),
    ("events", "10.9.0.0/24", "9092"),
    ("prices", "prices.search.svc", "8080"),
];

/// What pods ask for, a destination for each rule.
pub(crate) const DESTINATIONS: [&str; 4] =
    ["mysql-order.db.svc:3306", "order.redis.internal:6379", "10.9.0.17:9092", "prices.search.svc:8080"];

/// Name of an app; its service account has the same.
pub(crate) fn app_name(app: u32) -> String {
    format!("storm-{app:05}")
}

/// Name of an app of the background.
pub(crate) fn background_app_name(app: u32) -> String {
    format!("storm-bg-{app:05}")
}

/// An app with its bucket.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) rate: Rate,
    pub(crate) burst: u32,
}

/// The apps of the storm, then those of the background, whose limits never bind.
pub(crate) fn apps(args: &StormArgs) -> Vec<App> {
    let (rate, burst) = (args.rate(), args.burst());
    let storm = (0..args.apps).map(|app| App { name: app_name(app), rate, burst });
    let background = (0..args.background_apps.unwrap_or(0)).map(|app| App {
        name: background_app_name(app),
        rate: Rate::per_second(BACKGROUND_LIMIT),
        burst: BACKGROUND_LIMIT.get(),
    });
    storm.chain(background).collect()
}

/// Writes the profiles of `apps` into the directory `into`.
pub(crate) fn write(into: &Path, apps: &[App]) -> io::Result<()> {
    for some in apps.chunks(PER_FILE) {
        let documents: Vec<String> = some.iter().map(yaml).collect();
        fs::write(into.join(format!("{}.yaml", some[0].name)), documents.join("---\n"))?;
    }
    Ok(())
}

fn yaml(App { name, rate, burst }: &App) -> String {
    let mut text = format!(
        "apiVersion: podgate.io/v1\nkind: AppProfile\nmetadata: {{ name: {name}, labels: {{ made-by: loadtest }} }}\n\
         spec:\n  owner: loadtest\n  subjects:\n    - serviceAccount: {{ namespace: {NAMESPACE}, name: {name} }}\n  \
         allow:\n"
    );
    for (rule, host, ports) in RULES {
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "    - {{ name: {rule}, hosts: [\"{host}\"], ports: [{ports}], protocol: TCP }}");
    }
    let _ = writeln!(text, "  limits: {{ rate: {rate}, burst: {burst} }}\n  lease: {{ max: {LEASES_MAX} }}");
    text
}

/// The same profile as a message.
pub(crate) fn message(App { name, rate, burst }: &App) -> Profile {
    let account =
        ServiceAccount { cluster: String::new(), namespace: NAMESPACE.to_owned(), name: name.clone() };
    Profile {
        name: name.clone(),
        labels: [("made-by".to_owned(), "loadtest".to_owned())].into(),
        owner: "loadtest".to_owned(),
        subjects: vec![ProfileSubject { subject: Some(profile_subject::Subject::ServiceAccount(account)) }],
        allow: RULES
            .map(|(rule, host, ports)| Rule {
                name: rule.to_owned(),
                hosts: vec![host.to_owned()],
                ports: vec![ports.to_owned()],
                protocol: Protocol::Tcp.into(),
            })
            .into(),
        limits: Some(Limits { rate: rate.to_string(), burst: *burst, horizon: None }),
        lease: Some(LeasePolicy { max: LEASES_MAX, ..LeasePolicy::default() }),
        ..Profile::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(app: u32, rate: &str, burst: u32) -> App {
        App { name: app_name(app), rate: rate.parse().unwrap(), burst }
    }

    #[test]
    fn a_profile_is_what_a_person_would_write() {
        assert_eq!(
            yaml(&app(7, "600/m", 5)),
            "apiVersion: podgate.io/v1\n\
             kind: AppProfile\n\
             metadata: { name: storm-00007, labels: { made-by: loadtest } }\n\
             spec:\n  owner: loadtest\n  subjects:\n    - serviceAccount: { namespace: storm, name: storm-00007 }\n  \
             allow:\n    \
             - { name: order-db, hosts: [\"mysql-order.db.svc\"], ports: [3306], protocol: TCP }\n    \
             - { name: cache, hosts: [\"*.redis.internal\"], ports: [6379-6381], protocol: TCP }\n    \
             - { name: events, hosts: [\"10.9.0.0/24\"], ports: [9092], protocol: TCP }\n    \
             - { name: prices, hosts: [\"prices.search.svc\"], ports: [8080], protocol: TCP }\n  \
             limits: { rate: 600/m, burst: 5 }\n  lease: { max: 1000000 }\n"
        );
    }

    #[test]
    fn the_gateway_takes_them() {
        let text = [yaml(&app(0, "50", 20)), yaml(&app(1, "1/h", 1))].join("---\n");
        assert_eq!(podgate::document::policy::read(&"storm.yaml".into(), &text).unwrap().len(), 2);
    }

    #[test]
    fn a_thousand_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let apps: Vec<_> = (0..1001).map(|index| app(index, "50", 20)).collect();
        write(directory.path(), &apps).unwrap();
        let documents =
            |file: &str| fs::read_to_string(directory.path().join(file)).unwrap().matches("kind:").count();
        assert_eq!((documents("storm-00000.yaml"), documents("storm-01000.yaml")), (1000, 1));
    }

    #[test]
    fn file_and_message_agree() {
        let text = yaml(&app(3, "50", 20));
        let message = message(&app(3, "50", 20));
        assert!(text.contains(&format!("name: {}", message.name)));
        for rule in &message.allow {
            let line =
                format!("name: {}, hosts: [\"{}\"], ports: [{}]", rule.name, rule.hosts[0], rule.ports[0]);
            assert!(text.contains(&line), "{line}");
        }
    }
}
