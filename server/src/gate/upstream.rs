//! Where the gate waits for the upstream: behind the store, and before the caller is told.

use std::time::Duration;

use podgate_engine::time::Moment;

use crate::{
    clock,
    gate::{Authorized, Gate, Outcome, Refusal},
    upstream::Upstream,
};

/// What is left of a deadline for the answer's way back.
const MARGIN: Duration = Duration::from_millis(100);

impl Gate {
    /// The same gate, with an upstream that must know of each grant before its caller does.
    #[must_use]
    pub fn with_upstream(self, upstream: Option<Upstream>) -> Self {
        Self { upstream, ..self }
    }

    /// The upstream, if there is one.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Refuses what the upstream could not be told of. Asked before a token is spent.
    pub(crate) fn upstream_ready(&self) -> Result<(), Refusal> {
        match &self.upstream {
            None => Ok(()),
            Some(upstream) => Ok(upstream.intake().ready()?),
        }
    }

    /// Waits until the grant that is to be told, if any, is in force at the upstream, and tells it only then. The
    /// grant is durable whatever comes of this: the same request finds it.
    pub(crate) async fn in_force_behind(
        &self,
        authorized: Authorized,
        deadline: Moment,
    ) -> Result<Authorized, Refusal> {
        let Some(upstream) = &self.upstream else { return Ok(authorized) };
        match &authorized.outcome {
            Outcome::Common | Outcome::Denied(_) | Outcome::Deferred { .. } => {}
            Outcome::Repeated(grant) | Outcome::Granted(grant) => {
                if !upstream.intake().is_applied(grant) {
                    let left = deadline.since(clock::now()).saturating_sub(MARGIN);
                    upstream.intake().apply(grant, left).await?;
                }
            }
        }
        Ok(authorized)
    }
}
