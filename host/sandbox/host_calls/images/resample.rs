//! Pixels made of pixels, by `fast_image_resize`: which of its ways each of our filters is, and what memory it takes.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::{
    geometry::{Plan, Side},
    picture::{self, Picture},
};

/// How pixels are made of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filter {
    Nearest,
    Bilinear,
    #[default]
    Triangle,
    Bicubic,
    Lanczos3,
}

impl Filter {
    fn algorithm(self) -> ResizeAlg {
        match self {
            Self::Nearest => ResizeAlg::Nearest,
            Self::Bilinear => ResizeAlg::Interpolation(FilterType::Bilinear),
            Self::Triangle => ResizeAlg::Convolution(FilterType::Bilinear),
            Self::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Self::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
        }
    }
}

/// Bytes that resampling takes beside the result: rows are made before columns, and every pixel of the result has its
/// weights in both directions.
pub(super) fn working_bytes(picture: &Picture, plan: &Plan) -> u64 {
    // As far as three pixels on either side.
    const REACH: f64 = 3.0;
    // In double precision and rounded.
    const WEIGHT_BYTES: f64 = (8 + 2) as f64;
    // A window's place, twice.
    const WINDOW_BYTES: f64 = 32.0;
    let reach = |side: &Side| 2.0 * (REACH * (side.extent / f64::from(side.count)).max(1.0)).ceil() + 1.0;
    let weights = |side: &Side| (reach(side) * WEIGHT_BYTES + WINDOW_BYTES) * f64::from(side.count);
    let columns = picture.width.min((plan.x.extent + reach(&plan.x)).ceil() as u32);
    picture::bytes(columns, plan.y.count, picture.channels) + (weights(&plan.x) + weights(&plan.y)) as u64
}

/// The planned part of the picture in as many pixels as the plan says; its rows are back to back.
pub(super) fn resample(picture: &Picture, plan: &Plan, filter: Filter) -> Vec<u8> {
    let kind = if picture.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let (width, height) = (plan.x.count, plan.y.count);
    let mut pixels = vec![0; picture::bytes(width, height, picture.channels) as usize];
    let fits = "pixels have as many bytes as their size says";
    let source = ImageRef::new(picture.width, picture.height, &picture.pixels, kind).expect(fits);
    let mut target = Image::from_slice_u8(width, height, &mut pixels, kind).expect(fits);
    let (x, y) = (within(&plan.x, picture.width), within(&plan.y, picture.height));
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).crop(plan.x.start, plan.y.start, x, y);
    Resizer::new().resize(&source, &mut target, &options).expect("the part lies within the picture");
    pixels
}

/// How much is taken, so that start and this together are no more than the picture after rounding, too.
fn within(side: &Side, size: u32) -> f64 {
    let mut extent = side.extent.min(f64::from(size) - side.start);
    while side.start + extent > f64::from(size) {
        extent = extent.next_down();
    }
    extent
}
