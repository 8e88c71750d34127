//! Outlines, filled again.

use proptest::prelude::*;

use super::*;
use crate::runs::tests::masks;

/// What lies within an odd number of rings, asked at the middles of pixels.
fn filled(rings: &[Ring], width: usize, height: usize) -> Vec<u8> {
    let mut mask = vec![0_u8; width * height];
    for y in 0..height {
        let mut crossings: Vec<f64> = Vec::new();
        let middle = y as f64 + 0.5;
        for ring in rings {
            for (index, from) in ring.iter().enumerate() {
                let to = ring[(index + 1) % ring.len()];
                let [x1, y1, x2, y2] = [from[0], from[1], to[0], to[1]].map(f64::from);
                if (y1 > middle) != (y2 > middle) {
                    crossings.push(x1 + (middle - y1) / (y2 - y1) * (x2 - x1));
                }
            }
        }
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            let inside = |x: &usize| pair[0] <= *x as f64 + 0.5 && (*x as f64 + 0.5) < pair[1];
            (0..width).filter(inside).for_each(|x| mask[y * width + x] = 1);
        }
    }
    mask
}

/// Twice the area, positive for rings that go clockwise on the screen.
fn signed(ring: &Ring) -> i64 {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| i64::from(a[0]) * i64::from(b[1]) - i64::from(b[0]) * i64::from(a[1])).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn outlines_give_back_their_mask((width, mask) in masks()) {
        let runs = Runs::find(&mask, width as u32, 1, usize::MAX).unwrap();
        let mut outlines = Outlines::new(&runs);
        for (number, region) in runs.regions().iter().enumerate() {
            let rings = outlines.rings(number, 0.0);
            prop_assert!(signed(&rings[0]) > 0, "the outer ring comes first");
            prop_assert!(rings[1..].iter().all(|hole| signed(hole) < 0));
            let twice: i64 = rings.iter().map(signed).sum();
            prop_assert_eq!(twice, 2 * region.area as i64);
            for ring in &rings {
                let mut corners = ring.clone();
                corners.sort_unstable();
                corners.dedup();
                prop_assert_eq!(corners.len(), ring.len(), "no ring touches itself");
            }
            let own = runs.mask(width as u32, |label| label == number);
            let own: Vec<u8> = own.iter().map(|pixel| pixel / 255).collect();
            prop_assert_eq!(filled(&rings, width, mask.len() / width), own);
        }
    }
}

#[test]
fn a_ring_with_a_hole() {
    let mask = [0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1];
    let runs = Runs::find(&mask, 4, 1, 100).unwrap();
    let rings = Outlines::new(&runs).rings(0, 0.0);
    assert_eq!(rings, [vec![[1, 0], [4, 0], [4, 3], [1, 3]], vec![[2, 2], [3, 2], [3, 1], [2, 1]]]);
}

/// Disks with disks cut out of them.
fn blobs(side: usize) -> Vec<u8> {
    let disks = [
        (60.0, 60.0, 40.0, 1),
        (70.0, 55.0, 14.0, 0),
        (150.0, 90.0, 33.0, 1),
        (150.0, 160.0, 60.0, 1),
        (140.0, 170.0, 25.0, 0),
    ];
    let mut mask = vec![0; side * side];
    for (x, y, radius, value) in disks {
        for (pixel, inside) in mask.iter_mut().enumerate() {
            let (across, down) = ((pixel % side) as f64 - x, (pixel / side) as f64 - y);
            if across.hypot(down) < radius {
                *inside = value;
            }
        }
    }
    mask
}

#[test]
fn fewer_corners_cost_little() {
    let side = 256;
    let mask = blobs(side);
    let runs = Runs::find(&mask, side as u32, 1, 10_000).unwrap();
    let corners = |tolerance: f32| {
        let mut outlines = Outlines::new(&runs);
        let rings: Vec<Ring> = (0..runs.regions().len()).flat_map(|region| outlines.rings(region, tolerance)).collect();
        let back = filled(&rings, side, side);
        let both = back.iter().zip(&mask).filter(|(a, b)| **a & **b == 1).count();
        let any = back.iter().zip(&mask).filter(|(a, b)| **a | **b == 1).count();
        (rings.iter().map(Vec::len).sum::<usize>(), both as f64 / any as f64)
    };
    let (all, exact) = corners(0.0);
    let (fewer, near) = corners(0.75);
    assert_eq!(exact, 1.0);
    assert!(fewer * 5 < all * 2 && near >= 0.99, "{fewer} of {all} corners, {near}");
    let (least, _) = corners(1e9);
    assert!(least >= 3 * 5, "a ring never becomes nothing: {least}");
}
