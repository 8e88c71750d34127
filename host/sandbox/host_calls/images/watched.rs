//! A file as a decoder reads it that may hold only so much: it gets the file in small pieces, and an error instead of the
//! next one where more is held than is allowed. For decoders whose memory no look at the head can tell.

use std::{
    io::{self, BufRead, Cursor, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use crate::allocator::held;

/// What a decoder gets at once.
const PIECE_BYTES: usize = 4 << 10;
/// Pieces of memory are a little larger than they are asked for, and errors have their texts.
const SPARE_BYTES: i64 = 64 << 10;

/// What may be held from now on; while a decoder works, it does so on one thread.
pub(super) struct Allowance(AtomicI64);

impl Allowance {
    /// Before each piece of work.
    pub(super) fn begin(&self, bytes: u64) {
        self.0.store(held().saturating_add_unsigned(bytes).saturating_add(SPARE_BYTES), Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if held() > self.0.load(Relaxed) {
            return Err(io::Error::other("it takes more memory than pictures of its size do"));
        }
        Ok(())
    }
}

/// The file.
pub(super) struct Watched<'a> {
    bytes: Cursor<&'a [u8]>,
    allowance: Arc<Allowance>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> (Self, Arc<Allowance>) {
        let allowance = Arc::new(Allowance(AtomicI64::new(0)));
        (Self { bytes: Cursor::new(bytes), allowance: allowance.clone() }, allowance)
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.allowance.check()?;
        self.bytes.read(into)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.allowance.check()?;
        let piece = self.bytes.fill_buf()?;
        Ok(&piece[..piece.len().min(PIECE_BYTES)])
    }

    fn consume(&mut self, bytes: usize) {
        self.bytes.consume(bytes);
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_holds_too_much_reads_no_further() {
        let file = vec![7; 3 * PIECE_BYTES];
        let (mut reader, allowance) = Watched::new(&file);
        allowance.begin(1 << 20);
        assert_eq!(reader.fill_buf().unwrap().len(), PIECE_BYTES);
        reader.consume(PIECE_BYTES);
        let kept = vec![1_u8; 2 << 20];
        assert!(reader.fill_buf().is_err() && reader.read(&mut [0]).is_err());
        drop(kept);
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 10);
    }
}
