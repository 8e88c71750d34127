//! Resizing and cropping. Owns the two filters, which are those of the contract's `images`: `triangle-antialias`, which
//! widens when it shrinks, and `bilinear`, which does not. Refuses empty results.

use super::{Colour, Picture, canvas::PLANES};

/// The grey beside a letterboxed picture.
pub(crate) const LETTERBOX: Colour = [114.0 / 255.0; 3];

/// Where a picture lies in its letterbox: `letterboxed = original * scale + offset`, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placement {
    pub(crate) scale: f32,
    pub(crate) offset: [f32; 2],
}

impl Picture {
    /// The same picture of another size, by the widening triangle filter.
    pub(crate) fn resized(&self, width: usize, height: usize) -> Self {
        let columns = Taps::new([0.0, self.width as f32], self.width, width, true);
        let rows = Taps::new([0.0, self.height as f32], self.height, height, true);
        self.sampled(&columns, &rows)
    }

    /// A part of the picture (left, top, right, bottom; it may reach over the edge, whose pixels are then repeated),
    /// stretched to a size by bilinear interpolation.
    pub(crate) fn crop(&self, [left, top, right, bottom]: [f32; 4], width: usize, height: usize) -> Self {
        let columns = Taps::new([left, right], self.width, width, false);
        let rows = Taps::new([top, bottom], self.height, height, false);
        self.sampled(&columns, &rows)
    }

    /// The whole picture in a square, its sides in proportion, grey beside it.
    pub(crate) fn letterboxed(&self, side: usize) -> (Self, Placement) {
        let longest = self.width.max(self.height);
        let fit = |extent: usize| ((extent * side * 2 + longest) / (longest * 2)).max(1);
        let (width, height) = (fit(self.width), fit(self.height));
        let inner =
            if (width, height) == (self.width, self.height) { self.clone() } else { self.resized(width, height) };
        let mut boxed = Self::filled(side, side, LETTERBOX);
        let (left, top) = ((side - width) / 2, (side - height) / 2);
        for plane in 0..PLANES {
            for row in 0..height {
                let from = (plane * height + row) * width;
                let to = (plane * side + top + row) * side + left;
                boxed.values[to..to + width].copy_from_slice(&inner.values[from..from + width]);
            }
        }
        (boxed, Placement { scale: side as f32 / longest as f32, offset: [left as f32, top as f32] })
    }

    fn sampled(&self, columns: &Taps, rows: &Taps) -> Self {
        let (width, height) = (columns.0.len(), rows.0.len());
        let mut result = Self::filled(width, height, [0.0; 3]);
        let mut narrow = vec![0.0_f32; self.height * width];
        for plane in 0..PLANES {
            for row in 0..self.height {
                let from = &self.values[(plane * self.height + row) * self.width..][..self.width];
                for (column, taps) in columns.0.iter().enumerate() {
                    narrow[row * width + column] = taps.iter().map(|(index, weight)| from[*index] * weight).sum();
                }
            }
            for (row, taps) in rows.0.iter().enumerate() {
                let to = &mut result.values[(plane * height + row) * width..][..width];
                for (index, weight) in taps {
                    for (to, from) in to.iter_mut().zip(&narrow[index * width..]) {
                        *to += from * weight;
                    }
                }
            }
        }
        result
    }
}

/// For each pixel of a line: which pixels of the original it is made of, and how much of each.
struct Taps(Vec<Vec<(usize, f32)>>);

impl Taps {
    fn new([from, to]: [f32; 2], extent: usize, count: usize, widen: bool) -> Self {
        assert!(count > 0, "a picture has pixels");
        let step = (to - from) / count as f32;
        let reach = if widen { step.max(1.0) } else { 1.0 };
        let taps = |index: usize| {
            let centre = from + (index as f32 + 0.5) * step - 0.5;
            let (first, last) = ((centre - reach).ceil() as i64, (centre + reach).floor() as i64);
            let weigh = |at: i64| (at, 1.0 - (at as f32 - centre).abs() / reach);
            // The widening filter leaves out what is beyond the edge, as Pillow does; the other repeats the edge.
            let beyond = |at: i64| at < 0 || at >= extent as i64;
            let taps: Vec<_> =
                (first..=last).map(weigh).filter(|(at, weight)| *weight > 0.0 && !(widen && beyond(*at))).collect();
            let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
            taps.into_iter().map(|(at, weight)| (at.clamp(0, extent as i64 - 1) as usize, weight / sum)).collect()
        };
        Self((0..count).map(taps).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 x 2, brighter to the right.
    fn ramp() -> Picture {
        let mut picture = Picture::filled(4, 2, [0.0; 3]);
        for (index, value) in picture.values.iter_mut().enumerate() {
            *value = (index % 4) as f32;
        }
        picture
    }

    #[test]
    fn halves_are_weighted_means() {
        let half = ramp().resized(2, 1);
        // Weights 3, 3, 1 over 0, 1, 2 and 1, 3, 3 over 1, 2, 3.
        assert!((half.values[0] - 5.0 / 7.0).abs() < 1e-6, "{:?}", half.values);
        assert!((half.values[1] - 16.0 / 7.0).abs() < 1e-6, "{:?}", half.values);
    }

    #[test]
    fn crops_repeat_the_edge() {
        assert_eq!(ramp().crop([1.0, 0.0, 3.0, 2.0], 2, 2).values[..2], [1.0, 2.0]);
        assert_eq!(ramp().crop([-2.0, 0.0, 2.0, 2.0], 4, 2).values[..4], [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_letterbox_says_where_the_picture_is() {
        let (boxed, placement) = Picture::filled(640, 480, [1.0; 3]).letterboxed(320);
        assert_eq!(placement, Placement { scale: 0.5, offset: [0.0, 40.0] });
        assert_eq!((boxed.width, boxed.height), (320, 320));
        assert_eq!(boxed.at(39 * 320), LETTERBOX);
        assert!((boxed.at(40 * 320)[0] - 1.0).abs() < 1e-6);
        assert_eq!(boxed.at(280 * 320), LETTERBOX);
        let (_, upright) = Picture::filled(10, 1000, [1.0; 3]).letterboxed(320);
        assert_eq!(upright.offset, [158.0, 0.0]);
    }
}
