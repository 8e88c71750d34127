//! Where the cells of a specimen lie, and what of that is true: which pixels are cell and which part two that touch.
//! Owns placing and truth; refuses to know how cells look.

use std::f32::consts::PI;

use fastrand::Rng;

use super::cell::{Cell, Form};
use crate::picture::{Draw, Field};

/// Cells of a specimen, at most: owners are kept in 16 bits.
const MOST: usize = 4000;
/// How much of a new cell may be hidden by those that are there.
const MOST_HIDDEN: f32 = 0.3;
/// A cell of which less than so many pixels are seen is none.
const LEAST_PIXELS: usize = 12;
/// From this radius on both of two that touch give a pixel for the gap, below only one does.
const WIDE_GAP_RADIUS: f32 = 7.0;

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ground {
    /// Background.
    Beside = 0,
    /// A cell.
    Cell = 1,
    /// Background between two cells that touch: what lets them be counted.
    Gap = 2,
}

/// How cells are strewn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strewing {
    pub(super) form: Form,
    /// Cells wanted for each that would fit side by side; 1 is dense.
    pub(super) density: f32,
    /// Whether neighbours lie the same way.
    pub(super) aligned: bool,
    /// Whether some regions have none.
    pub(super) patchy: bool,
}

/// Cells and whose each pixel is.
pub(super) struct Arrangement {
    pub(super) size: (usize, usize),
    pub(super) cells: Vec<Cell>,
    /// 0, or a cell's number from 1.
    pub(super) owner: Vec<u16>,
}

impl Arrangement {
    /// Strews cells over `width` x `height` pixels and a little beyond.
    pub(super) fn new(rng: &mut Rng, (width, height): (usize, usize), strewing: &Strewing) -> Self {
        let mean = (strewing.form.radius[0] * strewing.form.radius[1]).sqrt();
        let (wide, high) = (width as f32 + 2.0 * mean, height as f32 + 2.0 * mean);
        let wanted = strewing.density * wide * high / (PI * mean * mean) * 0.8;
        // Tries, not cells: those that find no room are left out.
        let tries = ((wanted + rng.f32()) as usize).min(MOST);
        let scale = width.max(height) as f32;
        let grain = rng.between(0.2, 0.8) * scale;
        let direction = Field::new(rng, width, height, grain);
        let grain = rng.between(0.2, 0.6) * scale;
        let patches = Field::new(rng, width, height, grain);
        let mut made = Self { size: (width, height), cells: Vec::new(), owner: vec![0; width * height] };
        for _ in 0..tries {
            let centre = [rng.between(-mean, width as f32 + mean), rng.between(-mean, height as f32 + mean)];
            let at = |field: &Field| {
                let within = |at: f32, extent: usize| (at.max(0.0) as usize).min(extent - 1);
                field.at(within(centre[0], width), within(centre[1], height))
            };
            if strewing.patchy && at(&patches) < 0.45 {
                continue;
            }
            let turn = if strewing.aligned { at(&direction) * 2.0 * PI + rng.normal() * 0.2 } else { rng.f32() * PI };
            let cell = Cell::new(rng, &strewing.form, centre, turn);
            made.add(cell);
        }
        made
    }

    /// Adds a cell if enough of it would be seen.
    fn add(&mut self, cell: Cell) {
        let (mut free, mut hidden) = (Vec::new(), 0);
        cell.pixels(self.size, 0.0, |pixel, _| {
            if self.owner[pixel] == 0 {
                free.push(pixel);
            } else {
                hidden += 1;
            }
        });
        if free.len() < LEAST_PIXELS || hidden as f32 > MOST_HIDDEN * (free.len() + hidden) as f32 {
            return;
        }
        self.cells.push(cell);
        let number = self.cells.len() as u16;
        for pixel in free {
            self.owner[pixel] = number;
        }
    }

    /// What each pixel is.
    pub(super) fn ground(&self) -> Vec<Ground> {
        let (width, height) = self.size;
        let of = |pixel: usize| {
            let own = self.owner[pixel];
            if own == 0 {
                return Ground::Beside;
            }
            let (x, y) = (pixel % width, pixel / width);
            let parts = |other: u16| other != 0 && other != own && (other < own || self.both_wide(own, other));
            let touches = (y.saturating_sub(1)..=(y + 1).min(height - 1))
                .flat_map(|y| (x.saturating_sub(1)..=(x + 1).min(width - 1)).map(move |x| y * width + x))
                .any(|neighbour| parts(self.owner[neighbour]));
            if touches { Ground::Gap } else { Ground::Cell }
        };
        (0..self.owner.len()).map(of).collect()
    }

    fn both_wide(&self, one: u16, other: u16) -> bool {
        let radius = |number: u16| self.cells[usize::from(number) - 1].radius;
        radius(one).min(radius(other)) >= WIDE_GAP_RADIUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::generator;

    fn dense(radius: f32, seed: u64) -> Arrangement {
        let form = Form { radius: [radius, radius * 1.3], longest: 1.5, dents: 0.1 };
        let strewing = Strewing { form, density: 1.5, aligned: false, patchy: false };
        Arrangement::new(&mut generator(seed), (96, 96), &strewing)
    }

    #[test]
    fn no_cell_touches_another_once_gaps_are_taken_out() {
        for (radius, seed) in [(5.0, 1), (9.0, 2), (14.0, 3)] {
            let made = dense(radius, seed);
            let ground = made.ground();
            assert!(made.cells.len() > 8 && ground.contains(&Ground::Gap), "{}", made.cells.len());
            for y in 0..95 {
                for x in 0..95 {
                    let four = [y * 96 + x, y * 96 + x + 1, (y + 1) * 96 + x, (y + 1) * 96 + x + 1];
                    let owners: std::collections::HashSet<_> = four
                        .into_iter()
                        .filter(|pixel| ground[*pixel] == Ground::Cell)
                        .map(|pixel| made.owner[pixel])
                        .collect();
                    assert!(owners.len() <= 1, "at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn gaps_are_narrow() {
        let made = dense(9.0, 4);
        let ground = made.ground();
        let count = |kind| ground.iter().filter(|ground| **ground == kind).count();
        assert!(count(Ground::Gap) * 4 < count(Ground::Cell));
        assert_eq!(count(Ground::Beside), made.owner.iter().filter(|owner| **owner == 0).count());
    }

    #[test]
    fn sparse_specimens_have_few_cells_and_never_too_many() {
        let form = Form { radius: [2.0, 2.1], longest: 1.0, dents: 0.0 };
        let strewing = Strewing { form, density: 50.0, aligned: true, patchy: true };
        assert!(Arrangement::new(&mut generator(5), (300, 300), &strewing).cells.len() <= MOST);
        let none = Strewing { density: 0.0, ..strewing };
        assert!(Arrangement::new(&mut generator(5), (50, 50), &none).cells.len() <= 1);
    }
}
