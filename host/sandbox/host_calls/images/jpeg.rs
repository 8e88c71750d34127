//! JPEG by `zune-jpeg`, straight into our memory. What is damaged or cut off is refused, not filled with grey.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::open::{DECODER_BYTES, Unreadable, unreadable};

/// Bytes of a coefficient.
const COEFFICIENT_BYTES: u64 = 2;

/// A JPEG of which the head has been read.
pub(super) struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    width: u32,
    height: u32,
    components: u64,
    keeps_coefficients: bool,
    grey: bool,
}

impl<'a> Jpeg<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
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
        let (components, keeps_coefficients) = (head.components.into(), keeps_coefficients(bytes));
        Ok(Self { decoder, width, height, components, keeps_coefficients, grey })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    pub(super) fn channels(&self) -> usize {
        if self.grey { 1 } else { 3 }
    }

    /// Blocks of some rows; and all coefficients, where the image comes in several scans.
    pub(super) fn working_bytes(&self) -> u64 {
        // Sides are filled up to whole blocks, of 32 pixels where a component has every fourth pixel.
        let (width, height) = (u64::from(self.width).next_multiple_of(32), u64::from(self.height).next_multiple_of(32));
        let rows = if self.keeps_coefficients { height } else { 0 };
        // A band of blocks and two of what they are scaled up to, each of 16 rows.
        const BAND_ROWS: u64 = 3 * 16;
        DECODER_BYTES + width * (rows + BAND_ROWS) * self.components * COEFFICIENT_BYTES
    }

    pub(super) fn exif(&mut self) -> Option<&[u8]> {
        self.decoder.exif().map(|exif| &exif[..])
    }

    pub(super) fn decode(&mut self, pixels: &mut [u8]) -> Result<(), Unreadable> {
        self.decoder.decode_into(pixels).map_err(unreadable)
    }
}

/// Whether the image comes in several scans: progressive, or one component after the other. Where the segments cannot be
/// followed it is taken to be so.
fn keeps_coefficients(bytes: &[u8]) -> bool {
    const START_OF_FRAME_PROGRESSIVE: u8 = 0xc2;
    const START_OF_FRAME: [u8; 2] = [0xc0, 0xc1];
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut components = None;
    loop {
        let Some((marker, segment)) = next_segment(&mut rest) else { return true };
        match marker {
            START_OF_FRAME_PROGRESSIVE => return true,
            marker if START_OF_FRAME.contains(&marker) => components = segment.get(5).copied(),
            START_OF_SCAN => return components.is_none() || segment.first().copied() != components,
            _ => {}
        }
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
