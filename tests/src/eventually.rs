//! Waiting for a condition, and never for a time.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long anything may take before the test is called a failure: far beyond what a busy machine needs.
pub const WITHIN: Duration = Duration::from_secs(40);
/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` finds something, and returns it.
///
/// # Panics
///
/// Panics after [`WITHIN`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    within(what, looking).await
}

/// Waits for an event.
///
/// # Panics
///
/// Panics after [`WITHIN`].
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(WITHIN, event).await.unwrap_or_else(|_| panic!("waited {WITHIN:?} in vain: {what}"))
}
