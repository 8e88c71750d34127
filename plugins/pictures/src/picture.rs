//! A decoded picture, as plugins use it; and the host's images as one.
//!
//! Owns the trait. It exists so that a plugin can be built twice from one source: with the host's `images`, and with
//! decoders of its own in the guest. Refuses to know which.

use tenon_sdk::images::{Area, Fit, Image, Mapping, Pen};
use tenon_sdk::{Failure, Request, Response, Tensor};

/// One decoded picture.
pub trait Picture: Sized {
    /// Decodes a range of the request's body. Failures as of `images.image.from-body`.
    fn from_body(request: &Request, offset: u64, length: u64) -> Result<Self, Failure>;

    /// Decodes these bytes. Failures as of `images.image.from-bytes`.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure>;

    /// Width and height in pixels, upright.
    fn size(&self) -> (u32, u32);

    /// Writes the whole picture into the middle of a row of `FP32[rows, 3, side, side]`, RGB 0 to 1, its sides in
    /// proportion, grey bars around it; and says the way back.
    fn letterbox(&self, tensor: &Tensor, row: u64, side: u32) -> Result<Mapping, Failure>;

    /// Draws a box with a label.
    fn draw(&mut self, area: Area, colour: (u8, u8, u8), label: &str);

    /// Encodes the picture (`jpeg`, `png`) into the answer's body.
    fn encode(&self, format: &str, into: &Response) -> Result<(), Failure>;
}

impl Picture for Image {
    fn from_body(request: &Request, offset: u64, length: u64) -> Result<Self, Failure> {
        Image::from_body(request, offset, length)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        Image::from_bytes(bytes)
    }

    fn size(&self) -> (u32, u32) {
        (self.width(), self.height())
    }

    fn letterbox(&self, tensor: &Tensor, row: u64, side: u32) -> Result<Mapping, Failure> {
        let fit = Fit::new(side, side);
        fit.mode("letterbox")?;
        fit.filter("triangle-antialias")?;
        self.into_tensor(tensor, row, &fit)
    }

    fn draw(&mut self, area: Area, colour: (u8, u8, u8), label: &str) {
        let pen = Pen::new();
        pen.colour(colour.0, colour.1, colour.2);
        pen.width(line_width(self.size()));
        pen.label(label);
        self.draw_box(area, &pen);
    }

    fn encode(&self, format: &str, into: &Response) -> Result<(), Failure> {
        Image::encode(self, format, into)
    }
}

/// Lines that can be seen in a picture of this size.
pub fn line_width((width, height): (u32, u32)) -> f32 {
    (width.max(height) as f32 / 400.0).round().clamp(1.0, 8.0)
}
