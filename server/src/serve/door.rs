//! The door: connections are served first come, first served, from accept until their first request is read.
//!
//! Ten thousand connections that are read side by side bring hardly one request to its end until all of them are
//! there, and the rate that was not booked meanwhile is lost. So a connection is not read before it has a permit, and
//! permits are few. Who was told to come back now has a door of its own.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use podgate_engine::time::Moment;
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;

/// Connections whose first request is being read.
const PERMITS: usize = 64;
/// Of these, most from one address: one that opens many and is slow on all of them holds up itself.
const PERMITS_OF_ADDRESS: usize = 4;
/// How long a permit lasts.
pub(crate) const PERMIT_LASTS: Duration = Duration::from_secs(2);

/// The door.
#[derive(Debug)]
pub struct Door {
    newcomers: Arc<Semaphore>,
    expected: Arc<Semaphore>,
    by_address: Mutex<FxHashMap<(IpAddr, Visitor), Arc<Semaphore>>>,
}

/// Whether a caller was told to come about now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Visitor {
    Newcomer,
    Expected,
}

/// A visitor's turn at the door.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) permit: Permit,
    /// Since when it was waited for.
    pub(crate) came_at: Moment,
}

/// Leave to be read; given back when dropped, the one of all before the address's own.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _own: Own,
}

/// A visitor's place among those of its address, waited for or had. Dropped, the address is forgotten if it was the last.
#[derive(Debug)]
struct Own {
    door: Arc<Door>,
    who: (IpAddr, Visitor),
    permit: Option<OwnedSemaphorePermit>,
}

impl Door {
    /// A door with nobody before it.
    pub fn new() -> Self {
        let permits = || Arc::new(Semaphore::new(PERMITS));
        Self { newcomers: permits(), expected: permits(), by_address: Mutex::default() }
    }

    /// Waits until it is the visitor's turn; none where the door is gone.
    pub(crate) async fn turn(self: &Arc<Self>, address: IpAddr, visitor: Visitor) -> Option<Turn> {
        let came_at = clock::now();
        let permit = self.enter(address, visitor).await?;
        Some(Turn { permit, came_at })
    }

    async fn enter(self: &Arc<Self>, address: IpAddr, visitor: Visitor) -> Option<Permit> {
        let who = (address, visitor);
        let mut own = Own { door: Arc::clone(self), who, permit: None };
        let of_address = Arc::clone(
            self.by_address
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(who)
                .or_insert_with(|| Arc::new(Semaphore::new(PERMITS_OF_ADDRESS))),
        );
        own.permit = Some(of_address.acquire_owned().await.ok()?);
        let of_all = match visitor {
            Visitor::Newcomer => &self.newcomers,
            Visitor::Expected => &self.expected,
        };
        let of_all = Arc::clone(of_all).acquire_owned().await.ok()?;
        Some(Permit { _of_all: of_all, _own: own })
    }

    fn forget(&self, who: (IpAddr, Visitor)) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.get(&who).is_some_and(|own| Arc::strong_count(own) == 1) {
            by_address.remove(&who);
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.door.forget(self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Whether there is room at once.
    async fn enters(door: &Arc<Door>, from: IpAddr, visitor: Visitor) -> Option<Permit> {
        tokio::select! {
            biased;
            permit = door.enter(from, visitor) => permit,
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn one_address_holds_up_itself_only_and_the_expected_pass_by() {
        let door = Arc::new(Door::new());
        let mut permits = Vec::new();
        while let Some(permit) = enters(&door, address(1), Visitor::Newcomer).await {
            permits.push(permit);
        }
        assert_eq!(permits.len(), PERMITS_OF_ADDRESS);
        for last in 2..200 {
            permits.extend(enters(&door, address(last), Visitor::Newcomer).await);
        }
        assert_eq!(permits.len(), PERMITS);
        assert!(enters(&door, address(250), Visitor::Expected).await.is_some());
        permits.pop();
        assert!(enters(&door, address(251), Visitor::Newcomer).await.is_some());
        permits.clear();
        assert!(door.by_address.lock().unwrap().is_empty());
    }
}
