//! One cell's outline: an ellipse with dents. Owns its geometry; refuses to know colours.

use std::f32::consts::TAU;

use fastrand::Rng;

use crate::picture::Draw;

/// Directions for which the outline is kept; between them it is interpolated.
const DIRECTIONS: usize = 64;
/// Waves around the outline: two dents to five.
const WAVES: std::ops::RangeInclusive<usize> = 2..=5;

/// A closed outline around a centre.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) centre: [f32; 2],
    /// Mean of the two half axes, in pixels.
    pub(super) radius: f32,
    reach: f32,
    radii: Vec<f32>,
}

/// How cells of a specimen are formed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Radii, in pixels.
    pub(super) radius: [f32; 2],
    /// Longest to shortest half axis, at most.
    pub(super) longest: f32,
    /// Depth of dents, as a part of the radius.
    pub(super) dents: f32,
}

impl Cell {
    /// A cell of that form; `turn` is its long axis.
    pub(super) fn new(rng: &mut Rng, form: &Form, centre: [f32; 2], turn: f32) -> Self {
        let radius = rng.scaled(form.radius[0], form.radius[1]);
        let stretch = rng.between(1.0, form.longest).sqrt();
        let (long, short) = (radius * stretch, radius / stretch);
        let waves: Vec<_> = WAVES
            .map(|count| (count as f32, rng.between(0.0, form.dents) / count as f32 * 2.0, rng.between(0.0, TAU)))
            .collect();
        let at = |index: usize| {
            let angle = index as f32 * TAU / DIRECTIONS as f32;
            let (sine, cosine) = (angle - turn).sin_cos();
            let ellipse = long * short / (short * cosine).hypot(long * sine);
            let dents: f32 = waves.iter().map(|(count, depth, phase)| depth * (angle * count + phase).sin()).sum();
            ellipse * (1.0 + dents).max(0.4)
        };
        let radii: Vec<f32> = (0..DIRECTIONS).map(at).collect();
        let reach = radii.iter().copied().fold(0.0, f32::max);
        Self { centre, radius, reach, radii }
    }

    /// The same outline, smaller and moved: a nucleus.
    pub(super) fn within(&self, rng: &mut Rng, part: f32) -> Self {
        let room = self.radius * (1.0 - part) * 0.4;
        let centre = self.centre.map(|at| at + rng.between(-room, room));
        let radii: Vec<f32> = self.radii.iter().map(|radius| radius * part).collect();
        Self { centre, radius: self.radius * part, reach: self.reach * part, radii }
    }

    /// How far a point is from the outline, roughly, in pixels; negative inside.
    pub(super) fn distance(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let at = (dy.atan2(dx) / TAU).rem_euclid(1.0) * DIRECTIONS as f32;
        let index = at as usize % DIRECTIONS;
        let (one, other) = (self.radii[index], self.radii[(index + 1) % DIRECTIONS]);
        dx.hypot(dy) - (one + (other - one) * at.fract())
    }

    /// Calls `visit` with every pixel of a plane within `margin` of the inside: its number and its distance.
    pub(super) fn pixels(&self, (width, height): (usize, usize), margin: f32, mut visit: impl FnMut(usize, f32)) {
        let range = |centre: f32, extent: usize| {
            let reach = self.reach + margin;
            (centre - reach).max(0.0) as usize..((centre + reach).ceil().max(0.0) as usize).min(extent)
        };
        for row in range(self.centre[1], height) {
            for column in range(self.centre[0], width) {
                let distance = self.distance(column as f32 + 0.5, row as f32 + 0.5);
                if distance < margin {
                    visit(row * width + column, distance);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::generator;

    const ROUND: Form = Form { radius: [20.0, 20.001], longest: 1.0, dents: 0.0 };

    #[test]
    fn a_round_cell_is_a_disc() {
        let cell = Cell::new(&mut generator(1), &ROUND, [50.0, 50.0], 0.3);
        let mut count = 0;
        cell.pixels((100, 100), 0.0, |_, _| count += 1);
        assert!((f64::from(count) - 400.0 * std::f64::consts::PI).abs() < 20.0, "{count}");
        assert!((cell.distance(50.0, 80.0) - 10.0).abs() < 0.01);
    }

    #[test]
    fn a_long_cell_lies_along_its_axis_and_a_nucleus_within() {
        let mut rng = generator(2);
        let form = Form { longest: 4.0, ..ROUND };
        let cell =
            (0..20).map(|_| Cell::new(&mut rng, &form, [0.0, 0.0], 0.0)).max_by(|a, b| a.reach.total_cmp(&b.reach));
        let cell = cell.unwrap();
        assert!(cell.distance(30.0, 0.0) < 0.0 && cell.distance(0.0, 15.0) > 0.0, "{}", cell.reach);
        let nucleus = cell.within(&mut rng, 0.4);
        nucleus.pixels((100, 100), 0.0, |pixel, _| {
            assert!(cell.distance((pixel % 100) as f32, (pixel / 100) as f32) < 0.5);
        });
    }
}
