//! What was decided about a request.

use std::sync::Arc;

use crate::{
    destination::Destination,
    index::{Miss, RuleRef},
};

/// The decision about a whole set of destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The destinations: those asked for, or, where none was, all that the profile allows.
    pub destinations: Arc<[Destination]>,
    /// One verdict a destination, in the same order.
    pub verdicts: Box<[Verdict]>,
    /// What follows for the whole.
    pub ruling: Ruling,
}

/// What follows for a request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Common ports only: no token, no grant.
    Common,
    /// All allowed.
    Allowed,
    /// Something is denied, but the profile's mode lets it through.
    Shadowed,
    /// Something is denied, and so is the whole: the widest reason.
    Denied(Denial),
}

/// What was decided about one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by a rule of the profile.
    Allowed(RuleRef),
    /// Allowed as a common port.
    Common(RuleRef),
    /// Denied, with the rule that came nearest.
    Denied(Denial, Option<RuleRef>),
}

/// Why something is denied, from the widest to the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denial {
    /// No profile has the app's name.
    NoProfile,
    /// The profile does not list the subject.
    SubjectNotListed,
    /// The nearest rule lacks something.
    Destination(Miss),
}
