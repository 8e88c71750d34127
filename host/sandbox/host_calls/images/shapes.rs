//! How much of each pixel a shape covers, and colour laid over by that much. Rectangles are computed, polygons are
//! `tiny-skia`'s; only pixels that a shape may touch are looked at, a tile at a time, whatever size it says it has.

use tiny_skia::{FillRule, Mask, Path, PathBuilder, Rect, Stroke, Transform};

use super::picture::Picture;
use crate::sandbox::bindings::images::Point;

/// The side of a tile: its mask takes 64 KiB, and a tile a fraction of a millisecond.
const TILE: u32 = 256;
/// Coordinates beyond this are brought back to it, from where no shape is seen any more in images that are taken.
const FARTHEST: f32 = 1e6;

/// What is laid over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    pub(super) colour: [u8; 3],
    /// 0 to 1.
    pub(super) opacity: f32,
}

impl Ink {
    /// Lays it over a pixel, covered from 0 to 255.
    pub(super) fn lay(self, pixel: &mut [u8], covered: u8) {
        let part = (f32::from(covered) * self.opacity).round() as i32;
        for (channel, colour) in pixel.iter_mut().zip(self.colour) {
            let (old, new) = (i32::from(*channel), i32::from(colour));
            *channel = (old + ((new - old) * part + if new > old { 127 } else { -127 }) / 255) as u8;
        }
    }
}

/// Whole pixels, ends exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) right: u32,
    pub(super) bottom: u32,
}

impl Tile {
    /// The pixels of a picture that an area touches, if it does.
    pub(super) fn touched(picture: &Picture, [left, top, right, bottom]: [f32; 4]) -> Option<Self> {
        // Numbers that are too large, or none, become the nearest that there is.
        let (left, right) = (left.floor().max(0.0) as u32, (right.ceil().max(0.0) as u32).min(picture.width));
        let (top, bottom) = (top.floor().max(0.0) as u32, (bottom.ceil().max(0.0) as u32).min(picture.height));
        (left < right && top < bottom).then_some(Self { left, top, right, bottom })
    }

    pub(super) fn pixels(self) -> u64 {
        u64::from(self.right - self.left) * u64::from(self.bottom - self.top)
    }
}

/// Lays ink on what is inside of `outer` and not inside of `inner`; both are left, top, right, bottom.
pub(super) fn frame(picture: &mut Picture, outer: [f32; 4], inner: Option<[f32; 4]>, ink: Ink) {
    let Some(tile) = Tile::touched(picture, outer) else { return };
    // Columns that the inner rectangle takes away wholly need no look.
    let hollow = inner.map_or(tile.left..tile.left, |[left, _, right, _]| {
        let (left, right) = (left.ceil().max(0.0) as u32, right.floor().max(0.0) as u32);
        left.clamp(tile.left, tile.right)..right.clamp(tile.left, tile.right).max(left.clamp(tile.left, tile.right))
    });
    for row in tile.top..tile.bottom {
        let down = overlap(row, outer[1], outer[3]);
        let away = inner.map_or(0.0, |[_, top, _, bottom]| overlap(row, top, bottom));
        let parts =
            if away >= 1.0 { [tile.left..hollow.start, hollow.end..tile.right] } else { [tile.left..tile.right, 0..0] };
        for columns in parts.into_iter().filter(|columns| !columns.is_empty()) {
            let channels = picture.channels;
            let line = picture.part_mut(row, columns.clone());
            for (column, pixel) in columns.zip(line.chunks_exact_mut(channels)) {
                let inside = inner.map_or(0.0, |[left, _, right, _]| overlap(column, left, right) * away);
                let covered = overlap(column, outer[0], outer[2]) * down - inside;
                ink.lay(pixel, (covered * 255.0).round() as u8);
            }
        }
    }
}

/// How much of a pixel lies between two places of its axis.
fn overlap(pixel: u32, from: f32, to: f32) -> f32 {
    let pixel = pixel as f32;
    (to.min(pixel + 1.0) - from.max(pixel)).clamp(0.0, 1.0)
}

/// A shape of any form.
pub(super) struct Shape(Path);

impl Shape {
    /// What lies in an odd number of rings. None where there is nothing to see.
    pub(super) fn inside(rings: &[Vec<Point>]) -> Option<Self> {
        let mut path = PathBuilder::new();
        for ring in rings {
            let numbers = ring.iter().all(|point| !point.x.is_nan() && !point.y.is_nan());
            let [first, rest @ ..] = &ring[..] else { continue };
            if rest.len() < 2 || !numbers {
                continue;
            }
            let near = |place: f32| place.clamp(-FARTHEST, FARTHEST);
            path.move_to(near(first.x), near(first.y));
            for point in rest {
                path.line_to(near(point.x), near(point.y));
            }
            path.close();
        }
        path.finish().map(Self)
    }

