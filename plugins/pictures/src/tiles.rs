//! Where tiles lie that cover an image, and how much each counts where several do.
//!
//! A pure function of sizes. Tiles are squares of [`SIDE`] pixels of a *canvas*: the image, scaled. They are spread
//! evenly and overlap; where the canvas is smaller than a tile, the tile juts out to the right and below.

use tenon_sdk::images::{Area, Point};

/// The side of a tile in pixels, of the canvas as of the tensor.
pub const SIDE: u32 = 256;
/// Small images are enlarged until a tile is filled, but no further: more only makes blocks of pixels.
const MOST_ENLARGED: f32 = 4.0;

/// The tiles of one image.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the image, in pixels.
    pub size: (u32, u32),
    /// Of the canvas, in pixels.
    pub canvas: (u32, u32),
    pub(crate) across: Vec<Strip>,
    pub(crate) down: Vec<Strip>,
}

/// The extent of tiles along one axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strip {
    pub(crate) start: u32,
    /// How much each of its pixels counts; ends where the canvas does. Over all strips, a pixel's weights make 1.
    pub(crate) weights: Vec<f32>,
}

/// The scale that an image gets when nobody asks for one: 1, or what fills a tile.
pub fn fitting_scale((width, height): (u32, u32)) -> f32 {
    let longest = width.max(height).max(1);
    if longest >= SIDE { 1.0 } else { (SIDE as f32 / longest as f32).min(MOST_ENLARGED) }
}

impl Plan {
    /// Covers an image whose pixels are scaled by `scale`, with tiles that share at least `overlap` pixels; fails with
    /// their number where they would be more than `most`.
    pub fn new(size: (u32, u32), scale: f32, overlap: u32, most: usize) -> Result<Plan, usize> {
        let scaled = |extent: u32| ((f64::from(extent) * f64::from(scale)).round() as u32).max(1);
        let canvas = (scaled(size.0), scaled(size.1));
        let step = SIDE - overlap.min(SIDE - 1);
        let (columns, rows) = (count(canvas.0, step), count(canvas.1, step));
        // Asked before anything is made: a scale can ask for a great many.
        match columns.saturating_mul(rows) {
            tiles if tiles > most => Err(tiles),
            _ => Ok(Plan { size, canvas, across: strips(canvas.0, columns), down: strips(canvas.1, rows) }),
        }
    }

    /// How many tiles there are.
    pub fn tiles(&self) -> usize {
        self.across.len() * self.down.len()
    }

    /// The part of the image that a tile shows; tiles are counted row by row.
    pub fn area(&self, tile: usize) -> Area {
        let (column, row) = (&self.across[tile % self.across.len()], &self.down[tile / self.across.len()]);
        let x = |x: u32| (f64::from(x) * f64::from(self.size.0) / f64::from(self.canvas.0)) as f32;
        let y = |y: u32| (f64::from(y) * f64::from(self.size.1) / f64::from(self.canvas.1)) as f32;
        Area {
            start: Point { x: x(column.start), y: y(row.start) },
            end: Point { x: x(column.start + SIDE), y: y(row.start + SIDE) },
        }
    }
}

fn count(extent: u32, step: u32) -> usize {
    extent.saturating_sub(SIDE).div_ceil(step) as usize + 1
}

fn strips(extent: u32, count: usize) -> Vec<Strip> {
    let room = u64::from(extent.saturating_sub(SIDE));
    let start = |index: usize| if count == 1 { 0 } else { (room * index as u64 / (count as u64 - 1)) as u32 };
    let length = extent.min(SIDE);
    // A tile knows least about its edges, where it does not see what goes on.
    let trust = |place: u32| (place + 1).min(length - place) as f32;
    let mut total = vec![0.0_f32; extent as usize];
    for index in 0..count {
        let at = start(index) as usize;
        (0..length).for_each(|place| total[at + place as usize] += trust(place));
    }
    let strip = |index: usize| {
        let start = start(index);
        Strip { start, weights: (0..length).map(|place| trust(place) / total[(start + place) as usize]).collect() }
    };
    (0..count).map(strip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pixel_is_covered_and_its_weights_make_one(extent in 1_u32..5000, overlap in 0_u32..300) {
            let plan = Plan::new((extent, 300), 1.0, overlap, 1_000_000).unwrap();
            let mut total = vec![0.0_f32; extent as usize];
            let mut before: Option<u32> = None;
            for strip in &plan.across {
                for (place, weight) in strip.weights.iter().enumerate() {
                    total[strip.start as usize + place] += weight;
                }
                if let Some(before) = before {
                    prop_assert!(before + SIDE >= strip.start + overlap.min(SIDE - 1), "they share the overlap");
                }
                before = Some(strip.start);
            }
            prop_assert!(total.iter().all(|total| (total - 1.0).abs() < 1e-5));
        }
    }

    #[test]
    fn so_many_and_no_more() {
        let tiles = |width: u32| Plan::new((width, 10), 1.0, 64, 100).map(|plan| plan.tiles());
        for (width, wanted) in [(1, 1), (256, 1), (257, 2), (448, 2), (449, 3)] {
            assert_eq!(tiles(width), Ok(wanted), "{width}");
        }
        assert_eq!(Plan::new((4096, 4096), 1.0, 64, 1000).unwrap().tiles(), 441);
        assert_eq!(
            Plan::new((u32::MAX, u32::MAX), 4.0, 255, 1000).map(|plan| plan.tiles()),
            Err(4294967040_usize.pow(2))
        );
    }

    #[test]
    fn tiles_show_parts_of_the_image() {
        let plan = Plan::new((512, 256), 2.0, 0, 100).unwrap();
        assert_eq!((plan.canvas, plan.tiles()), ((1024, 512), 8));
        assert_eq!(plan.area(5), Area::new(128.0, 128.0, 256.0, 256.0));
        let small = Plan::new((100, 50), fitting_scale((100, 50)), 64, 100).unwrap();
        assert_eq!((small.canvas, small.tiles()), ((256, 128), 1));
        assert_eq!(small.area(0), Area::new(0.0, 0.0, 100.0, 100.0), "what is below the image is bars");
        assert_eq!((fitting_scale((1, 1)), fitting_scale((256, 1)), fitting_scale((3000, 2))), (4.0, 1.0, 1.0));
    }
}
