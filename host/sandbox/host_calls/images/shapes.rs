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
