//! PNG by `png`, some rows at a time. All kinds become 8 bits and lose their transparency on the way, so that no more
//! memory is needed than for the picture; only interlaced ones are read as a whole.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Reader, Transformations};

use super::{
    open::{DECODER_BYTES, MAX_METADATA_BYTES, Unreadable, over_white, unreadable},
    picture,
};

/// The most bytes of a pixel that the decoder gives.
const WIDEST_PIXEL: usize = 8;
/// Pixels that are decoded in one step: about a millisecond.
const STEP_PIXELS: usize = 100_000;
/// Rows in memory while one is undone by the one above it: ours, and six of the decoder's in a list that has grown by half.
const ROWS: u64 = 10;
/// What stands in front of a part's content (length and name), and behind it.
const PART_HEAD: usize = 8;
const PART_SUM: usize = 4;
/// Parts that hold pixels, here and of the pictures of an animation.
const PIXELS: [&[u8]; 2] = [b"IDAT", b"fdAT"];

/// A PNG of which the head has been read.
pub(super) struct Png<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    row: Vec<u8>,
    kind: Kind,
    /// Rows that are decoded.
    done: usize,
}

/// How pixels come out of the decoder.
#[derive(Clone, Copy)]
struct Kind {
    grey: bool,
    alpha: bool,
    wide: bool,
}

impl Kind {
    /// Bytes of one pixel.
    fn bytes(self) -> usize {
        let channels = if self.grey { 1 } else { 3 } + usize::from(self.alpha);
        channels << usize::from(self.wide)
    }
}

impl<'a> Png<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        if metadata_bytes(bytes) > MAX_METADATA_BYTES {
            return Err(Unreadable("the PNG has more metadata than is read".into()));
        }
        // Its width stands at a fixed place. The decoder counts metadata and a row.
        let width =
            bytes.get(16..20).and_then(|width| width.first_chunk()).map_or(0, |width| u32::from_be_bytes(*width));
        let limit = bytes.len().min(MAX_METADATA_BYTES) + width as usize * WIDEST_PIXEL + DECODER_BYTES as usize;
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: limit });
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::EXPAND);
        let reader = decoder.read_info().map_err(unreadable)?;
        let (colours, depth) = reader.output_color_type();
        let kind = Kind {
            grey: matches!(colours, ColorType::Grayscale | ColorType::GrayscaleAlpha),
            alpha: matches!(colours, ColorType::GrayscaleAlpha | ColorType::Rgba),
            wide: depth == BitDepth::Sixteen,
        };
        Ok(Self { reader, row: Vec::new(), kind, done: 0 })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.reader.info().size()
    }

    pub(super) fn channels(&self) -> usize {
        if self.kind.grey { 1 } else { 3 }
    }

    pub(super) fn working_bytes(&self) -> u64 {
        let (width, height) = self.size();
        let rows = if self.reader.info().interlaced { u64::from(height) + ROWS } else { ROWS };
        let metadata = self.exif().map_or(0, <[u8]>::len) as u64;
        DECODER_BYTES + 2 * metadata + picture::bytes(width, 1, self.kind.bytes()).saturating_mul(rows)
    }

    pub(super) fn exif(&self) -> Option<&[u8]> {
        self.reader.info().exif_metadata.as_deref()
    }

    /// Decodes some rows; true when all are there.
    pub(super) fn step(&mut self, pixels: &mut [u8]) -> Result<bool, Unreadable> {
        let (width, height) = self.size();
        let (width, height) = (width as usize, height as usize);
        if self.reader.info().interlaced {
            let mut whole = vec![0; self.reader.output_buffer_size().ok_or(TOO_LARGE)?];
            self.reader.next_frame(&mut whole).map_err(unreadable)?;
            self.kind.turn(&whole, pixels);
            return Ok(true);
        }
        self.row.resize(width * self.kind.bytes(), 0);
        let ours = width * self.channels();
        let last = (self.done + (STEP_PIXELS / width).max(1)).min(height);
        for row in self.done..last {
            self.reader.read_row(&mut self.row).map_err(unreadable)?.ok_or(CUT_OFF)?;
            self.kind.turn(&self.row, &mut pixels[row * ours..][..ours]);
        }
        self.done = last;
        if last < height {
            return Ok(false);
        }
        // Asks for what comes behind the last row: the end of the compressed stream, with its checksum.
        self.reader.read_row(&mut self.row).map_err(unreadable)?;
        Ok(true)
    }
}

