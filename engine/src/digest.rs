//! Digests that stay the same across restarts and machines: of documents (etags), policies and requests.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};

/// The first 64 bits of the SHA-256 of a value's parts.
pub fn digest_of(value: &impl Hash) -> u64 {
    let mut hasher = StableHasher(Sha256::new());
    value.hash(&mut hasher);
    hasher.finish()
}

/// A digest, revision or id as text: 16 hexadecimal digits.
pub fn hex(number: u64) -> String {
    let digit = |shift: u32| char::from_digit((number >> shift & 15) as u32, 16).unwrap_or('0');
    (0..16).rev().map(|place| digit(place * 4)).collect()
}

/// Feeds SHA-256, with numbers in one byte order and width whatever the machine.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.clone().finalize();
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        u64::from_be_bytes(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_sixteen_digits() {
        assert_eq!(hex(0x0001_23ab), "00000000000123ab");
        assert_eq!(hex(u64::MAX), "ffffffffffffffff");
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest_of(&("ab", "c")), digest_of(&("a", "bc")));
        assert_eq!(digest_of(&vec![1u16, 2]), digest_of(&vec![1u16, 2]));
    }
}
