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
    let left = off_zeros(&plan.x);
    let (x, y) = (within(left, &plan.x, picture.width), within(plan.y.start, &plan.y, picture.height));
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).crop(left, plan.y.start, x, y);
    Resizer::new().resize(&source, &mut target, &options).expect("the part lies within the picture");
    pixels
}

/// How much is taken, so that start and this together are no more than the picture after rounding, too.
fn within(start: f64, side: &Side, size: u32) -> f64 {
    let mut extent = side.extent.min(f64::from(size) - start);
    while start + extent > f64::from(size) {
        extent = extent.next_down();
    }
    extent
}

/// Where to begin, so that no weight of the first and the last new pixel is exactly 0 where others of their rows have one.
/// Release 6.1 leaves such weights out, takes the windows of these two for the outermost all the same, and a neighbour's
/// bicubic one then reads what is not there. A millionth of a pixel is seen by nobody.
fn off_zeros(side: &Side) -> f64 {
    const STEP: f64 = 1e-6;
    let scale = side.extent / f64::from(side.count);
    if side.start.fract() == 0.0 && side.extent == f64::from(side.count) {
        // Taken as it is, without weights.
        return side.start;
    }
    // A bicubic filter is 0 this far from the middle.
    let reach = scale.max(1.0);
    let apart = |place: f64| (place - place.round()).abs() > STEP / 8.0;
    let clear = |start: &f64| {
        let first = start + scale / 2.0 - 0.5;
        let last = first + side.extent - scale;
        [first - reach, first + reach, last - reach, last + reach].into_iter().all(apart)
    };
    (0..8).map(|step| side.start + f64::from(step) * STEP).find(clear).unwrap_or(side.start)
}

#[cfg(test)]
mod tests {
    use super::{super::geometry::Mode, *};

    #[test]
    fn filters_keep_what_is_even_and_average_what_is_not() {
        let picture = |pixels: Vec<u8>| Picture { width: 4, height: 2, channels: 1, pixels };
        let filters = [Filter::Nearest, Filter::Bilinear, Filter::Triangle, Filter::Bicubic, Filter::Lanczos3];
        for filter in filters {
            for size in [[1, 1], [3, 5], [9, 1], [4, 2]] {
                let plan = Plan::new([4, 2], size, Mode::Stretch, None).unwrap();
                let even = resample(&picture(vec![77; 8]), &plan, filter);
                assert_eq!(even, vec![77; (size[0] * size[1]) as usize], "{filter:?} {size:?}");
            }
        }
        // Crops that have weights of 0 at their edges, of which a debug build would fail.
        for ([width, height], row) in [([55, 4], [18, 34]), ([20, 38], [2, 6]), ([18, 17], [14, 15])] {
            let crop = Plan::new([width, height], row, Mode::Cover, None).unwrap();
            let even = Picture { width, height, channels: 1, pixels: vec![9; (width * height) as usize] };
            assert_eq!(resample(&even, &crop, Filter::Bicubic), vec![9; (row[0] * row[1]) as usize]);
        }
        // Eight pixels to one: passed over, or not.
        let plan = Plan::new([4, 2], [1, 1], Mode::Stretch, None).unwrap();
        let edge = picture(vec![255, 0, 0, 0, 255, 0, 0, 0]);
        assert_eq!(resample(&edge, &plan, Filter::Bilinear), [0]);
        assert!(resample(&edge, &plan, Filter::Triangle)[0] > 20);
    }
}
