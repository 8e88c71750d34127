//! Images: the host's resources, and short ways to what plugins mostly want of them.
//!
//! ```
//! use tenon_sdk::images::{Fit, Image};
//! use tenon_sdk::{HostCall, Rejection, Request, Tensor};
//!
//! fn pixels(request: &Request) -> Result<Tensor, Rejection> {
//!     let image = Image::from_request(request).or_reject(415)?;
//!     let tensor = Tensor::create("FP32", &[1, 3, 320, 320]).or_trap();
//!     let mapping = image.into_tensor(&tensor, 0, &Fit::letterbox(320, 320)).or_trap();
//!     let _middle = mapping.back(160.0, 160.0); // in pixels of the image
//!     Ok(tensor)
//! }
//! ```

#[cfg(not(target_arch = "wasm32"))]
pub use crate::host::images::Drawn;
pub use crate::host::images::{Area, Fit, Image, Mapping, Pen, Point};
use crate::{Failure, HostCall, Request};

impl Point {
    /// A place in pixels from the corner top left.
    pub fn new(x: f32, y: f32) -> Point {
        Point { x, y }
    }
}

impl Area {
    /// A rectangle from its left, top, right and bottom edges, in pixels.
    pub fn new(left: f32, top: f32, right: f32, bottom: f32) -> Area {
        Area { start: Point::new(left, top), end: Point::new(right, bottom) }
    }
}

impl Mapping {
    /// The place in the image of a place in the tensor.
    pub fn back(&self, x: f32, y: f32) -> Point {
        Point::new(x * self.scale.x + self.origin.x, y * self.scale.y + self.origin.y)
    }
}

impl Fit {
    /// All of the image, in proportion, with bars around.
    pub fn letterbox(width: u32, height: u32) -> Fit {
        Self::in_mode("letterbox", width, height)
    }

    /// As much of the image as fills the row in proportion.
    pub fn cover(width: u32, height: u32) -> Fit {
        Self::in_mode("cover", width, height)
    }

    /// A part of the image, stretched.
    pub fn part(area: Area, width: u32, height: u32) -> Fit {
        let fit = Fit::new(width, height);
        fit.crop(area);
        fit
    }

    fn in_mode(mode: &str, width: u32, height: u32) -> Fit {
        let fit = Fit::new(width, height);
        fit.mode(mode).or_trap();
        fit
    }
}

impl Image {
    /// Decodes the whole body.
    pub fn from_request(request: &Request) -> Result<Image, Failure> {
        Image::from_body(request, 0, request.body_size())
    }
}
