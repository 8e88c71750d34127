//! Outlines of regions along the edges of pixels.
//!
//! Owns following borders: each region has one outer ring, clockwise on the screen, and a ring for each hole, the other
//! way round. Corners are corners of pixels, so that rings give back exactly the mask that they were made of. No ring
//! crosses or touches itself; a hole may meet the outer ring, or another hole, in a corner.

use crate::runs::Runs;
use crate::simplify::simplified;

/// A closed line; the first corner is not repeated.
pub type Ring = Vec<[u32; 2]>;

const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// Outlines of the regions of a mask.
#[derive(Debug)]
pub struct Outlines<'a> {
    runs: &'a Runs,
    /// Runs by region.
    order: Vec<u32>,
    /// Where each region's runs begin in `order`.
    begins: Vec<u32>,
    /// Which ends of each run some ring has passed.
    passed: Vec<u8>,
}

/// The directions in which a ring goes: right, down, left, up.
const STEPS: [(i64, i64); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
const DOWN: usize = 1;
const UP: usize = 3;

impl<'a> Outlines<'a> {
    /// Gets ready to follow borders.
    pub fn new(runs: &'a Runs) -> Self {
        let regions = runs.regions().len();
        let mut begins = vec![0_u32; regions + 1];
        runs.runs.iter().for_each(|run| begins[run.label as usize + 1] += 1);
        for region in 0..regions {
            begins[region + 1] += begins[region];
        }
        let (mut order, mut next) = (vec![0; runs.runs.len()], begins.clone());
        for (index, run) in (0..).zip(&runs.runs) {
            let place = &mut next[run.label as usize];
            order[*place as usize] = index;
            *place += 1;
        }
        Outlines { runs, order, begins, passed: vec![0; runs.runs.len()] }
    }

    /// The rings of a region: the outer one, then its holes from top to bottom. Corners are left out that are no
    /// further than `tolerance` pixels from the line without them; 0 leaves every corner.
    pub fn rings(&mut self, region: usize, tolerance: f32) -> Vec<Ring> {
        let (from, until) = (self.begins[region] as usize, self.begins[region + 1] as usize);
        let mut rings = Vec::new();
        for place in from..until {
            let index = self.order[place] as usize;
            let run = self.runs.runs[index];
            // The first run's left end is the outer ring's: nothing of the region is above it.
            if self.passed[index] & LEFT == 0 {
                rings.push(self.follow((run.start.into(), i64::from(run.y) + 1), UP, run.label));
            }
            if self.passed[index] & RIGHT == 0 {
                rings.push(self.follow((run.end.into(), run.y.into()), DOWN, run.label));
            }
        }
        if tolerance > 0.0 {
            return rings.into_iter().map(|ring| simplified(ring, tolerance)).collect();
        }
        rings
    }

    /// Goes round, the region on the right hand, until it comes back to where it began.
    fn follow(&mut self, start: (i64, i64), direction: usize, label: u32) -> Ring {
        let inside = |runs: &Runs, x: i64, y: i64| runs.at(x, y).is_some_and(|run| runs.runs[run].label == label);
        let (mut at, mut going) = (start, direction);
        let mut ring = Ring::new();
        loop {
            self.pass(at, going);
            at = (at.0 + STEPS[going].0, at.1 + STEPS[going].1);
            let (x, y) = at;
            let (left, right) = match going {
                0 => ((x, y - 1), (x, y)),
                DOWN => ((x, y), (x - 1, y)),
                2 => ((x - 1, y), (x - 1, y - 1)),
                _ => ((x - 1, y - 1), (x, y - 1)),
            };
            // Left first: pixels of the region that meet in a corner are not parted, but what is between them is.
            let turned = if inside(self.runs, left.0, left.1) {
                (going + 3) % 4
            } else if inside(self.runs, right.0, right.1) {
                going
            } else {
                (going + 1) % 4
            };
            if turned != going {
                ring.push([x as u32, y as u32]);
            }
            going = turned;
            if (at, going) == (start, direction) {
                return ring;
            }
        }
    }

    fn pass(&mut self, (x, y): (i64, i64), going: usize) {
        let (run, end) = match going {
            UP => (self.runs.at(x, y - 1), LEFT),
            DOWN => (self.runs.at(x - 1, y), RIGHT),
            _ => return,
        };
        self.passed[run.expect("the region is on the right hand")] |= end;
    }
}

#[cfg(test)]
#[path = "rings_tests.rs"]
mod tests;
