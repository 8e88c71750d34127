//! Where an image lies in a row of a tensor: which part of it is taken, where that part comes to lie, and the way back.
//! Pure arithmetic, in which no coordinate that a guest gives can do harm.

use crate::sandbox::bindings::images::{Area, Mapping, Point};

/// Coordinates beyond this are no pixels: from here on an `f32` cannot tell them apart.
const FARTHEST: f64 = (1_u32 << 24) as f64;

/// Less of a pixel than this is none.
const SMALLEST: f64 = 1e-4;

/// How sides are brought to the row's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Stretch,
    Letterbox,
    Cover,
}

/// One side of the plan, in x or in y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Side {
    /// Pixels of the row in which there is image: the first, and how many.
    pub(super) first: u32,
    pub(super) count: u32,
    /// Pixels of the image that come to lie there: from where, and how many.
    pub(super) start: f64,
    pub(super) extent: f64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) x: Side,
    pub(super) y: Side,
    pub(super) mapping: Mapping,
}

/// An area that has no width or no height, or coordinates that are no numbers.
#[derive(Debug)]
pub(super) struct InvalidArea;

/// What is taken of one side, and where in the row it would lie if the image had no end.
struct Wish {
    start: f64,
    extent: f64,
    first: f64,
    count: f64,
}

impl Wish {
    /// Pixels of the image for each of the row.
    fn scale(&self) -> f64 {
        self.extent / self.count
    }

    /// Where the row's own edge lies in the image.
    fn origin(&self) -> f64 {
        self.start - self.first * self.scale()
    }

    /// What of it there is, in an image of `size` pixels.
    fn within(&self, size: f64) -> Side {
        if self.extent < SMALLEST {
            return Side { first: 0, count: 0, start: 0.0, extent: 0.0 };
        }
        if self.start >= 0.0 && self.start + self.extent <= size {
            let (first, count) = (self.first as u32, self.count as u32);
            return Side { first, count, start: self.start, extent: self.extent };
        }
        // The image's edges in the row, rounded to its pixels, and from there back into the image.
        let edge =
            |place: f64| ((place - self.origin()) / self.scale()).round().clamp(self.first, self.first + self.count);
        let (first, last) = (edge(0.0), edge(size));
        let back = |edge: f64| (self.origin() + edge * self.scale()).clamp(0.0, size);
        let (start, end) = (back(first), back(last));
        if last <= first || end - start < SMALLEST {
            return Side { first: 0, count: 0, start: 0.0, extent: 0.0 };
        }
        Side { first: first as u32, count: (last - first) as u32, start, extent: end - start }
    }
}

impl Plan {
    /// Brings `area` of an image (all of it, if none is given) to a row; both sizes are in pixels, x first, and not 0.
    pub(super) fn new(image: [u32; 2], row: [u32; 2], mode: Mode, area: Option<Area>) -> Result<Self, InvalidArea> {
        let (size, row) = (image.map(f64::from), row.map(f64::from));
        let (start, extent) = match area {
            None => ([0.0; 2], size),
            Some(Area { start, end }) => {
                let (start, end) = ([start.x, start.y].map(f64::from), [end.x, end.y].map(f64::from));
                if !start.iter().chain(&end).all(|place| place.abs() <= FARTHEST) {
                    return Err(InvalidArea);
                }
                (start, [end[0] - start[0], end[1] - start[1]])
            }
        };
        if extent.iter().any(|extent| *extent < SMALLEST) {
            return Err(InvalidArea);
        }
        let scale = [extent[0] / row[0], extent[1] / row[1]];
        let wish = |axis: usize| {
            let (start, extent, row) = (start[axis], extent[axis], row[axis]);
            match mode {
                Mode::Stretch => Wish { start, extent, first: 0.0, count: row },
                Mode::Letterbox => {
                    let count = (extent / scale[0].max(scale[1])).round().clamp(1.0, row);
                    Wish { start, extent, first: ((row - count) / 2.0).floor(), count }
                }
                Mode::Cover => {
                    let taken = extent.min(scale[0].min(scale[1]) * row);
                    Wish { start: start + (extent - taken) / 2.0, extent: taken, first: 0.0, count: row }
                }
            }
        };
        let (x, y) = (wish(0), wish(1));
        let point = |x: f64, y: f64| Point { x: x as f32, y: y as f32 };
        let mapping = Mapping { scale: point(x.scale(), y.scale()), origin: point(x.origin(), y.origin()) };
        Ok(Self { x: x.within(size[0]), y: y.within(size[1]), mapping })
    }

