//! Pixels as `images` keeps them: one channel or three, 8 bits each, rows back to back.

use std::ops::Range;

/// An image in memory. Never without pixels, but for the one that stands where another was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 (grey) or 3 (red, green, blue).
    pub(super) channels: usize,
    pub(super) pixels: Vec<u8>,
}

/// Bytes of so many pixels.
pub(super) fn bytes(width: u32, height: u32, channels: usize) -> u64 {
    // Both sides have 32 bits, so with three channels 66 would be needed: no memory is as large as that.
    (u64::from(width) * u64::from(height)).saturating_mul(channels as u64)
}

impl Picture {
    /// Some of a row's bytes.
    pub(super) fn part_mut(&mut self, row: u32, columns: Range<u32>) -> &mut [u8] {
        let start = row as usize * self.width as usize;
        let place = |column: u32| (start + column as usize) * self.channels;
        &mut self.pixels[place(columns.start)..place(columns.end)]
    }

    /// The same with three channels; what is grey takes three times its memory.
    pub(super) fn in_colour(self) -> Self {
        if self.channels != 1 {
            return self;
        }
        let pixels = self.pixels.iter().flat_map(|grey| [*grey; 3]).collect();
        Self { channels: 3, pixels, ..self }
    }
}
