//! Where the gate waits for the upstream: behind the store, and before the caller is told.

use std::time::Duration;

use podgate_engine::time::Moment;

use crate::{
    clock,
    gate::{Authorized, Gate, Outcome, Patience, Refusal},
    upstream::Upstream,
};

/// Longest wait for the upstream, whatever the caller's deadline: any call is answered within 10 s.
const WAIT_MAX: Duration = Duration::from_millis(9_800);
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

    /// When a call began, where an upstream makes that matter.
    pub(crate) fn began(&self) -> Option<Moment> {
        self.upstream.as_ref().map(|_| clock::now())
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
        patience: &Patience,
        began: Option<Moment>,
    ) -> Result<Authorized, Refusal> {
        let (Some(upstream), Some(began)) = (&self.upstream, began) else { return Ok(authorized) };
        match &authorized.outcome {
            Outcome::Common | Outcome::Denied(_) | Outcome::Deferred { .. } => {}
            Outcome::Repeated(grant) | Outcome::Granted(grant) => {
                if !upstream.intake().is_applied(grant) {
                    let limit = patience.answer_within.saturating_sub(MARGIN);
                    let left = limit.min(WAIT_MAX).saturating_sub(clock::now().since(began));
                    upstream.intake().apply(grant, left).await?;
                }
            }
        }
        Ok(authorized)
    }
}
