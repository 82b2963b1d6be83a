//! A turn that the gateway keeps for us, and the proof of it.

use std::{fmt, time::Duration};

/// Largest ticket, in bytes; the gateway refuses to read a longer one.
const BYTES_MAX: usize = 512;

/// The gateway's proof that it booked a turn. Opaque, and of no use in other hands than those it was made for; shown
/// nowhere all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Vec<u8>);

/// A turn that an earlier life of this client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appointment {
    /// The proof of it.
    pub ticket: Ticket,
    /// When it is due, counted from now; zero where that has passed.
    pub due_in: Duration,
}

impl Ticket {
    /// A ticket of these bytes; none where they are none, or more than 512.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=BYTES_MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// As it goes over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    /// Its length, and nothing of what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_neither_empty_nor_long() {
        assert_eq!(Ticket::new(Vec::new()), None);
        assert_eq!(Ticket::new(vec![7; 512]).unwrap().as_bytes(), [7; 512]);
        assert_eq!(Ticket::new(vec![7; 513]), None);
    }

    #[test]
    fn a_ticket_does_not_show_itself() {
        let due_in = Duration::from_secs(1);
        let appointment = Appointment { ticket: Ticket::new(b"secret".to_vec()).unwrap(), due_in };
        assert_eq!(format!("{appointment:?}"), "Appointment { ticket: Ticket(6 bytes), due_in: 1s }");
    }
}