    /// A line along its edges, half of it on either side.
    pub(super) fn outline(&self, width: f32) -> Option<Self> {
        let stroke = Stroke { width, ..Stroke::default() };
        self.0.stroke(&stroke, 1.0).map(Self)
    }

    /// Left, top, right, bottom of it.
    pub(super) fn bounds(&self) -> [f32; 4] {
        let bounds: Rect = self.0.bounds();
        [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()]
    }

    /// Lays ink on what it covers of a tile. `rule` tells how parts that lie over one another count.
    pub(super) fn paint(&self, picture: &mut Picture, tile: Tile, rule: FillRule, ink: Ink) {
        let (width, height) = (tile.right - tile.left, tile.bottom - tile.top);
        let Some(mut mask) = Mask::new(width, height) else { return };
        let place = Transform::from_translate(-(tile.left as f32), -(tile.top as f32));
        mask.fill_path(&self.0, rule, true, place);
        let channels = picture.channels;
        for (row, covered) in mask.data().chunks_exact(width as usize).enumerate() {
            let line = picture.part_mut(tile.top + row as u32, tile.left..tile.right);
            for (pixel, covered) in line.chunks_exact_mut(channels).zip(covered) {
                if *covered > 0 {
                    ink.lay(pixel, *covered);
                }
            }
        }
    }
}

/// The tiles of what is touched, row by row.
pub(super) fn tiles(touched: Tile) -> impl Iterator<Item = Tile> {
    let steps =
        |from: u32, to: u32| (from..to).step_by(TILE as usize).map(move |start| (start, (start + TILE).min(to)));
    steps(touched.top, touched.bottom).flat_map(move |(top, bottom)| {
        steps(touched.left, touched.right).map(move |(left, right)| Tile { left, top, right, bottom })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INK: Ink = Ink { colour: [255; 3], opacity: 1.0 };

    fn blank() -> Picture {
        Picture { width: 12, height: 10, channels: 1, pixels: vec![0; 120] }
    }

    /// All that was laid over, in pixels.
    fn sum(picture: &Picture) -> f32 {
        picture.pixels.iter().map(|pixel| f32::from(*pixel)).sum::<f32>() / 255.0
    }

    #[test]
    fn a_frame_covers_its_area_and_not_its_inside() {
        for (outer, inner, area) in [
            ([2.0, 2.0, 9.0, 8.0], None, 42.0),
            ([2.0, 2.0, 9.0, 8.0], Some([4.0, 3.0, 7.0, 7.0]), 30.0),
            ([1.5, 2.25, 9.5, 8.0], Some([2.5, 3.25, 8.5, 7.0]), 46.0 - 22.5),
            ([-5.0, -5.0, 2.0, 2.0], None, 4.0),
            ([20.0, 20.0, 30.0, 30.0], None, 0.0),
            ([-1e9, -1e9, 1e9, 1e9], Some([-1e8, -1e8, 1e8, 1e8]), 0.0),
            ([f32::NAN, 0.0, 3.0, 3.0], None, 9.0),
        ] {
            let mut picture = blank();
            frame(&mut picture, outer, inner, INK);
            assert!((sum(&picture) - area).abs() < 0.15, "{outer:?} {inner:?}: {}", sum(&picture));
        }
    }

    #[test]
    fn holes_stay_empty_and_far_points_do_no_harm() {
        let square =
            |from: f32, to: f32| [(from, from), (to, from), (to, to), (from, to)].map(|(x, y)| Point { x, y }).to_vec();
        let drawn = |rings: &[Vec<Point>]| {
            let mut picture = blank();
            if let Some(shape) = Shape::inside(rings) {
                let touched = Tile::touched(&picture, shape.bounds());
                let all = touched.into_iter().flat_map(tiles).collect::<Vec<_>>();
                all.into_iter().for_each(|tile| shape.paint(&mut picture, tile, FillRule::EvenOdd, INK));
            }
            sum(&picture)
        };
        assert!((drawn(&[square(1.0, 9.0), square(3.0, 6.0)]) - 55.0).abs() < 0.2);
        assert!((drawn(&[square(-1e30, 1e30)]) - 120.0).abs() < 0.2);
        assert_eq!(drawn(&[square(f32::NAN, 3.0), square(2.0, 2.0)[..2].to_vec(), Vec::new()]), 0.0);
    }

    #[test]
    fn ink_is_laid_as_thick_as_it_is_told() {
        let laid = |old: u8, covered: u8, opacity: f32| {
            let mut pixel = [old];
            Ink { colour: [200; 3], opacity }.lay(&mut pixel, covered);
            pixel[0]
        };
        assert_eq!((laid(0, 255, 1.0), laid(0, 0, 1.0), laid(0, 255, 0.0)), (200, 0, 0));
        assert_eq!((laid(100, 128, 1.0), laid(255, 255, 0.5)), (150, 227));
    }
}
