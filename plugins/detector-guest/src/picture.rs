//! Pictures that the guest decodes, resizes and encodes by itself.
//!
//! Owns the bounds that the host has otherwise: bytes and pixels are looked at before anything is decoded.

use std::io::Cursor;

use fast_image_resize::images::Image as Resized;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageEncoder, ImageReader, Rgb, RgbImage, Rgba};
use tenon_pictures::Picture;
use tenon_pictures::picture::line_width;
use tenon_sdk::images::{Area, Mapping, Point};
use tenon_sdk::{Failure, Request, Response, Tensor};

use crate::lines;

/// A side is no longer, and an image has no more pixels: 50 MP are 150 MB.
const MAX_SIDE: u32 = 16_384;
const MAX_PIXELS: u64 = 50_000_000;
/// The grey of letterbox bars.
const BARS: u8 = 114;
const JPEG_QUALITY: u8 = 90;

/// One picture, upright, red, green and blue.
#[derive(Debug)]
pub struct Decoded(RgbImage);

fn failure(code: &str, detail: impl std::fmt::Display) -> Failure {
    Failure { code: code.to_owned(), detail: detail.to_string() }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    failure("not-an-image", format!("the image cannot be read: {error}"))
}

impl Picture for Decoded {
    fn from_body(request: &Request, offset: u64, length: u64) -> Result<Self, Failure> {
        Self::from_bytes(&request.read_body(offset, length))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(unreadable)?;
        let mut decoder = reader.into_decoder().map_err(unreadable)?;
        let (width, height) = decoder.dimensions();
        if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
            let detail = format!("{width} x {height} pixels, {MAX_PIXELS} at most and {MAX_SIDE} on a side");
            return Err(failure("too-large", detail));
        }
        let orientation = decoder.orientation().map_err(unreadable)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
        image.apply_orientation(orientation);
        Ok(Decoded(opaque(image)))
    }

    fn size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn letterbox(&self, tensor: &Tensor, row: u64, side: u32) -> Result<Mapping, Failure> {
        let (width, height) = self.0.dimensions();
        let scale = (f64::from(side) / f64::from(width)).min(f64::from(side) / f64::from(height));
        let fitted = |extent: u32| ((f64::from(extent) * scale).round() as u32).clamp(1, side);
        let (across, down) = (fitted(width), fitted(height));
        let small = self.resized(across, down)?;
        let (left, top) = ((side - across) / 2, (side - down) / 2);
        put_planes(&small, (across, down), (left, top), (tensor, row, side))?;
        let scale = Point { x: width as f32 / across as f32, y: height as f32 / down as f32 };
        let origin = Point { x: -(left as f32) * scale.x, y: -(top as f32) * scale.y };
        Ok(Mapping { scale, origin })
    }

    fn draw(&mut self, area: Area, colour: (u8, u8, u8), label: &str) {
        let colour = Rgb([colour.0, colour.1, colour.2]);
        let width = line_width(self.size());
        lines::rectangle(&mut self.0, area, width, colour);
        lines::tag(&mut self.0, area.start, label, (width, colour));
    }

    fn encode(&self, format: &str, into: &Response) -> Result<(), Failure> {
        let (width, height) = self.0.dimensions();
        let kind = image::ExtendedColorType::Rgb8;
        let mut bytes = Vec::new();
        let written = match format {
            "png" => PngEncoder::new(&mut bytes).write_image(self.0.as_raw(), width, height, kind),
            _ => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
                self.0.as_raw(),
                width,
                height,
                kind,
            ),
        };
        written.map_err(|error| failure("too-large", error))?;
        into.write(&bytes)
    }
}

