//! From bytes to pixels. What an image is and what decoding it takes is read from its head, so that it can be refused and
//! charged before any memory is made; then it is decoded in steps, between which others run.
//!
//! Owns formats, orientation, and how kinds of pixels become ours. Refuses to know guests and accounts.

use std::{borrow::Cow, io::Cursor};

use image::{DynamicImage, GrayImage, ImageDecoder, RgbImage, codecs::webp::WebPDecoder, metadata::Orientation};

use super::{
    jpeg::Jpeg,
    picture::{self, Picture},
    png::Png,
};

/// What WebP takes beside the picture for each pixel, measured and rounded up: planes, predictions, its own channels; and
/// where there is transparency.
const WEBP_WORKING_BYTES: usize = 6;
const WEBP_ALPHA_WORKING_BYTES: usize = 12;
/// What any decoder takes beside that: tables, blocks at the edges.
pub(super) const DECODER_BYTES: u64 = 512 << 10;

/// Why there is no picture, as a sentence for the plugin.
pub(super) struct Unreadable(pub(super) Cow<'static, str>);

/// An image of which the head has been read.
pub(super) struct Opened<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Channels that the picture will have.
    pub(super) channels: usize,
    /// Bytes that are needed beside the picture until it is decoded.
    pub(super) working_bytes: u64,
    orientation: Orientation,
    decoder: Decoder<'a>,
}

enum Decoder<'a> {
    Jpeg(Box<Jpeg<'a>>),
    Png(Box<Png<'a>>),
    // Decoding consumes it.
    WebP(Option<Box<WebPDecoder<Cursor<&'a [u8]>>>>),
}

impl<'a> Opened<'a> {
    /// Reads the head.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let opened = match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::jpeg(bytes),
            [0x89, b'P', b'N', b'G', ..] => Self::png(bytes),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::webp(bytes),
            _ => Err(Unreadable("these bytes are neither JPEG nor PNG nor WebP".into())),
        }?;
        if opened.width == 0 || opened.height == 0 {
            return Err(Unreadable("the image has no pixels".into()));
        }
        Ok(opened)
    }

    fn jpeg(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut jpeg = Jpeg::new(bytes)?;
        let (width, height) = jpeg.size();
        let working_bytes = jpeg.working_bytes();
        let orientation = jpeg.exif().map_or(Orientation::NoTransforms, orientation);
        let channels = jpeg.channels();
        let decoder = Decoder::Jpeg(Box::new(jpeg));
        Ok(Self { width, height, channels, working_bytes, orientation, decoder })
    }

    fn png(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let png = Png::new(bytes)?;
        let (width, height) = png.size();
        let orientation = png.exif().map_or(Orientation::NoTransforms, orientation);
        let (channels, working_bytes) = (png.channels(), png.working_bytes());
        Ok(Self { width, height, channels, working_bytes, orientation, decoder: Decoder::Png(Box::new(png)) })
    }

    fn webp(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut webp = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
        let (width, height) = webp.dimensions();
        // Metadata that cannot be read is no reason to refuse the picture.
        let exif = webp.exif_metadata().ok().flatten();
        let orientation = exif.as_deref().map_or(Orientation::NoTransforms, orientation);
        let each = if webp.color_type().has_alpha() { WEBP_ALPHA_WORKING_BYTES } else { WEBP_WORKING_BYTES };
        let working_bytes = DECODER_BYTES + picture::bytes(width, height, each);
        let decoder = Decoder::WebP(Some(Box::new(webp)));
        Ok(Self { width, height, channels: 3, working_bytes, orientation, decoder })
    }

    /// Whether turning it upright takes as much memory again as the picture.
    pub(super) fn turns(&self) -> bool {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        matches!(self.orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
    }

    /// Memory for the picture.
    pub(super) fn blank(&self) -> Picture {
        let &Self { width, height, channels, .. } = self;
        Picture { width, height, channels, pixels: vec![0; picture::bytes(width, height, channels) as usize] }
    }

    /// Decodes some of it; true when all is done.
    pub(super) fn step(&mut self, picture: &mut Picture) -> Result<bool, Unreadable> {
        match &mut self.decoder {
            Decoder::Jpeg(jpeg) => jpeg.decode(&mut picture.pixels).map(|()| true),
            Decoder::Png(png) => png.step(&mut picture.pixels),
            Decoder::WebP(webp) => match webp.take() {
                Some(webp) => decode_webp(*webp, &mut picture.pixels).map(|()| true),
                None => Ok(true),
            },
        }
    }

    /// Turns the decoded picture as its orientation says.
    pub(super) fn upright(&self, picture: Picture) -> Picture {
        if self.orientation == Orientation::NoTransforms {
            return picture;
        }
        let Picture { width, height, channels, pixels } = picture;
        let whole = "a picture has as many bytes as its size says";
        let mut image: DynamicImage = match channels {
            1 => GrayImage::from_raw(width, height, pixels).expect(whole).into(),
            _ => RgbImage::from_raw(width, height, pixels).expect(whole).into(),
        };
        image.apply_orientation(self.orientation);
        Picture { width: image.width(), height: image.height(), channels, pixels: image.into_bytes() }
    }
}

fn decode_webp(webp: WebPDecoder<Cursor<&[u8]>>, pixels: &mut [u8]) -> Result<(), Unreadable> {
    if webp.total_bytes() == pixels.len() as u64 {
        return webp.read_image(pixels).map_err(unreadable);
    }
    let mut with_alpha = vec![0; pixels.len() / 3 * 4];
    webp.read_image(&mut with_alpha).map_err(unreadable)?;
    for (pixel, seen) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(with_alpha.as_chunks::<4>().0) {
        let [red, green, blue, alpha] = *seen;
        *pixel = [red, green, blue].map(|channel| over_white(channel, alpha));
    }
    Ok(())
}

/// A transparent pixel's channel on white paper.
pub(super) fn over_white(channel: u8, alpha: u8) -> u8 {
    let (channel, alpha) = (u32::from(channel), u32::from(alpha));
    ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The orientation that EXIF says, if it says one.
fn orientation(exif: &[u8]) -> Orientation {
    // Some programs repeat the marker of JPEG in front of it.
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}

/// A decoder's error, as one short line.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Unreadable {
    const MAX_CHARACTERS: usize = 200;
    Unreadable(error.to_string().lines().next().unwrap_or_default().chars().take(MAX_CHARACTERS).collect())
}
