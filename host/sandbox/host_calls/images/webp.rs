//! WebP by `image-webp`. A file says its size in several places, of which the decoder believes each in turn, so all are
//! looked at before it makes room for any.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{
    open::{DECODER_BYTES, MAX_METADATA_BYTES, Unreadable, over_white, unreadable},
    picture,
};

/// What it takes beside the picture for each pixel, measured and rounded up: planes, predictions, its own channels; and
/// where there is transparency.
const WORKING_BYTES: usize = 6;
const ALPHA_WORKING_BYTES: usize = 12;
/// What stands in front of the parts of a file, and of a frame of an animation.
const FILE_HEAD: usize = 12;
const FRAME_HEAD: usize = 16;

/// A WebP of which the head has been read.
pub(super) struct WebP<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    exif: Option<Vec<u8>>,
    file_bytes: u64,
}

impl<'a> WebP<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
        // It would make room for whatever size a part of the file claims to have.
        decoder.set_memory_limit(bytes.len().min(MAX_METADATA_BYTES));
        let canvas = decoder.dimensions();
        if !fits(bytes.get(FILE_HEAD..).unwrap_or_default(), canvas) {
            return Err(Unreadable("a part of the WebP is larger than the whole".into()));
        }
        // Metadata that cannot be read is no reason to refuse the picture.
        let exif = decoder.exif_metadata().ok().flatten();
        Ok(Self { decoder, exif, file_bytes: bytes.len() as u64 })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    pub(super) fn working_bytes(&self) -> u64 {
        let (width, height) = self.size();
        let each = if self.decoder.has_alpha() { ALPHA_WORKING_BYTES } else { WORKING_BYTES };
        // Parts of the file are copied, some of them twice.
        DECODER_BYTES + 2 * self.file_bytes + picture::bytes(width, height, each)
    }

    pub(super) fn exif(&self) -> Option<&[u8]> {
        self.exif.as_deref()
    }

    pub(super) fn decode(&mut self, pixels: &mut [u8]) -> Result<(), Unreadable> {
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

/// Whether no picture among these parts claims to be larger than the canvas.
fn fits(mut parts: &[u8], canvas: (u32, u32)) -> bool {
    while let [a, b, c, d, size @ ..] = parts
        && let Some((size, rest)) = size.split_first_chunk::<4>()
    {
        let size = u32::from_le_bytes(*size) as usize;
        let content = &rest[..size.min(rest.len())];
        let claimed = match &[*a, *b, *c, *d] {
            b"VP8 " => lossy(content),
            b"VP8L" => lossless(content),
            b"ANMF" if !fits(content.get(FRAME_HEAD..).unwrap_or_default(), canvas) => return false,
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
            (b"VP8L\xff\xff\xff\xff\x2f".to_vec(), true),
            (b"VP8".to_vec(), true),
        ] {
            assert_eq!(fits(&parts, (8, 6)), fit, "{parts:?}");
        }
    }
}
