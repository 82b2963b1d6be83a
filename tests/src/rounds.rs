//! How often a test that is left to chance is done, and by which seed: as a test says, or as `tests/rounds` says for more
//! of it.

/// So many rounds, unless `PODGATE_ROUNDS` says otherwise.
pub fn rounds(unless_set: u64) -> u64 {
    number("PODGATE_ROUNDS", unless_set)
}

/// By this seed, unless `PODGATE_SEED` says otherwise.
pub fn seed(unless_set: u64) -> u64 {
    number("PODGATE_SEED", unless_set)
}

#[expect(clippy::disallowed_methods, reason = "the tests have no other use of the environment")]
fn number(name: &str, unless_set: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => unless_set,
    }
}
