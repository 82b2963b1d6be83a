//! Turns: when a gateway has told a caller to come.

use std::time::Duration;

use podgate_proto::v1::{AuthorizeRequest, authorize_response::Outcome};
use tonic::Code;

use crate::{
    caller::Caller,
    clock,
    refusal::{quotas, reason, retry_after},
};

/// How long a call may have waited at the door without anybody there.
const AT_THE_DOOR: Duration = Duration::from_millis(20);

/// A slot that was told as a delay. It counts from within the call, or from when its connection came to the door, and so
/// the slot lies between two instants since boot, a little further from each other than the call took.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Not before.
    pub earliest: Duration,
    /// Not after.
    pub latest: Duration,
}

/// A turn that was told with a ticket.
#[derive(Clone, Debug)]
pub struct Turn {
    /// When it is due.
    pub slot: Slot,
    /// The proof.
    pub ticket: Vec<u8>,
}

impl Slot {
    /// Whether it is at this instant, as far as can be told.
    pub fn is_at(self, instant: Duration) -> bool {
        (self.earliest..=self.latest).contains(&instant)
    }

    /// Whether it is one with another, as far as can be told.
    pub fn is(self, other: Self) -> bool {
        self.earliest <= other.latest && other.earliest <= self.latest
    }
}

/// Tells a slot from a delay that a call has returned.
async fn slot_of<T>(call: impl Future<Output = (T, Duration)>) -> (T, Slot) {
    let before = clock::since_boot();
    let (told, delay) = call.await;
    let after = clock::since_boot();
    let earliest = (before + delay).saturating_sub(AT_THE_DOOR);
    (told, Slot { earliest, latest: after + delay })
}

impl Caller {
    /// Asks for access as one who keeps appointments, and expects to get one.
    ///
    /// # Panics
    ///
    /// Panics if it does not.
    pub async fn deferred(&self, request: AuthorizeRequest) -> Turn {
        let request = AuthorizeRequest { keeps_appointments: true, ..request };
        let asking = async {
            match self.authorize(request).await.map(|response| response.outcome) {
                Ok(Some(Outcome::Deferred(deferred))) => {
                    let delay = deferred.delay.and_then(|delay| Duration::try_from(delay).ok());
                    (deferred.ticket, delay.unwrap_or_else(|| panic!("no delay is told")))
                }
                other => panic!("not deferred: {other:?}"),
            }
        };
        let (ticket, slot) = slot_of(asking).await;
        Turn { slot, ticket }
    }

    /// Asks for access as one who knows no appointments, and expects to be told when to come all the same.
    ///
    /// # Panics
    ///
    /// Panics if it is not.
    pub async fn booked(&self, request: AuthorizeRequest) -> Slot {
        let asking = async {
            let status = self.refused(request).await;
            assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "BOOKED"));
            assert_eq!(quotas(&status), ["app"]);
            ((), retry_after(&status).unwrap_or_else(|| panic!("no delay is told: {status:?}")))
        };
        slot_of(asking).await.1
    }

    /// Asks for access, and expects that nothing is booked for it; returns why, and how long it is sent away.
    ///
    /// # Panics
    ///
    /// Panics if it gets an answer, or is refused otherwise.
    pub async fn pushed_back(&self, request: AuthorizeRequest) -> (String, Duration) {
        let request = AuthorizeRequest { keeps_appointments: true, ..request };
        let status = self.refused(request).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let delay = retry_after(&status).unwrap_or_else(|| panic!("no delay is told: {status:?}"));
        (reason(&status), delay)
    }

    /// The slot that a newcomer to an app would get.
    ///
    /// # Panics
    ///
    /// Panics if the gateway does not tell it.
    pub async fn next_slot(&self, app: &str) -> Slot {
        let asking = async {
            let delay = self.bucket(app).await.next_slot.and_then(|delay| Duration::try_from(delay).ok());
            ((), delay.unwrap_or_else(|| panic!("no next slot is told")))
        };
        slot_of(asking).await.1
    }

    /// Asks for access, expects to get it, and returns when it was admitted, since boot.
    ///
    /// # Panics
    ///
    /// Panics if it does not get it.
    pub async fn admitted(&self, request: AuthorizeRequest) -> Duration {
        let admitted_at = self.granted(request).await.admitted_at.and_then(|at| Duration::try_from(at).ok());
        admitted_at.unwrap_or_else(|| panic!("it is not told when it was admitted"))
    }
}
