//! Bytes that come in pieces and grow, charged by what their memory takes, before it is taken.
//!
//! A buffer that doubles by itself holds up to twice what an account would be told. Owns the growing; refuses to know
//! whose bytes they are.

use bytes::Bytes;

use super::{Charge, OverLimit};

/// Bytes in the making.
#[derive(Debug)]
pub struct ChargedBytes {
    bytes: Vec<u8>,
    charge: Charge,
}

impl ChargedBytes {
    /// No bytes yet. `charge` grows with them; what it holds already is for what is kept beside them.
    pub fn new(charge: Charge) -> Self {
        Self { bytes: Vec::new(), charge }
    }

    /// The charge, for what is kept beside the bytes.
    pub fn charge(&mut self) -> &mut Charge {
        &mut self.charge
    }

    /// Adds a piece. Room is doubled, or the cost of many small pieces would be quadratic, but not beyond `most`, which
    /// is as long as the bytes are expected to become.
    pub fn extend(&mut self, piece: &[u8], most: usize) -> Result<(), OverLimit> {
        let (needed, room) = (self.bytes.len() + piece.len(), self.bytes.capacity());
        if needed > room {
            self.reserve(needed.max(room.saturating_mul(2).min(most)))?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Takes room for `most` bytes in all, where that is known beforehand.
    pub fn reserve(&mut self, most: usize) -> Result<(), OverLimit> {
        let room = self.bytes.capacity();
        if most > room {
            self.charge.grow((most - room) as u64)?;
            self.bytes.reserve_exact(most - self.bytes.len());
        }
        Ok(())
    }

    /// Takes back what was added beyond `length`; its room stays.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes without the room that was not needed, and what keeps them in their account.
    pub fn finish(mut self) -> (Bytes, Charge) {
        let spare = self.bytes.capacity() - self.bytes.len();
        let bytes = Bytes::from(self.bytes.into_boxed_slice());
        self.charge.shrink(spare as u64);
        (bytes, self.charge)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Account, Kind},
        *,
    };

    #[test]
    fn what_is_charged_is_what_memory_is_taken() {
        let account = Account::host(1000);
        let mut bytes = ChargedBytes::new(account.charge(Kind::Request, 10).unwrap());
        for piece in 0..100_u8 {
            bytes.extend(&[piece], usize::MAX).unwrap();
            assert_eq!(account.held_bytes(), 10 + bytes.bytes.capacity() as u64);
        }
        assert!(bytes.bytes.capacity() < 200);
        bytes.charge().grow(5).unwrap();
        let (bytes, charge) = bytes.finish();
        assert_eq!((bytes.len(), bytes[99], account.held_bytes()), (100, 99, 115));
        drop(charge);
        assert_eq!(account.held_bytes(), 0);
    }

    #[test]
    fn room_is_not_doubled_beyond_what_is_expected() {
        let account = Account::host(1000);
        let mut bytes = ChargedBytes::new(account.charge(Kind::Request, 0).unwrap());
        bytes.extend(&[0; 90], 100).unwrap();
        bytes.extend(&[0; 5], 100).unwrap();
        assert_eq!(account.held_bytes(), 100);
        // More than expected is taken all the same; more than may be held is not, and nothing is lost.
        bytes.extend(&[0; 10], 100).unwrap();
        assert_eq!((bytes.len(), account.held_bytes()), (105, 105));
        assert!(bytes.extend(&[0; 1000], 100).is_err());
        assert_eq!((bytes.len(), account.held_bytes()), (105, 105));
    }
}
