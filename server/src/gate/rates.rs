//! The limits that Envoys ask about.

use podgate_engine::rate_limiter::{Asked, Decided};

use crate::{
    authn::Caller,
    gate::{Gate, Refusal, require_operator},
};

impl Gate {
    /// Whether there is room in the buckets of all descriptors, and spends in them if there is.
    pub fn rate_limit(&self, caller: &Caller, domain: &str, asked: &[Asked<'_>]) -> Result<Decided, Refusal> {
        require_operator(caller)?;
        // Before the documents are read nothing would be limited.
        self.policies.in_force()?;
        Ok(self.policies.rates().decide(domain, asked))
    }
}
