//! Images in memory, for native tests: real pixels, and one format, binary PPM and PGM, for
//! JPEG, PNG and WebP alike. What is drawn is noted, not painted.

use std::cell::{Cell, RefCell};

use super::{Failure, Request, Response, Tensor};

pub use super::fit::Fit;

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

/// How to draw.
#[derive(Debug, Default)]
pub struct Pen {
    label: RefCell<String>,
    fill: Cell<f32>,
}

impl Pen {
    /// A green line two pixels wide.
    pub fn new() -> Self {
        Self::default()
    }

    /// The colour.
    pub fn colour(&self, _red: u8, _green: u8, _blue: u8) {}

    /// The width of lines in pixels.
    pub fn width(&self, _pixels: f32) {}

    /// How much of the inside is covered.
    pub fn fill(&self, opacity: f32) {
        self.fill.set(opacity);
    }

    /// Text on a tag.
    pub fn label(&self, text: &str) {
        self.label.replace(text.to_owned());
    }
}

/// What was drawn into an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The outline and its holes; a rectangle is one ring of four.
    pub rings: Vec<Vec<Point>>,
    /// The pen's label.
    pub label: String,
    /// How much of the inside is covered.
    pub fill: f32,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 or 3.
    pub(super) channels: u32,
    pub(super) pixels: Vec<u8>,
    drawn: RefCell<Vec<Drawn>>,
}

/// Bytes of an image of this shape; none where there are too many, or no pixels.
fn volume(width: u32, height: u32, channels: u32) -> Option<usize> {
    let pixels = u64::from(width).checked_mul(u64::from(height)).filter(|pixels| *pixels > 0)?;
    usize::try_from(pixels.checked_mul(u64::from(channels))?).ok()
}

impl Image {
    /// A black image of this size: for tests.
    pub fn blank(width: u32, height: u32) -> Self {
        let pixels = vec![0; volume(width, height, 3).unwrap_or(0)];
        Image { width, height, channels: 3, pixels, drawn: RefCell::default() }
    }

    /// Reads PPM or PGM from bytes of the request's body.
    pub fn from_body(request: &Request, offset: u64, length: u64) -> Result<Image, Failure> {
        if offset.checked_add(length).is_none_or(|end| end > request.body_size()) {
            return Err(Failure::new(
                "out-of-bounds",
                format!("{length} bytes from {offset} on lie past the body's end"),
            ));
        }
        Self::from_bytes(&request.read_body(offset, length))
    }

    /// Reads binary PPM (`P6`) or PGM (`P5`) as `encode` writes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Image, Failure> {
        let absent = || Failure::new("not-an-image", "natively only binary PPM and PGM are read");
        let mut parts = bytes.splitn(4, u8::is_ascii_whitespace);
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let channels = match word().ok_or_else(absent)? {
            "P5" => 1,
            "P6" => 3,
            _ => return Err(absent()),
        };
        let mut number = || word()?.parse::<u32>().ok();
        let (width, height) = number().zip(number()).ok_or_else(absent)?;
        let pixels = parts.next().and_then(|rest| rest.strip_prefix(b"255\n")).ok_or_else(absent)?;
        Self::from_pixels(width, height, channels, pixels).map_err(|_| absent())
    }

    /// An image of these pixels.
    pub fn from_pixels(width: u32, height: u32, channels: u32, bytes: &[u8]) -> Result<Image, Failure> {
        if !matches!(channels, 1 | 3) || volume(width, height, channels) != Some(bytes.len()) {
            let detail = format!("{} bytes are not {width} x {height} pixels of {channels} channels", bytes.len());
            return Err(Failure::new("invalid-shape", detail));
        }
        Ok(Image { width, height, channels, pixels: bytes.to_vec(), drawn: RefCell::default() })
    }

    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Writes the image into a row of a tensor (`FP32` or `UINT8`) and says the way back.
    /// Filters other than `nearest` are all `bilinear`.
    pub fn into_tensor(&self, tensor: &Tensor, row: u64, fit: &Fit) -> Result<Mapping, Failure> {
        fit.write(self, tensor, row)
    }

    /// Notes a rectangle.
    pub fn draw_box(&self, area: Area, pen: &Pen) {
        let (start, end) = (area.start, area.end);
        let corners = [start, Point { x: end.x, y: start.y }, end, Point { x: start.x, y: end.y }];
        self.draw_polygon(&[corners.to_vec()], pen);
    }

    /// Notes an outline and its holes.
    pub fn draw_polygon(&self, rings: &[Vec<Point>], pen: &Pen) {
        let (label, fill) = (pen.label.borrow().clone(), pen.fill.get());
        self.drawn.borrow_mut().push(Drawn { rings: rings.to_vec(), label, fill });
    }

    /// What was drawn so far: for tests.
    pub fn drawn(&self) -> Vec<Drawn> {
        self.drawn.borrow().clone()
    }

    /// The pixels without what was drawn: for tests.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Writes binary PPM (or PGM, where it is grey) for each of the formats.
    pub fn encode(&self, format: &str, into: &Response) -> Result<(), Failure> {
        if !["jpeg", "png", "webp"].contains(&format) {
            return Err(Failure::new("unknown-option", format!("`{format}` is not jpeg, png or webp")));
        }
        let kind = if self.channels == 1 { "P5" } else { "P6" };
        into.write(format!("{kind} {} {} 255\n", self.width, self.height).as_bytes())?;
        into.write(&self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let image = Image::from_pixels(2, 1, 3, &[1, 2, 3, 10, 32, 255]).unwrap();
        let response = Response::new(200, "image/png");
        image.encode("png", &response).unwrap();
        let request = Request::post(response.sent().body);
        let again = Image::from_body(&request, 0, request.body_size()).unwrap();
        assert_eq!((again.width(), again.height(), again.pixels()), (2, 1, image.pixels()));
        assert_eq!(Image::from_body(&request, 1, request.body_size()).unwrap_err().code, "out-of-bounds");
        assert_eq!(Image::from_bytes(b"P6 2 1 255\nabc").unwrap_err().code, "not-an-image");
        assert_eq!(Image::from_pixels(1, 1, 4, &[0; 4]).unwrap_err().code, "invalid-shape");
        assert_eq!(image.encode("gif", &response).unwrap_err().code, "unknown-option");
    }
}
