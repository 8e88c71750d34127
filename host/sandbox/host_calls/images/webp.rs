//! WebP by `image-webp`. A file says its size in several places, of which the decoder believes each in turn, so all are
//! looked at before it makes room for any. Tables of a lossless picture can take hundreds of times the bytes that say them,
//! so it reads through [`Watched`], which ends where more is held than was charged.

use std::sync::Arc;

use image_webp::WebPDecoder;

use super::{
    open::{DECODER_BYTES, MAX_METADATA_BYTES, Unreadable, head_bytes, over_white, unreadable},
    picture,
    watched::{Allowance, Watched},
};

/// What it takes beside the picture for each pixel, measured and rounded up: planes, predictions, its own channels; and
/// where there is transparency, or a frame beside the canvas.
const WORKING_BYTES: usize = 6;
const ALPHA_WORKING_BYTES: usize = 12;
/// Tables of a lossless picture: 4 KiB for each code that takes at least 93 bits of the file; and the most that one has
/// which was not made to harm, with a code of its own for every few pixels.
const TABLE_BYTES_PER_BYTE: u64 = 361;
const LEAST_TABLES: u64 = 4 << 20;
const TABLE_BYTES_PER_PIXEL: usize = 4;
/// What stands in front of the parts of a file, and of a frame of an animation.
const FILE_HEAD: usize = 12;
const FRAME_HEAD: usize = 16;

/// A WebP of which the head has been read.
pub(super) struct WebP<'a> {
    decoder: WebPDecoder<Watched<'a>>,
    allowance: Arc<Allowance>,
    exif: Option<Vec<u8>>,
    file_bytes: u64,
}

impl<'a> WebP<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let (reader, allowance) = Watched::new(bytes);
        allowance.begin(head_bytes(bytes));
        let mut decoder = WebPDecoder::new(reader).map_err(unreadable)?;
        // It would make room for whatever size a part of the file claims to have.
        decoder.set_memory_limit(bytes.len().min(MAX_METADATA_BYTES));
        let canvas = decoder.dimensions();
        if !fits(bytes.get(FILE_HEAD..).unwrap_or_default(), canvas, true) {
            return Err(Unreadable("a part of the WebP is larger than the whole".into()));
        }
        // Metadata that cannot be read is no reason to refuse the picture.
        let exif = decoder.exif_metadata().ok().flatten();
        Ok(Self { decoder, allowance, exif, file_bytes: bytes.len() as u64 })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    pub(super) fn working_bytes(&self) -> u64 {
        let (width, height) = self.size();
        let each =
            if self.decoder.has_alpha() || self.decoder.is_animated() { ALPHA_WORKING_BYTES } else { WORKING_BYTES };
        let tables = LEAST_TABLES.saturating_add(picture::bytes(width, height, TABLE_BYTES_PER_PIXEL));
        let tables = tables.min(TABLE_BYTES_PER_BYTE * self.file_bytes);
        // Parts of the file are copied, some of them twice.
        (DECODER_BYTES + 2 * self.file_bytes + tables).saturating_add(picture::bytes(width, height, each))
    }

    pub(super) fn exif(&self) -> Option<&[u8]> {
        self.exif.as_deref()
    }

    pub(super) fn decode(&mut self, pixels: &mut [u8]) -> Result<(), Unreadable> {
        self.allowance.begin(self.working_bytes());
        if !self.decoder.has_alpha() {
            return self.decoder.read_image(pixels).map_err(unreadable);
        }
        let mut with_alpha = vec![0; pixels.len() / 3 * 4];
        self.decoder.read_image(&mut with_alpha).map_err(unreadable)?;
        for (pixel, seen) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(with_alpha.as_chunks::<4>().0) {
            let [red, green, blue, alpha] = *seen;
            *pixel = [red, green, blue].map(|channel| over_white(channel, alpha));
        }
        Ok(())
    }
}

/// Whether no picture among these parts claims to be larger than the canvas. Frames of an animation are looked into, and
/// have none in them.
fn fits(mut parts: &[u8], canvas: (u32, u32), frames: bool) -> bool {
    while let [a, b, c, d, size @ ..] = parts
        && let Some((size, rest)) = size.split_first_chunk::<4>()
    {
        let size = u32::from_le_bytes(*size) as usize;
        let content = &rest[..size.min(rest.len())];
        let claimed = match &[*a, *b, *c, *d] {
            b"VP8 " => lossy(content),
            b"VP8L" => lossless(content),
            b"ANMF" if !frames || !fits(content.get(FRAME_HEAD..).unwrap_or_default(), canvas, false) => return false,
            _ => None,
        };
        if claimed.is_some_and(|(width, height)| width > canvas.0 || height > canvas.1) {
            return false;
        }
        // Parts begin at even places.
        parts = rest.get(size.next_multiple_of(2)..).unwrap_or_default();
    }
    true
}

