//! Profiles and common ports as the tests write them.

/// A profile for pods of namespace and service account `shop` that allows TCP to `host:3306`, with more lines of its
/// `spec`.
pub fn profile(app: &str, host: &str, spec: &str) -> String {
    profile_for("serviceAccount: { namespace: shop, name: shop }", app, host, spec)
}

/// The same for another subject.
pub fn profile_for(subject: &str, app: &str, host: &str, spec: &str) -> String {
    format!(
        "apiVersion: podgate.io/v1\nkind: AppProfile\nmetadata: {{ name: {app} }}\nspec:\n  subjects:\n    - \
         {subject}\n  allow:\n    - {{ name: db, hosts: [{host}], ports: [3306] }}\n{spec}"
    )
}

/// Common ports that allow everyone TCP to `host:53`.
pub fn common_ports(name: &str, host: &str) -> String {
    format!(
        "apiVersion: podgate.io/v1\nkind: CommonPorts\nmetadata: {{ name: {name} }}\nspec:\n  allow:\n    - {{ name: \
         dns, hosts: [{host}], ports: [53] }}\n"
    )
}
