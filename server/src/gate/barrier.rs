//! Watching, and granting only what the enforcers have in force.

use std::time::Duration;

use podgate_engine::{grant::Grant, guard::Guards, time::Moment};

use crate::{
    authn::Caller,
    clock,
    gate::{
        Asked, Authorized, Gate, Outcome, Patience, Refusal, enforcers::Place, require_operator,
        watch::Watcher,
    },
};

/// What is left of a deadline for the answer's way back.
const MARGIN: Duration = Duration::from_millis(100);

impl Gate {
    /// Begins a watch: of the enforcer `name`, or, where that is empty, of someone who only looks on.
    pub fn watch(
        &self,
        caller: &Caller,
        name: Box<str>,
        guards: Guards,
        token: &[u8],
    ) -> Result<(Place, Watcher), Refusal> {
        require_operator(caller)?;
        let watcher = Watcher::new(guards.clone(), token, self.store().journal());
        let place = self.enforcers.take_in(name, guards, watcher.in_force())?;
        Ok((place, watcher))
    }

    /// Decides as [`Gate::authorize`] does, and tells of a grant only once every enforcer that guards some of its
    /// destinations has it in force. It is durable whatever comes of that: the same request finds it, and waits again.
    pub async fn authorize_behind_barrier(
        &self,
        caller: &Caller,
        asked: &Asked,
        patience: &Patience,
    ) -> Result<Authorized, Refusal> {
        let deadline = patience.deadline(clock::now());
        let authorized = self.authorize(caller, asked, patience).await?;
        match &authorized.outcome {
            Outcome::Common | Outcome::Denied(_) | Outcome::Deferred { .. } => {}
            Outcome::Repeated(grant) | Outcome::Granted(grant) => {
                let opened = self.opened(grant, deadline).await;
                let outcome = if opened.is_ok() { "open" } else { "pending" };
                metrics::counter!("podgate_barriers_total", "outcome" => outcome).increment(1);
                opened?;
            }
        }
        Ok(authorized)
    }

    async fn opened(&self, grant: &Grant, deadline: Moment) -> Result<(), Refusal> {
        // The grant came into force with this revision or an earlier one.
        let revision = self.store().journal().head();
        let left = deadline.since(clock::now()).saturating_sub(MARGIN);
        tokio::select! {
            biased;
            // Before the rest: nobody acknowledges anything to a gateway that ends, and those who leave it are not gone.
            () = self.enforcers.drained() => Err(Refusal::EnforcersPending),
            () = self.enforcers.in_force(grant, revision) => Ok(()),
            () = tokio::time::sleep(left) => Err(Refusal::EnforcersPending),
        }
    }
}
