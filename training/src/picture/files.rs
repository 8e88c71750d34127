//! Pictures as files: JPEG and PNG, for examples, tests and benchmarks. Owns the encoding; refuses to read anything.

use anyhow::Context;
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

use super::Picture;

/// A JPEG file of this quality (1 to 100).
pub(crate) fn jpeg(picture: &Picture, quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    write(JpegEncoder::new_with_quality(&mut file, quality), &picture.bytes(), picture, ExtendedColorType::Rgb8)?;
    Ok(file)
}

/// A PNG file.
pub(crate) fn png(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    write(PngEncoder::new(&mut file), &picture.bytes(), picture, ExtendedColorType::Rgb8)?;
    Ok(file)
}

fn write(encoder: impl ImageEncoder, bytes: &[u8], size: &Picture, colour: ExtendedColorType) -> anyhow::Result<()> {
    let width = u32::try_from(size.width).context("too wide for a file")?;
    let height = u32::try_from(size.height).context("too high for a file")?;
    encoder.write_image(bytes, width, height, colour).context("encoding a picture")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_as_their_kinds_do() {
        let picture = Picture::filled(5, 3, [1.0, 0.5, 0.0]);
        assert!(png(&picture).unwrap().starts_with(b"\x89PNG"));
        assert!(jpeg(&picture, 90).unwrap().starts_with(&[0xFF, 0xD8, 0xFF]));
    }
}