    /// Whether there is any image in the row.
    pub(super) fn is_empty(&self) -> bool {
        self.x.count == 0 || self.y.count == 0
    }

    /// Where in the image its pixels begin, if they are the row's as they are.
    pub(super) fn unscaled(&self) -> Option<(u32, u32)> {
        let whole = |side: &Side| side.start.fract() == 0.0 && side.extent == f64::from(side.count);
        (whole(&self.x) && whole(&self.y)).then_some((self.x.start as u32, self.y.start as u32))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn area(left: f32, top: f32, right: f32, bottom: f32) -> Area {
        Area { start: Point { x: left, y: top }, end: Point { x: right, y: bottom } }
    }

    fn side(first: u32, count: u32, start: f64, extent: f64) -> Side {
        Side { first, count, start, extent }
    }

    #[test]
    fn each_mode_keeps_its_word() {
        let plan = |mode, area| Plan::new([640, 480], [320, 320], mode, area).unwrap();
        let stretched = plan(Mode::Stretch, None);
        assert_eq!((stretched.x, stretched.y), (side(0, 320, 0.0, 640.0), side(0, 320, 0.0, 480.0)));
        let boxed = plan(Mode::Letterbox, None);
        assert_eq!((boxed.x, boxed.y), (side(0, 320, 0.0, 640.0), side(40, 240, 0.0, 480.0)));
        assert_eq!((boxed.mapping.scale.y, boxed.mapping.origin.y), (2.0, -80.0));
        let covered = plan(Mode::Cover, None);
        assert_eq!((covered.x, covered.y), (side(0, 320, 80.0, 480.0), side(0, 320, 0.0, 480.0)));
        assert_eq!((covered.mapping.scale.x, covered.mapping.origin.x), (1.5, 80.0));
        let tile = plan(Mode::Stretch, Some(area(-64.0, 300.0, 256.0, 620.0)));
        assert_eq!((tile.x, tile.y), (side(64, 256, 0.0, 256.0), side(0, 180, 300.0, 180.0)));
        assert_eq!(tile.unscaled(), Some((0, 300)));
        assert!(plan(Mode::Letterbox, Some(area(700.0, 0.0, 800.0, 10.0))).is_empty());
    }

    #[test]
    fn bars_that_cannot_be_equal_are_wider_behind() {
        let plan = Plan::new([4, 3], [5, 4], Mode::Letterbox, None).unwrap();
        assert_eq!((plan.x.first, plan.x.count, plan.y.first, plan.y.count), (0, 5, 0, 4));
        let plan = Plan::new([1000, 1], [10, 4], Mode::Letterbox, None).unwrap();
        assert_eq!((plan.y.first, plan.y.count), (1, 1));
    }

    #[test]
    fn areas_that_are_none_are_refused() {
        for area in [
            area(0.0, 0.0, 0.0, 1.0),
            area(2.0, 0.0, 1.0, 1.0),
            area(f32::NAN, 0.0, 1.0, 1.0),
            area(0.0, f32::NEG_INFINITY, 1.0, 1.0),
            area(0.0, 0.0, f32::MAX, 1.0),
            area(0.0, 0.0, f32::MIN_POSITIVE, 1.0),
        ] {
            assert!(Plan::new([8, 8], [8, 8], Mode::Stretch, Some(area)).is_err(), "{area:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_lies_in_image_and_row(
            image in [1_u32..5000, 1_u32..5000],
            row in [1_u32..600, 1_u32..600],
            mode in prop::sample::select(vec![Mode::Stretch, Mode::Letterbox, Mode::Cover]),
            start in [-9000.0_f32..9000.0, -9000.0_f32..9000.0],
            extent in [0.0001_f32..20_000.0, 0.0001_f32..20_000.0],
        ) {
            let area = area(start[0], start[1], start[0] + extent[0], start[1] + extent[1]);
            let Ok(plan) = Plan::new(image, row, mode, Some(area)) else { return Ok(()) };
            for (side, image, row) in [(plan.x, image[0], row[0]), (plan.y, image[1], row[1])] {
                prop_assert!(side.first + side.count <= row);
                prop_assert!(side.start >= 0.0 && side.start + side.extent <= f64::from(image) + 1e-6);
                prop_assert!(side.count == 0 || side.extent >= SMALLEST);
            }
        }
    }
}
