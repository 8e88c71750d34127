//! Masks of tiles, blended into the mask of an image.
//!
//! Bounded by the canvas: a byte for each of its pixels, and four more for those of one row of tiles, which are all
//! that is not final yet.

use crate::tiles::{Plan, SIDE};

/// A mask that grows tile by tile: for each pixel how sure the model is, 0 to 255.
#[derive(Debug)]
pub struct Canvas {
    plan: Plan,
    /// Sums of the rows of tiles that are on their way, from `begun` on.
    band: Vec<f32>,
    begun: usize,
    tiles: usize,
    sure: Vec<u8>,
}

impl Canvas {
    /// An empty one.
    pub fn new(plan: Plan) -> Self {
        let (width, height) = (plan.canvas.0 as usize, plan.canvas.1 as usize);
        let band = vec![0.0; width * height.min(SIDE as usize)];
        Canvas { band, begun: 0, tiles: 0, sure: Vec::with_capacity(width * height), plan }
    }

    /// Whether all tiles have come.
    pub fn is_whole(&self) -> bool {
        self.tiles == self.plan.tiles()
    }

    /// Adds the next tile's mask: [`SIDE`] rows of as many bytes.
    pub fn add(&mut self, mask: &[u8]) {
        let width = self.plan.canvas.0 as usize;
        let columns = self.plan.across.len();
        let (column, row) = (&self.plan.across[self.tiles % columns], &self.plan.down[self.tiles / columns]);
        let lines = mask.chunks_exact(SIDE as usize).zip(&row.weights).enumerate();
        for (y, (line, down)) in lines {
            let start = (row.start as usize - self.begun + y) * width + column.start as usize;
            let sums = &mut self.band[start..start + column.weights.len()];
            for ((sum, sure), across) in sums.iter_mut().zip(line).zip(&column.weights) {
                *sum += f32::from(*sure) * (across * down);
            }
        }
        self.tiles += 1;
        if self.tiles.is_multiple_of(columns) {
            self.end_row();
        }
    }

    /// What no further tile reaches is final.
    fn end_row(&mut self) {
        let width = self.plan.canvas.0 as usize;
        let next = self.plan.down.get(self.tiles / self.plan.across.len());
        let until = next.map_or(self.plan.canvas.1 as usize, |row| row.start as usize);
        let (ended, rest) = self.band.split_at((until - self.begun) * width);
        self.sure.extend(ended.iter().map(|sum| (sum + 0.5) as u8));
        let kept = rest.len();
        let moved = self.band.len() - kept;
        self.band.copy_within(moved.., 0);
        self.band[kept..].fill(0.0);
        self.begun = until;
    }

    /// The image's mask: a byte for each of its pixels.
    pub fn into_mask(self) -> Vec<u8> {
        assert!(self.is_whole(), "{} of {} tiles", self.tiles, self.plan.tiles());
        if self.plan.canvas == self.plan.size {
            return self.sure;
        }
        resampled(&self.sure, self.plan.canvas, self.plan.size)
    }
}

/// Each pixel weighed of the four around its middle.
fn resampled(from: &[u8], size: (u32, u32), wanted: (u32, u32)) -> Vec<u8> {
    let columns: Vec<Place> = (0..wanted.0).map(|x| Place::new(x, size.0, wanted.0)).collect();
    let mut to = Vec::with_capacity(columns.len() * wanted.1 as usize);
    for y in 0..wanted.1 {
        let row = Place::new(y, size.1, wanted.1);
        let line = |y: usize| &from[y * size.0 as usize..][..size.0 as usize];
        let (above, below) = (line(row.first), line(row.second));
        to.extend(columns.iter().map(|column| (row.mix(column.of(above), column.of(below)) + 0.5) as u8));
    }
    to
}

struct Place {
    first: usize,
    second: usize,
    share: f32,
}

impl Place {
    fn new(place: u32, size: u32, wanted: u32) -> Self {
        let at = (f64::from(place) + 0.5) * f64::from(size) / f64::from(wanted) - 0.5;
        let at = at.clamp(0.0, f64::from(size - 1));
        let first = at as usize;
        Place { first, second: (first + 1).min(size as usize - 1), share: at.fract() as f32 }
    }

    fn of(&self, line: &[u8]) -> f32 {
        self.mix(f32::from(line[self.first]), f32::from(line[self.second]))
    }

    fn mix(&self, first: f32, second: f32) -> f32 {
        first + (second - first) * self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a model would answer that knows the whole canvas.
    fn tile(plan: &Plan, tile: usize, sure: impl Fn(u32, u32) -> u8) -> Vec<u8> {
        let columns = plan.across.len();
        let (column, row) = (&plan.across[tile % columns], &plan.down[tile / columns]);
        let place = |index: u32| (column.start + index % SIDE, row.start + index / SIDE);
        (0..SIDE * SIDE).map(place).map(|(x, y)| sure(x, y)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn tiles_that_agree_give_what_they_say(width in 1_u32..900, height in 1_u32..900, overlap in 0_u32..128) {
            let plan = Plan::new((width, height), 1.0, overlap, 1000).unwrap();
            let sure = |x: u32, y: u32| (x * 7 + y * 13) as u8;
            let mut canvas = Canvas::new(plan.clone());
            for index in 0..plan.tiles() {
                prop_assert!(!canvas.is_whole());
                canvas.add(&tile(&plan, index, sure));
            }
            let wanted: Vec<u8> = (0..height).flat_map(|y| (0..width).map(move |x| sure(x, y))).collect();
            let mask = canvas.into_mask();
            prop_assert_eq!(mask.len(), wanted.len());
            prop_assert!(mask.iter().zip(&wanted).all(|(found, wanted)| found.abs_diff(*wanted) <= 1));
        }
    }

    #[test]
    fn where_tiles_disagree_one_becomes_the_other() {
        let plan = Plan::new((448, 1), 1.0, 64, 10).unwrap();
        let mut canvas = Canvas::new(plan);
        canvas.add(&[0; (SIDE * SIDE) as usize]);
        canvas.add(&[255; (SIDE * SIDE) as usize]);
        let mask = canvas.into_mask();
        assert_eq!((mask[191], mask[256]), (0, 255));
        assert!(
            mask.windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] <= 8),
            "no seam: {:?}",
            &mask[186..260]
        );
    }

    #[test]
    fn a_scaled_canvas_comes_back_in_the_images_pixels() {
        let plan = Plan::new((64, 32), 4.0, 0, 10).unwrap();
        let mut canvas = Canvas::new(plan.clone());
        canvas.add(&tile(&plan, 0, |x, _| if x < 128 { 255 } else { 0 }));
        let mask = canvas.into_mask();
        assert_eq!(mask.len(), 64 * 32);
        assert!(mask.chunks(64).all(|line| line[31] == 255 && line[32] == 0));
    }
}
