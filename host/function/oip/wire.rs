//! Protobuf's wire format, read field by field without making messages of it: a message of many small fields would take
//! many times its own size. Owns tags, varints and lengths; refuses to know what fields mean.

use bytes::{Buf as _, Bytes};

/// A field's value, as the wire tells it apart.
#[derive(Debug)]
pub(super) enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Bytes),
    Fixed32([u8; 4]),
}

/// A message that is read to its end, field by field.
pub(super) struct Fields(pub(super) Bytes);

/// What is said of bytes that are no message.
const BROKEN: &str = "the message is no protobuf, or was cut off";

impl Fields {
    /// The next field's number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value)>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok().filter(|length| *length <= self.0.len());
                Value::Bytes(self.0.split_to(length.ok_or(BROKEN)?))
            }
            5 => Value::Fixed32(self.array()?),
            // Groups, which proto3 has not.
            _ => return Err(BROKEN),
        };
        match tag >> 3 {
            0 => Err(BROKEN),
            number => Ok(Some((number, value))),
        }
    }

    /// The next of numbers that stand back to back.
    pub(super) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(BROKEN);
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.0.advance(index + 1);
                return Ok(value);
            }
        }
        Err(BROKEN)
    }

    pub(super) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], &'static str> {
        let bytes = self.0.first_chunk::<LENGTH>().copied().ok_or(BROKEN)?;
        self.0.advance(LENGTH);
        Ok(bytes)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// A message or bytes.
    pub(super) fn bytes(self) -> Result<Bytes, &'static str> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("a field of the message has another type than the protocol gives it"),
        }
    }

    /// A number or a truth value.
    pub(super) fn number(self) -> Result<u64, &'static str> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err("a field of the message has another type than the protocol gives it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_is_cut_off_is_refused() {
        let mut fields = Fields(Bytes::from_static(b"\x08\x96\x01\x12\x02hi\x1d\x01\x02\x03\x04\x21abcdefgh"));
        assert!(matches!(fields.next(), Ok(Some((1, Value::Varint(150))))));
        assert!(matches!(fields.next(), Ok(Some((2, Value::Bytes(bytes)))) if bytes == "hi"));
        assert!(matches!(fields.next(), Ok(Some((3, Value::Fixed32([1, 2, 3, 4]))))));
        assert!(matches!(fields.next(), Ok(Some((4, Value::Fixed64(bytes)))) if bytes == *b"abcdefgh"));
        assert!(matches!(fields.next(), Ok(None)));
        for broken in [&b"\x08"[..], b"\x08\x80", b"\x12\x03hi", b"\x1d\x01", b"\x0b", b"\x00\x01", &[0xff; 11]] {
            assert!(Fields(Bytes::from_static(broken)).next().is_err(), "{broken:?}");
        }
        let most = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(Fields(Bytes::copy_from_slice(&most)).next(), Ok(Some((1, Value::Varint(u64::MAX))))));
    }
}
