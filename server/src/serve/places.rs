//! Places: how many connections are held, in all and from each address.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustc_hash::FxHashMap;

use crate::config::values::Connections;

/// Counts the connections held, in all and from each address.
#[derive(Debug)]
pub struct Places {
    held: AtomicUsize,
    by_address: Mutex<FxHashMap<IpAddr, usize>>,
    limits: Connections,
}

/// A place among the connections held.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

/// Why a connection got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many are held.
    Gateway,
    /// Too many are held from this address.
    Address,
}

impl Places {
    /// Places within these limits.
    pub fn new(limits: Connections) -> Self {
        Self { held: AtomicUsize::new(0), by_address: Mutex::default(), limits }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes a place, if there is one.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        if self.held() >= self.limits.max {
            return Err(Full::Gateway);
        }
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.limits.per_address {
            return Err(Full::Address);
        }
        *count += 1;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let limits = Connections { max: 3, per_address: 2, calls_in_flight: 1, message_bytes: 1 };
        let places = Arc::new(Places::new(limits));
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(here).unwrap();
        let _second = places.take(here).unwrap();
        assert_eq!(places.take(here).unwrap_err(), Full::Address);
        let _third = places.take(there).unwrap();
        assert_eq!(places.take(there).unwrap_err(), Full::Gateway);
        drop(first);
        assert!(places.take(there).is_ok());
        assert_eq!(places.held(), 2);
    }
}