/// Bytes of all parts but pixels.
fn metadata_bytes(file: &[u8]) -> usize {
    let mut rest = file.get(PART_HEAD..).unwrap_or_default();
    let mut metadata = 0;
    while let [a, b, c, d, name @ ..] = rest
        && let Some(name) = name.get(..4)
    {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if !PIXELS.contains(&name) {
            metadata += length.min(rest.len());
        }
        rest = rest.get(PART_HEAD + length + PART_SUM..).unwrap_or_default();
    }
    metadata
}

const TOO_LARGE: Unreadable = Unreadable(std::borrow::Cow::Borrowed("the PNG is larger than memory"));
const CUT_OFF: Unreadable = Unreadable(std::borrow::Cow::Borrowed("the PNG is cut off"));

impl Kind {
    /// Pixels as they come from the decoder as ours.
    fn turn(self, from: &[u8], to: &mut [u8]) {
        match (self.grey, self.alpha, self.wide) {
            (_, false, false) => to.copy_from_slice(from),
            (true, true, false) => each(from, to, |[grey, alpha]: [u8; 2]| [over_white(grey, alpha)]),
            (false, true, false) => each(from, to, |[red, green, blue, alpha]: [u8; 4]| {
                [red, green, blue].map(|channel| over_white(channel, alpha))
            }),
            (_, false, true) => each(from, to, |value: [u8; 2]| [narrow(value)]),
            (true, true, true) => each(from, to, |[grey, grey_low, alpha, alpha_low]: [u8; 4]| {
                [over_white(narrow([grey, grey_low]), narrow([alpha, alpha_low]))]
            }),
            (false, true, true) => each(from, to, |pixel: [u8; 8]| {
                let [red, green, blue, alpha] = [0, 2, 4, 6].map(|at| narrow([pixel[at], pixel[at + 1]]));
                [red, green, blue].map(|channel| over_white(channel, alpha))
            }),
        }
    }
}

fn each<const FROM: usize, const TO: usize>(from: &[u8], to: &mut [u8], turn: impl Fn([u8; FROM]) -> [u8; TO]) {
    for (to, from) in to.as_chunks_mut::<TO>().0.iter_mut().zip(from.as_chunks::<FROM>().0) {
        *to = turn(*from);
    }
}

/// 16 bits as the nearest of 8.
fn narrow(value: [u8; 2]) -> u8 {
    let value = u32::from(u16::from_be_bytes(value));
    ((value * 255 + 32_767) / 65_535) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_whatever_holds_no_pixels() {
        let part =
            |name: &[u8], size: usize| [&(size as u32).to_be_bytes()[..], name, &vec![1; size], &[0; 4]].concat();
        let file = [vec![0; 8], part(b"IHDR", 13), part(b"IDAT", 500), part(b"eXIf", 70), part(b"fdAT", 30)].concat();
        assert_eq!(metadata_bytes(&file), 83);
        assert_eq!(metadata_bytes(&[&file[..], b"\xff\xff\xff\xffeXIf123"].concat()), 83 + 11, "it claims more");
        assert_eq!(metadata_bytes(b"short"), 0);
    }

    #[test]
    fn every_kind_has_its_way() {
        for (grey, alpha, wide, from, to) in [
            (true, false, false, &[7][..], &[7][..]),
            (true, true, false, &[7, 255], &[7]),
            (false, true, false, &[1, 2, 3, 0], &[255, 255, 255]),
            (true, false, true, &[0, 200], &[1]),
            (false, false, true, &[0, 0, 255, 255, 128, 0], &[0, 255, 128]),
            (true, true, true, &[1, 1, 255, 255], &[1]),
            (false, true, true, &[1, 1, 2, 2, 3, 3, 255, 255], &[1, 2, 3]),
        ] {
            let kind = Kind { grey, alpha, wide };
            assert_eq!(kind.bytes(), from.len());
            let mut ours = vec![0; to.len()];
            kind.turn(from, &mut ours);
            assert_eq!(ours, to);
        }
    }
}
