//! Smooth random fields: clouds, uneven light, textures. Owns the interpolation; refuses to know what a field is for.

use super::{Draw, draw::Rng};

/// Numbers from 0 to 1 over a plane, smooth at one or two scales.
pub(crate) struct Field {
    columns: usize,
    step: f32,
    knots: Vec<f32>,
}

impl Field {
    /// A field over `width` x `height` pixels whose hills are about `grain` pixels apart.
    pub(crate) fn new(rng: &mut Rng, width: usize, height: usize, grain: f32) -> Self {
        let step = grain.max(1.0);
        // One knot beyond the last pixel, and one more because the first cell may begin before 0.
        let knots_for = |extent: usize| (extent as f32 / step) as usize + 2;
        let (columns, rows) = (knots_for(width), knots_for(height));
        Self { columns, step, knots: (0..columns * rows).map(|_| rng.between(0.0, 1.0)).collect() }
    }

    /// The field at a pixel within the size it was made for.
    pub(crate) fn at(&self, x: usize, y: usize) -> f32 {
        let (x, y) = (x as f32 / self.step, y as f32 / self.step);
        let (column, row) = (x as usize, y as usize);
        let (right, down) = (smooth(x - column as f32), smooth(y - row as f32));
        let knot = row * self.columns + column;
        let [a, b] = [self.knots[knot], self.knots[knot + 1]];
        let [c, d] = [self.knots[knot + self.columns], self.knots[knot + self.columns + 1]];
        let top = a + (b - a) * right;
        top + (c + (d - c) * right - top) * down
    }
}

/// An S from 0 to 1 without corners at its ends, so that the knots' grid does not show.
fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::{super::generator, *};

    #[test]
    fn a_field_covers_its_plane_and_has_no_steps() {
        for grain in [0.5, 1.0, 7.0, 100.0] {
            let field = Field::new(&mut generator(3), 33, 20, grain);
            assert!((0.0..=1.0).contains(&field.at(32, 19)));
        }
        let field = Field::new(&mut generator(3), 64, 64, 16.0);
        for x in 1..64 {
            assert!((field.at(x, 5) - field.at(x - 1, 5)).abs() < 0.1);
        }
    }
}
