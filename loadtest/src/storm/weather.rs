//! The storm while it lasts: pods come and go, the gateway is killed if that is asked, the background ends.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::{
    cli::StormArgs,
    storm::{
        StormError, background::Background, background_tally::BackgroundTally, crowd::Crowd,
        gateway::Gateway, progress::Progress, report::Killed, tally::Tally,
    },
};

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// The storm itself.
pub(crate) struct Weather<'a> {
    pub(crate) args: &'a StormArgs,
    pub(crate) gateway: Gateway,
    pub(crate) crowd: Crowd,
    pub(crate) tally: Rc<RefCell<Tally>>,
    pub(crate) start: Instant,
}

impl Weather<'_> {
    /// Lets the pods come and go until all are decided; kills and restarts the gateway in between, if asked.
    pub(crate) async fn until_all_decided(&mut self) -> Result<Killed, StormError> {
        let Self { args, gateway, crowd, tally, start } = self;
        let mut killed = Killed::Never;
        let mut progress = Progress::new(args.arrivals().pods().get());
        let mut tick = tokio::time::interval(TICK);
        let mut kill_at = args.kill_gateway_after.map(|after| *start + after);
        loop {
            let kill = tokio::time::sleep_until(kill_at.unwrap_or(*start));
            tokio::select! {
                ended = crowd.next_end() => match ended {
                    // After the last pod, where the hour did not come: what was acknowledged has to survive all the same.
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(panic)) => return Err(StormError::Client(panic.to_string())),
                },
                _ = tick.tick() => progress.show(&tally.borrow(), start.elapsed()),
                () = kill, if kill_at.is_some() => {
                    (kill_at, killed) = (None, Killed::During);
                    gateway.kill_and_restart().await?;
                }
                death = gateway.death() => return Err(death.into()),
            }
        }
        if kill_at.is_some() {
            killed = Killed::After;
            gateway.kill_and_restart().await?;
        }
        progress.close();
        Ok(killed)
    }

    /// Ends the background: after a spike, once it is served as before, or it is clear that it is not.
    pub(crate) async fn end_of_background(
        &mut self,
        background: Option<Background>,
        spike_end: Option<Instant>,
    ) -> Result<Option<Rc<RefCell<BackgroundTally>>>, StormError> {
        let Some(background) = background else { return Ok(None) };
        if let Some(spike_end) = spike_end {
            tokio::select! {
                () = background.recovered(spike_end) => {}
                death = self.gateway.death() => return Err(death.into()),
            }
        }
        background.stop().await.map(Some)
    }
}