impl Decoded {
    /// Pillow's `BILINEAR`: the triangle, widened when it shrinks.
    fn resized(&self, width: u32, height: u32) -> Result<Vec<u8>, Failure> {
        if self.0.dimensions() == (width, height) {
            return Ok(self.0.as_raw().clone());
        }
        let broken = |error: &dyn std::fmt::Display| failure("not-an-image", format!("it cannot be resized: {error}"));
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        let (across, down) = self.0.dimensions();
        let source = fast_image_resize::images::ImageRef::new(across, down, self.0.as_raw(), PixelType::U8x3);
        let source = source.map_err(|error| broken(&error))?;
        let mut small = Resized::new(width, height, PixelType::U8x3);
        Resizer::new().resize(&source, &mut small, &options).map_err(|error| broken(&error))?;
        Ok(small.into_vec())
    }
}

/// Transparent parts are laid over white, as the host does.
fn opaque(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let (width, height) = image.dimensions();
    let image = image.into_rgba8();
    RgbImage::from_fn(width, height, |x, y| {
        let Rgba([red, green, blue, alpha]) = *image.get_pixel(x, y);
        let over = |channel: u8| {
            let (channel, alpha) = (u32::from(channel), u32::from(alpha));
            ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        Rgb([over(red), over(green), over(blue)])
    })
}

/// Writes the row: three planes of values from 0 to 1, the picture between bars. One plane is made at a time, as pages that
/// an instance has not touched before cost it more than numbers do.
fn put_planes(
    pixels: &[u8],
    (across, down): (u32, u32),
    (left, top): (u32, u32),
    (tensor, row, side): (&Tensor, u64, u32),
) -> Result<(), Failure> {
    let (across, down, left, top) = (across as usize, down as usize, left as usize, top as usize);
    let extent = side as usize * side as usize;
    let mut plane = vec![f32::from(BARS) / 255.0; extent];
    for channel in 0..3 {
        let lines = plane.chunks_exact_mut(side as usize).skip(top).take(down);
        for (line, pixels) in lines.zip(pixels.chunks_exact(across * 3)) {
            for (value, pixel) in line[left..][..across].iter_mut().zip(pixels.as_chunks::<3>().0) {
                *value = f32::from(pixel[channel]) * (1.0 / 255.0);
            }
        }
        tensor.put((row * 3 + channel as u64) * extent as u64, &plane)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_lie_in_the_middle_and_back() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(640, 320, Rgb([255, 0, 51])));
        let picture = Decoded::from_bytes(&bytes(&image, image::ImageFormat::Png)).unwrap();
        let tensor = Tensor::create("FP32", &[1, 3, 320, 320]).unwrap();
        let mapping = picture.letterbox(&tensor, 0, 320).unwrap();
        assert_eq!(mapping, Mapping { scale: Point { x: 2.0, y: 2.0 }, origin: Point { x: 0.0, y: -160.0 } });
        let row = tensor.values::<f32>().unwrap();
        let at = |channel: usize, y: usize| row[channel * 320 * 320 + y * 320 + 7];
        let found = [at(0, 79), at(0, 80), at(1, 160), at(2, 239), at(2, 240)];
        let wanted = [114.0 / 255.0, 1.0, 0.0, 0.2, 114.0 / 255.0];
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_told() {
        let image = DynamicImage::ImageRgb8(RgbImage::new(64, 64));
        let good = bytes(&image, image::ImageFormat::Png);
        for bad in [&good[..good.len() / 2], b"", b"\xff\xd8\xff", b"GIF89a"] {
            assert_eq!(Decoded::from_bytes(bad).unwrap_err().code, "not-an-image");
        }
        let mut huge = good.clone();
        // The width in the first chunk; its checksum is then wrong, and is looked at later.
        huge[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
        assert!(["too-large", "not-an-image"].contains(&Decoded::from_bytes(&huge).unwrap_err().code.as_str()));
    }

    #[test]
    fn what_is_transparent_lies_over_white() {
        let image = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(2, 2, Rgba([0, 100, 200, 0])));
        let picture = Decoded::from_bytes(&bytes(&image, image::ImageFormat::Png)).unwrap();
        assert_eq!(picture.0.get_pixel(0, 0), &Rgb([255, 255, 255]));
    }
}