/// The size that a lossy picture's own head says: behind three bytes and a mark, 14 bits each.
fn lossy(content: &[u8]) -> Option<(u32, u32)> {
    let [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..] = *content else { return None };
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    Some((side([a, b]), side([c, d])))
}

/// The same of a lossless one: behind a mark, one less in 14 bits each.
fn lossless(content: &[u8]) -> Option<(u32, u32)> {
    let [0x2f, a, b, c, d, ..] = *content else { return None };
    let bits = u32::from_le_bytes([a, b, c, d]);
    Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&name[..], &(content.len() as u32).to_le_bytes(), content, &[0][..content.len() % 2]].concat()
    }

    /// Bits from the lowest on, as a lossless picture has them.
    #[derive(Default)]
    struct Bits(Vec<u8>, usize);

    impl Bits {
        fn put(&mut self, value: u32, count: usize) {
            for bit in 0..count {
                if self.1.is_multiple_of(8) {
                    self.0.push(0);
                }
                *self.0.last_mut().expect("there is one") |= ((value >> bit & 1) as u8) << (self.1 % 8);
                self.1 += 1;
            }
        }

        /// A code's bits begin with the highest.
        fn put_code(&mut self, code: u32, count: usize) {
            self.put(code.reverse_bits() >> (32 - count), count);
        }

        /// A code of one symbol.
        fn put_symbol(&mut self, symbol: u32) {
            self.put(0b101, 3);
            self.put(symbol, 8);
        }

        /// A code whose symbols have 1, 2, … 9, 10 and 10 bits, and a table of 4 KiB.
        fn put_table(&mut self) {
            self.put(0, 1);
            self.put(10, 4);
            // Of the code of lengths: 17, 18, 0, 1 to 5, 16, 6 to 10. Six have three bits, four have four.
            for bits in [0, 0, 0, 3, 3, 3, 3, 3, 0, 3, 4, 4, 4, 4] {
                self.put(bits, 3);
            }
            // Eleven lengths, said in four bits.
            self.put(1, 1);
            self.put(1, 3);
            self.put(9, 4);
            for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10_u32] {
                if length <= 6 { self.put_code(length - 1, 3) } else { self.put_code(12 + length - 7, 4) }
            }
        }
    }

    /// One pixel that names the last of 65,536 groups of codes.
    fn tables() -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(0x2f, 8);
        // Sides less one, no transparency, version 0; no transformation, no cache; several groups, by blocks of 4.
        bits.put(0, 32);
        bits.put(0, 2);
        bits.put(1, 1);
        bits.put(0, 3);
        // Their picture: no cache; green, red, blue, transparency, distance.
        bits.put(0, 1);
        [255, 255, 0, 0, 0].into_iter().for_each(|symbol| bits.put_symbol(symbol));
        (0..5 * 65_536).for_each(|_| bits.put_table());
        (0..2).for_each(|_| bits.put(0, 32));
        let picture = part(b"VP8L", &bits.0);
        [&b"RIFF"[..], &(picture.len() as u32 + 4).to_le_bytes(), b"WEBP", &picture].concat()
    }

    #[test]
    fn tables_do_not_take_what_nobody_pays_for() {
        let file = tables();
        let Ok(mut opened) = WebP::new(&file) else { panic!("its head is fine") };
        assert!(opened.working_bytes() < 16 << 20);
        let begun = crate::allocator::held();
        let Err(Unreadable(why)) = opened.decode(&mut [0; 3]) else { panic!("it is decoded") };
        assert!(why.contains("takes more memory"), "{why}");
        assert!(crate::allocator::held() - begun < 16 << 20);
    }

    #[test]
    fn no_part_is_larger_than_the_whole() {
        let lossy = |width: u16, height: u16| {
            let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
            part(b"VP8 ", &[&[0, 0, 0, 0x9d, 0x01, 0x2a], &sides[..]].concat())
        };
        let lossless = |width: u32, height: u32| {
            part(b"VP8L", &[&[0x2f], &((width - 1) | (height - 1) << 14).to_le_bytes()[..]].concat())
        };
        let frame = |picture: &[u8]| part(b"ANMF", &[&[0; FRAME_HEAD], picture].concat());
        let odd = part(b"EXIF", &[1, 2, 3]);
        for (parts, fit) in [
            (lossy(8, 6), true),
            (lossy(9, 6), false),
            // Two bits beside the height are how it is to be scaled.
            (lossy(8, 6 | 0x4000), true),
            (lossless(8, 6), true),
            (lossless(8, 7), false),
            ([odd.clone(), lossless(16_384, 1)].concat(), false),
            ([odd.clone(), frame(&lossy(8, 6)), frame(&[odd, lossless(8, 600)].concat())].concat(), false),
            (frame(&lossy(4, 4)), true),
            (frame(&frame(&lossy(4, 4))), false),
            (b"VP8L\xff\xff\xff\xff\x2f".to_vec(), true),
            (b"VP8".to_vec(), true),
        ] {
            assert_eq!(fits(&parts, (8, 6), true), fit, "{parts:?}");
        }
    }
}
