//! From bytes to pixels. What an image is and what decoding it takes is read from its head, so that it can be refused and
//! charged before any memory is made; then it is decoded in steps, between which others run.
//!
//! Owns formats, orientation, and how kinds of pixels become ours. Refuses to know guests and accounts.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};

use super::{
    jpeg::Jpeg,
    picture::{self, Picture},
    png::Png,
    webp::WebP,
};

/// What any decoder takes beside what depends on the size: tables, blocks at the edges.
pub(super) const DECODER_BYTES: u64 = 512 << 10;

/// The most metadata that is read in front of an image; more is no image that anybody made on purpose.
pub(super) const MAX_METADATA_BYTES: usize = 8 << 20;

/// What reading the head of a file takes: metadata is copied, and some of it put together.
pub(super) fn head_bytes(file: &[u8]) -> u64 {
    DECODER_BYTES + 2 * file.len().min(MAX_METADATA_BYTES) as u64
}

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
    WebP(Box<WebP<'a>>),
}

impl<'a> Opened<'a> {
    /// Reads the head.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let opened = guarded(|| match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::jpeg(bytes),
            [0x89, b'P', b'N', b'G', ..] => Self::png(bytes),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::webp(bytes),
            _ => Err(Unreadable("these bytes are neither JPEG nor PNG nor WebP".into())),
        })?;
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
        let webp = WebP::new(bytes)?;
        let (width, height) = webp.size();
        let orientation = webp.exif().map_or(Orientation::NoTransforms, orientation);
        let working_bytes = webp.working_bytes();
        Ok(Self { width, height, channels: 3, working_bytes, orientation, decoder: Decoder::WebP(Box::new(webp)) })
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
        guarded(|| match &mut self.decoder {
            Decoder::Jpeg(jpeg) => jpeg.decode(&mut picture.pixels).map(|()| true),
            Decoder::Png(png) => png.step(&mut picture.pixels),
            Decoder::WebP(webp) => webp.decode(&mut picture.pixels).map(|()| true),
        })
    }

    /// Turns the decoded picture as its orientation says.
    pub(super) fn upright(self, picture: Picture) -> Picture {
        // What the decoder still holds is in nobody's charge from here on.
        drop(self.decoder);
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

/// What a decoder says of bytes from outside, of which a fault of its own is one way. Nothing of it is used afterwards.
fn guarded<T>(work: impl FnOnce() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Unreadable("its decoder failed".into())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparency_is_white_paper() {
        assert_eq!([0, 100, 255].map(|channel| over_white(channel, 255)), [0, 100, 255]);
        assert_eq!([0, 100, 255].map(|channel| over_white(channel, 0)), [255; 3]);
        assert_eq!(over_white(0, 128), 127);
    }

    #[test]
    fn exif_says_how_it_lies_and_nothing_wrong_is_believed() {
        let says = |orientation: u8| {
            let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
            exif
        };
        assert_eq!(orientation(&says(6)), Orientation::Rotate90);
        assert_eq!(orientation(&[b"Exif\0\0", &says(8)[..]].concat()), Orientation::Rotate270);
        for nonsense in [&says(0)[..], &says(9), &says(6)[..19], b"", b"MM\0*\xff\xff\xff\xff"] {
            assert_eq!(orientation(nonsense), Orientation::NoTransforms);
        }
    }

    #[test]
    fn what_is_no_image_is_told_apart_by_its_first_bytes() {
        for bytes in
            [&b""[..], b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WAVE"]
        {
            assert!(Opened::new(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_fault_of_a_decoder_is_an_answer() {
        let failed = guarded::<()>(|| panic!("a decoder's own fault"));
        assert_eq!(failed.err().map(|unreadable| unreadable.0), Some("its decoder failed".into()));
    }
}
