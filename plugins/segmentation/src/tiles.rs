//! Where tiles lie, and points of a tile back in the image.

use tenon_sdk::images::{Area, Mapping, Point};

use crate::{OVERLAP, SIDE};

/// How many tiles cover an image.
pub(crate) fn count(width: u32, height: u32) -> usize {
    starts(width).count() * starts(height).count()
}

/// The tiles of an image, row by row; the last of a row or column may jut out.
pub(crate) fn areas(width: u32, height: u32) -> impl Iterator<Item = Area> {
    let side = SIDE as f32;
    starts(height).flat_map(move |y| {
        starts(width).map(move |x| Area {
            start: Point { x: x as f32, y: y as f32 },
            end: Point { x: x as f32 + side, y: y as f32 + side },
        })
    })
}

fn starts(extent: u32) -> impl Iterator<Item = u32> {
    let last = extent.saturating_sub(OVERLAP).max(1);
    (0..last).step_by((SIDE - OVERLAP) as usize)
}

/// Pairs of x and y of a tile, in pixels of the image.
pub(crate) fn back(points: &[f32], mapping: &Mapping) -> Vec<[f32; 2]> {
    let (points, _) = points.as_chunks::<2>();
    let (scale, origin) = (mapping.scale, mapping.origin);
    points.iter().map(|[x, y]| [x * scale.x + origin.x, y * scale.y + origin.y]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_image_and_no_more() {
        for (extent, tiles) in [(1, 1), (512, 1), (513, 2), (960, 2), (961, 3)] {
            assert_eq!(starts(extent).count(), tiles, "{extent}");
            let last = starts(extent).last().unwrap();
            assert!(last + SIDE >= extent, "{extent}: the last tile begins at {last}");
        }
        assert_eq!(count(961, 512), areas(961, 512).count());
    }
}
