//! JPEG by `zune-jpeg`, straight into our memory. What is damaged or cut off is refused, not filled with grey. What the
//! decoder will do is known beforehand from the file's segments ([`Segments`]).

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::{
    open::{DECODER_BYTES, MAX_METADATA_BYTES, Unreadable, unreadable},
    segments::{MAX_SCANS, Segments},
};

/// Bytes of a coefficient.
const COEFFICIENT_BYTES: u64 = 2;

/// A JPEG of which the head has been read.
pub(super) struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    width: u32,
    height: u32,
    components: u64,
    segments: Segments,
    grey: bool,
}

impl<'a> Jpeg<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let segments = Segments::of(bytes)?;
        if segments.bytes > MAX_METADATA_BYTES {
            return Err(Unreadable("the JPEG has more metadata than is read".into()));
        }
        let options =
            DecoderOptions::default().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX);
        let options = options.jpeg_set_max_scans(MAX_SCANS);
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
        Ok(Self { decoder, width, height, components, segments, grey })
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
        let rows = if self.segments.keeps_coefficients { height } else { 0 };
        // A band of blocks and two of what they are scaled up to, each of 16 rows, and somewhat more where components have
        // every fourth pixel in one direction alone.
        const BAND_ROWS: u64 = 64;
        DECODER_BYTES
            + 2 * self.segments.bytes as u64
            + width * (rows + BAND_ROWS) * self.components * COEFFICIENT_BYTES
    }

    pub(super) fn exif(&mut self) -> Option<&[u8]> {
        self.decoder.exif().map(|exif| &exif[..])
    }

    pub(super) fn decode(&mut self, pixels: &mut [u8]) -> Result<(), Unreadable> {
        self.decoder.decode_into(pixels).map_err(unreadable)
    }
}
