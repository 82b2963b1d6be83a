//! What the store holds its leases to.

use std::time::Duration;

use podgate_engine::lease::SharedAddresses;

/// What the store holds its leases to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Most living grants.
    pub grants_max: usize,
    /// Addresses that several pods have at once.
    pub shared: SharedAddresses,
    /// How long nobody else may have an address after its pod has ended.
    pub quarantine: Duration,
}

/// At most so many grants, of which each has its address for itself.
impl From<usize> for Rules {
    fn from(grants_max: usize) -> Self {
        Self { grants_max, shared: SharedAddresses::default(), quarantine: Duration::ZERO }
    }
}
