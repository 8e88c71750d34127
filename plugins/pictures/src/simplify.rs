//! Fewer corners: Douglas and Peucker's way, for closed lines.

use crate::rings::Ring;

/// Fewer cannot enclose anything.
const LEAST_CORNERS: usize = 3;

/// The ring without corners that are no further than `tolerance` from the line without them; the ring itself where
/// nothing would be left of it.
pub(crate) fn simplified(ring: Ring, tolerance: f32) -> Ring {
    if ring.len() <= LEAST_CORNERS {
        return ring;
    }
    let far = |from: [u32; 2], to: [u32; 2]| distance_from(to, from, from);
    let opposite = farthest(&ring, (0, ring.len()), |corner| far(ring[0], corner)).0;
    let mut kept = vec![false; ring.len() + 1];
    kept[0] = true;
    kept[opposite] = true;
    // Stretches whose ends are kept; the ring's end is its beginning.
    let mut stretches = vec![(0, opposite), (opposite, ring.len())];
    while let Some((from, until)) = stretches.pop() {
        let (start, end) = (ring[from], ring[until % ring.len()]);
        let (corner, distance) = farthest(&ring, (from, until), |corner| distance_from(corner, start, end));
        if distance > f64::from(tolerance) {
            kept[corner] = true;
            stretches.extend([(from, corner), (corner, until)]);
        }
    }
    let fewer: Ring = ring.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(corner, _)| *corner).collect();
    if fewer.len() < LEAST_CORNERS { ring } else { fewer }
}

/// The corner between two others that is farthest by this measure.
fn farthest(ring: &Ring, (from, until): (usize, usize), measure: impl Fn([u32; 2]) -> f64) -> (usize, f64) {
    let between = (from + 1..until).map(|index| (index, measure(ring[index])));
    between.fold((from, -1.0), |best, next| if next.1 > best.1 { next } else { best })
}

/// From the stretch between two points, or from the point that they are.
fn distance_from(corner: [u32; 2], start: [u32; 2], end: [u32; 2]) -> f64 {
    let to = |point: [u32; 2]| (f64::from(point[0]), f64::from(point[1]));
    let ((x, y), (x1, y1), (x2, y2)) = (to(corner), to(start), to(end));
    let (across, down) = (x2 - x1, y2 - y1);
    let length = across * across + down * down;
    let along = if length == 0.0 { 0.0 } else { (((x - x1) * across + (y - y1) * down) / length).clamp(0.0, 1.0) };
    (x - x1 - along * across).hypot(y - y1 - along * down)
}
