//! Tickets: the signed proof that a slot was booked. A ticket proves a paid place in the rate, never a right.
//!
//! 74 bytes: version, key id, epoch, slot, and digests of app, pod uid and request, each number in network order, and
//! over all of it HMAC-SHA-256 (RFC 2104). Where two keys are valid, the id says by which one it was sealed.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const VERSION: u8 = 1;
const PAYLOAD: usize = 2 + 5 * 8;
const MAC: usize = 32;
/// Bytes of a ticket.
pub const TICKET_BYTES: usize = PAYLOAD + MAC;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Of the store that booked it: a lost store begins another epoch.
    pub epoch: u64,
    /// The slot, in nanoseconds on the clock of the epoch.
    pub slot_ns: i64,
    /// Digest of the app's name.
    pub app: u64,
    /// Digest of the pod's uid.
    pub uid: u64,
    /// Digest of what is asked for.
    pub request: u64,
}

/// Why a ticket is worth nothing. Its bearer is a walk-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worthless {
    /// Its length or version is none of ours.
    Malformed,
    /// It was sealed by a key that has been retired, or never was.
    UnknownKey,
    /// Its code does not fit: it was forged or damaged.
    BadMac,
    /// It was booked before the store was lost.
    Epoch,
    /// It was booked for another app.
    ForeignApp,
    /// It was booked for another pod.
    ForeignUid,
    /// It was booked for another request.
    ForeignRequest,
}

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Tells it from the one before.
    pub id: u8,
    /// The secret.
    pub secret: [u8; KEY_BYTES],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys that are valid: one seals, and the one before it is still read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Seals.
    pub current: Key,
    /// Is still read.
    pub previous: Option<Key>,
}

impl Keys {
    /// The first key.
    pub fn new(secret: [u8; KEY_BYTES]) -> Self {
        Self { current: Key { id: 0, secret }, previous: None }
    }

    /// A new key seals from now on. The present one is still read; the one before it is retired.
    #[must_use]
    pub fn rotated(&self, secret: [u8; KEY_BYTES]) -> Self {
        let id = self.current.id.wrapping_add(1);
        Self { current: Key { id, secret }, previous: Some(self.current.clone()) }
    }

    /// Seals a ticket.
    pub fn seal(&self, claims: &Claims) -> [u8; TICKET_BYTES] {
        let mut ticket = [0; TICKET_BYTES];
        let Claims { epoch, slot_ns, app, uid, request } = *claims;
        ticket[..2].copy_from_slice(&[VERSION, self.current.id]);
        for (place, number) in [epoch, slot_ns.cast_unsigned(), app, uid, request].into_iter().enumerate() {
            ticket[2 + place * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        let code = mac(&self.current, &ticket[..PAYLOAD]).finalize().into_bytes();
        ticket[PAYLOAD..].copy_from_slice(&code);
        ticket
    }

    /// Reads a ticket that one of these keys has sealed.
    pub fn open(&self, ticket: &[u8]) -> Result<Claims, Worthless> {
        let ticket: &[u8; TICKET_BYTES] = ticket.try_into().map_err(|_| Worthless::Malformed)?;
        if ticket[0] != VERSION {
            return Err(Worthless::Malformed);
        }
        let keys = std::iter::once(&self.current).chain(&self.previous);
        let key = keys.into_iter().find(|key| key.id == ticket[1]).ok_or(Worthless::UnknownKey)?;
        let (payload, code) = ticket.split_at(PAYLOAD);
        mac(key, payload).verify_slice(code).map_err(|_| Worthless::BadMac)?;
        let number = |place: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&payload[2 + place * 8..][..8]);
            u64::from_be_bytes(bytes)
        };
        let slot_ns = number(1).cast_signed();
        Ok(Claims { epoch: number(0), slot_ns, app: number(2), uid: number(3), request: number(4) })
    }
}

impl Claims {
    /// The slot, if these are the claims that its bearer should have; `own` is the same with any slot.
    pub fn verify(&self, own: &Self) -> Result<i64, Worthless> {
        if self.epoch != own.epoch {
            Err(Worthless::Epoch)
        } else if self.app != own.app {
            Err(Worthless::ForeignApp)
        } else if self.uid != own.uid {
            Err(Worthless::ForeignUid)
        } else if self.request != own.request {
            Err(Worthless::ForeignRequest)
        } else {
            Ok(self.slot_ns)
        }
    }
}

fn mac(key: &Key, payload: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(&key.secret) {
        Ok(mac) => mac.chain_update(payload),
        // HMAC hashes a key that is too long, and pads one that is too short.
        Err(_) => unreachable!("HMAC takes a key of any length"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLAIMS: Claims = Claims { epoch: 7, slot_ns: -5, app: 1, uid: 2, request: 3 };

    #[test]
    fn two_keys_are_valid_and_a_third_retires_the_first() {
        let first = Keys::new([1; KEY_BYTES]);
        let ticket = first.seal(&CLAIMS);
        let second = first.rotated([2; KEY_BYTES]);
        let third = second.rotated([3; KEY_BYTES]);
        assert_eq!(first.open(&ticket), Ok(CLAIMS));
        assert_eq!(second.open(&ticket), Ok(CLAIMS));
        assert_eq!(third.open(&ticket), Err(Worthless::UnknownKey));
        assert_eq!(Keys::new([9; KEY_BYTES]).open(&ticket), Err(Worthless::BadMac));
    }

    #[test]
    fn claims_have_to_be_ones_own() {
        let other = |change: fn(&mut Claims)| {
            let mut own = CLAIMS;
            change(&mut own);
            CLAIMS.verify(&own)
        };
        assert_eq!(other(|own| own.slot_ns = 99), Ok(-5));
        assert_eq!(other(|own| own.epoch = 9), Err(Worthless::Epoch));
        assert_eq!(other(|own| own.app = 9), Err(Worthless::ForeignApp));
        assert_eq!(other(|own| own.uid = 9), Err(Worthless::ForeignUid));
        assert_eq!(other(|own| own.request = 9), Err(Worthless::ForeignRequest));
    }

    #[test]
    fn a_key_is_not_shown() {
        assert!(!format!("{:?}", Keys::new([0x5a; KEY_BYTES])).contains("90"));
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_read(epoch: u64, slot_ns: i64, app: u64, uid: u64, request: u64, secret: [u8; 32]) {
            let keys = Keys::new(secret);
            let claims = Claims { epoch, slot_ns, app, uid, request };
            prop_assert_eq!(keys.open(&keys.seal(&claims)), Ok(claims));
        }

        #[test]
        fn a_changed_bit_is_found(at in 0..TICKET_BYTES * 8) {
            let keys = Keys::new([1; KEY_BYTES]);
            let mut ticket = keys.seal(&CLAIMS);
            ticket[at / 8] ^= 1 << (at % 8);
            prop_assert!(keys.open(&ticket).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Keys::new([1; KEY_BYTES]).open(&bytes).is_err());
        }
    }
}
