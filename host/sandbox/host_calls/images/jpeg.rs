//! JPEG by `zune-jpeg`, straight into our memory. What is damaged or cut off is refused, not filled with grey.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::open::{DECODER_BYTES, MAX_METADATA_BYTES, Unreadable, unreadable};

/// Bytes of a coefficient.
const COEFFICIENT_BYTES: u64 = 2;

/// A JPEG of which the head has been read.
pub(super) struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    width: u32,
    height: u32,
    components: u64,
    scans: Scans,
    grey: bool,
}

impl<'a> Jpeg<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let scans = Scans::of(bytes);
        if scans.head_bytes > MAX_METADATA_BYTES {
            return Err(Unreadable("the JPEG has more metadata than is read".into()));
        }
        if !scans.end {
            // The decoder looks for what is missing before each row of blocks, and not in the last.
            return Err(Unreadable("the JPEG is cut off".into()));
        }
        let options =
            DecoderOptions::default().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(unreadable)?;
        let (Some(head), Some(colours)) = (decoder.info(), decoder.input_colorspace()) else {
            return Err(Unreadable("the JPEG has no head".into()));
        };
        let grey = matches!(colours, ColorSpace::Luma);
        let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
        decoder.set_options(options.jpeg_set_out_colorspace(colours));
        let (width, height) = (head.width.into(), head.height.into());
        let components = head.components.into();
        Ok(Self { decoder, width, height, components, scans, grey })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    pub(super) fn channels(&self) -> usize {
        if self.grey { 1 } else { 3 }
    }

    /// Metadata, blocks of some rows; and all coefficients, where the image comes in several scans.
    pub(super) fn working_bytes(&self) -> u64 {
        // Sides are filled up to whole blocks, of 32 pixels where a component has every fourth pixel.
        let (width, height) = (u64::from(self.width).next_multiple_of(32), u64::from(self.height).next_multiple_of(32));
        let rows = if self.scans.keeps_coefficients { height } else { 0 };
        // A band of blocks and two of what they are scaled up to, each of 16 rows.
        const BAND_ROWS: u64 = 3 * 16;
        DECODER_BYTES
            + 2 * self.scans.head_bytes as u64
            + width * (rows + BAND_ROWS) * self.components * COEFFICIENT_BYTES
    }

    pub(super) fn exif(&mut self) -> Option<&[u8]> {
        self.decoder.exif().map(|exif| &exif[..])
    }

    pub(super) fn decode(&mut self, pixels: &mut [u8]) -> Result<(), Unreadable> {
        self.decoder.decode_into(pixels).map_err(unreadable)
    }
}

/// What the segments say of how the image comes.
struct Scans {
    /// In several scans: progressive, or one component after the other. So where the segments cannot be followed, too.
    keeps_coefficients: bool,
    /// Whether there is an end behind the beginning of the first.
    end: bool,
    /// What stands in front of the first.
    head_bytes: usize,
}

impl Scans {
    fn of(bytes: &[u8]) -> Self {
        const START_OF_FRAME_PROGRESSIVE: u8 = 0xc2;
        const START_OF_FRAME: [u8; 2] = [0xc0, 0xc1];
        const START_OF_SCAN: u8 = 0xda;
        const END: [u8; 2] = [0xff, 0xd9];
        let mut rest = bytes.get(2..).unwrap_or_default();
        let (mut components, mut progressive) = (None, false);
        while let Some((marker, segment)) = next_segment(&mut rest) {
            match marker {
                START_OF_FRAME_PROGRESSIVE => progressive = true,
                marker if START_OF_FRAME.contains(&marker) => components = segment.get(5).copied(),
                START_OF_SCAN => {
                    let together = components.is_some() && segment.first().copied() == components;
                    let end = rest.windows(END.len()).rev().any(|pair| pair == END);
                    let head_bytes = bytes.len() - rest.len();
                    return Self { keeps_coefficients: progressive || !together, end, head_bytes };
                }
                _ => {}
            }
        }
        Self { keeps_coefficients: true, end: false, head_bytes: bytes.len() }
    }
}

/// A marker and its segment, after which `rest` goes on.
fn next_segment<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    while let [0xff, 0xff, ..] = rest {
        *rest = &rest[1..];
    }
    let [0xff, marker, high, low, ..] = *rest else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let segment = rest.get(4..2 + length.max(2))?;
    *rest = &rest[2 + length.max(2)..];
    Some((*marker, segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_tell_what_must_be_kept_and_whether_it_ends() {
        let segment = |marker: u8, content: &[u8]| {
            let length = (content.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker], &length[..], content].concat()
        };
        let frame = |marker| segment(marker, &[8, 0, 9, 0, 9, 3]);
        let of = |segments: &[Vec<u8>]| {
            let scans = Scans::of(&[&[0xff, 0xd8], &segments.concat()[..]].concat());
            (scans.keeps_coefficients, scans.end)
        };
        let (thumbnail, scan, end) = (segment(0xe1, &[0xff, 0xd9]), segment(0xda, &[3]), vec![1, 2, 0xff, 0xd9, 0]);
        assert_eq!(of(&[thumbnail.clone(), frame(0xc0), scan.clone(), end.clone()]), (false, true));
        assert_eq!(of(&[thumbnail.clone(), frame(0xc0), scan.clone()]), (false, false), "cut off");
        assert_eq!(of(&[frame(0xc2), scan.clone(), end.clone()]), (true, true), "progressive");
        assert_eq!(of(&[frame(0xc0), segment(0xda, &[1]), end]), (true, true), "one component after the other");
        assert_eq!(of(&[scan]), (true, false), "no frame");
        assert_eq!(of(&[thumbnail, vec![0xff, 0xc0, 0xff]]), (true, false), "cut off in a segment");
    }
}
