//! Outlines: circles and polygons by their distance, which is what smooth edges, borders and boxes are made of. Owns
//! the geometry; refuses to know pixels' colours.

/// A closed curve.
#[derive(Clone, Debug)]
pub(crate) enum Outline {
    /// Centre and radius.
    Circle([f32; 2], f32),
    /// Corners in order, at least three.
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    /// A polygon of corners given around the origin in units of `size`, turned and moved.
    pub(crate) fn placed(corners: &[[f32; 2]], centre: [f32; 2], size: f32, turn: f32) -> Self {
        let (sine, cosine) = turn.sin_cos();
        let place =
            |[x, y]: [f32; 2]| [centre[0] + size * (x * cosine - y * sine), centre[1] + size * (x * sine + y * cosine)];
        Self::Polygon(corners.iter().copied().map(place).collect())
    }

    /// Left, top, right and bottom.
    pub(crate) fn bounds(&self) -> [f32; 4] {
        match self {
            Self::Circle([x, y], radius) => [x - radius, y - radius, x + radius, y + radius],
            Self::Polygon(corners) => corners.iter().fold(
                [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
                |[left, top, right, bottom], [x, y]| [left.min(*x), top.min(*y), right.max(*x), bottom.max(*y)],
            ),
        }
    }

    /// How far a point is from the curve; negative inside.
    pub(crate) fn distance(&self, [x, y]: [f32; 2]) -> f32 {
        match self {
            Self::Circle([cx, cy], radius) => (x - cx).hypot(y - cy) - radius,
            Self::Polygon(corners) => polygon_distance(corners, x, y),
        }
    }

    /// Calls `paint` with every pixel of a `width` x `height` plane within `margin` of the inside: its number (row by
    /// row) and its distance.
    pub(crate) fn pixels(&self, (width, height): (usize, usize), margin: f32, mut paint: impl FnMut(usize, f32)) {
        let [left, top, right, bottom] = self.bounds();
        let range = |low: f32, high: f32, extent: usize| {
            (low - margin).max(0.0) as usize..((high + margin).ceil().max(0.0) as usize).min(extent)
        };
        for row in range(top, bottom, height) {
            for column in range(left, right, width) {
                // A pixel is where its centre is.
                let distance = self.distance([column as f32 + 0.5, row as f32 + 0.5]);
                if distance < margin {
                    paint(row * width + column, distance);
                }
            }
        }
    }
}

fn polygon_distance(corners: &[[f32; 2]], x: f32, y: f32) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut before = corners[corners.len() - 1];
    for &corner in corners {
        let [dx, dy] = [corner[0] - before[0], corner[1] - before[1]];
        let [px, py] = [x - before[0], y - before[1]];
        let along = ((px * dx + py * dy) / (dx * dx + dy * dy).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
        let [ox, oy] = [px - along * dx, py - along * dy];
        nearest = nearest.min(ox * ox + oy * oy);
        if (before[1] > y) != (corner[1] > y) && x < before[0] + (y - before[1]) * dx / dy {
            inside = !inside;
        }
        before = corner;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: [[f32; 2]; 4] = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]];

    #[test]
    fn distances_are_signed() {
        let square = Outline::placed(&SQUARE, [10.0, 10.0], 4.0, 0.0);
        assert_eq!(square.bounds(), [6.0, 6.0, 14.0, 14.0]);
        assert!((square.distance([10.0, 10.0]) + 4.0).abs() < 1e-5);
        assert!((square.distance([17.0, 18.0]) - 5.0).abs() < 1e-5);
        let circle = Outline::Circle([1.0, 2.0], 3.0);
        assert!((circle.distance([1.0, 2.0]) + 3.0).abs() < 1e-5);
        assert!((circle.distance([1.0, 7.0]) - 2.0).abs() < 1e-5);
    }

    #[test]
    fn a_turned_square_has_a_larger_box() {
        let [left, top, right, bottom] =
            Outline::placed(&SQUARE, [0.0, 0.0], 1.0, std::f32::consts::FRAC_PI_4).bounds();
        for (edge, expected) in [(left, -1.0), (top, -1.0), (right, 1.0), (bottom, 1.0)] {
            assert!((edge - expected * std::f32::consts::SQRT_2).abs() < 1e-5);
        }
    }

    #[test]
    fn painted_pixels_are_the_inside_even_across_the_edge() {
        let mut painted = Vec::new();
        Outline::placed(&SQUARE, [0.0, 1.0], 2.0, 0.0).pixels((4, 4), 0.0, |pixel, _| painted.push(pixel));
        assert_eq!(painted, [0, 1, 4, 5, 8, 9]);
        let mut count = 0;
        Outline::Circle([50.0, 50.0], 20.0).pixels((100, 100), 0.0, |_, _| count += 1);
        assert!((f64::from(count) - 400.0 * std::f64::consts::PI).abs() < 15.0, "{count}");
        Outline::Circle([-50.0, 50.0], 20.0).pixels((100, 100), 0.0, |_, _| panic!("is outside"));
    }
}
