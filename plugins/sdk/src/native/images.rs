//! The shape of `images`, so that plugins that use it compile natively. Nothing is decoded:
//! image plugins test their geometry with numbers.

use super::{Failure, Request, Response, Tensor};

/// A place in an image, in pixels from the corner top left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

/// An upright rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// The corner top left.
    pub start: Point,
    /// The corner bottom right.
    pub end: Point,
}

/// The way back from a tensor to the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mapping {
    /// Image pixels for each tensor pixel.
    pub scale: Point,
    /// Where the tensor's 0, 0 lies in the image.
    pub origin: Point,
}

/// How an image becomes a row of a tensor.
#[derive(Debug)]
pub struct Fit;

impl Fit {
    /// To so many pixels.
    pub fn new(_width: u32, _height: u32) -> Self {
        Fit
    }

    /// `stretch`, `letterbox` or `cover`.
    pub fn mode(&self, _mode: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// `nearest`, `bilinear`, `bicubic` or `lanczos3`.
    pub fn filter(&self, _filter: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// The colour of letterbox bars.
    pub fn bars(&self, _red: u8, _green: u8, _blue: u8) {}

    /// Value = (pixel / 255 - mean) / deviation.
    pub fn normalise(&self, _mean: (f32, f32, f32), _deviation: (f32, f32, f32)) {}

    /// `chw` or `hwc`.
    pub fn layout(&self, _layout: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes only this part of the image.
    pub fn crop(&self, _area: Area) {}
}

/// How to draw.
#[derive(Debug, Default)]
pub struct Pen;

impl Pen {
    /// A green line two pixels wide.
    pub fn new() -> Self {
        Pen
    }

    /// The colour.
    pub fn colour(&self, _red: u8, _green: u8, _blue: u8) {}

    /// The width of lines in pixels.
    pub fn width(&self, _pixels: f32) {}

    /// How much of the inside is covered.
    pub fn fill(&self, _opacity: f32) {}

    /// Text at the first corner.
    pub fn label(&self, _text: &str) {}
}

/// An image without pixels: nothing is decoded natively.
#[derive(Clone, Debug)]
pub struct Image {
    width: u32,
    height: u32,
}

fn absent<T>() -> Result<T, Failure> {
    Err(Failure::new("not-an-image", "natively no image is decoded"))
}

impl Image {
    /// An image of this size: for tests.
    pub fn blank(width: u32, height: u32) -> Self {
        Image { width, height }
    }

    /// Fails with `not-an-image`.
    pub fn from_body(_request: &Request, _offset: u64, _length: u64) -> Result<Image, Failure> {
        absent()
    }

    /// Fails with `not-an-image`.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Image, Failure> {
        absent()
    }

    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Writes nothing, and says that tensor and image are one.
    pub fn into_tensor(&self, _tensor: &Tensor, _row: u64, _fit: &Fit) -> Result<Mapping, Failure> {
        let (scale, origin) = (Point { x: 1.0, y: 1.0 }, Point { x: 0.0, y: 0.0 });
        Ok(Mapping { scale, origin })
    }

    /// Draws nothing.
    pub fn draw_box(&self, _area: Area, _pen: &Pen) {}

    /// Draws nothing.
    pub fn draw_polygon(&self, _points: &[Point], _pen: &Pen) {}

    /// Writes nothing.
    pub fn encode(&self, _format: &str, _into: &Response) -> Result<(), Failure> {
        Ok(())
    }
}
