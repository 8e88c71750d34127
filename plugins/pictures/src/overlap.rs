//! Suppression of boxes that show the same object: class-aware, greedy, the surest first.
//!
//! A pure function of boxes. Bounded: at most `kept` x `found` comparisons, and it ends when enough are kept.

use crate::boxes::Found;

/// Intersection over union of two boxes, 0 to 1; 0 where one of them is no box. In `f64`, as references compute it: a
/// box at the very threshold goes the same way.
pub fn iou(left: &[f32; 4], right: &[f32; 4]) -> f64 {
    let [a, b] = [left, right].map(|corners| corners.map(f64::from));
    let across = a[2].min(b[2]) - a[0].max(b[0]);
    let down = a[3].min(b[3]) - a[1].max(b[1]);
    if !(across > 0.0 && down > 0.0) {
        return 0.0;
    }
    let area = |[x1, y1, x2, y2]: [f64; 4]| (x2 - x1) * (y2 - y1);
    let both = across * down;
    let ratio = both / (area(a) + area(b) - both);
    if ratio.is_finite() { ratio } else { 0.0 }
}

/// Of `found`, sorted by falling confidence, at most `most` boxes of which no two of one class overlap by more than
/// `threshold`.
pub fn suppress(found: Vec<Found>, threshold: f32, most: usize) -> Vec<Found> {
    let mut kept: Vec<Found> = Vec::new();
    for candidate in found {
        if kept.len() >= most {
            break;
        }
        let same = |other: &&Found| other.class == candidate.class;
        let free =
            kept.iter().filter(same).all(|other| iou(&other.corners, &candidate.corners) <= f64::from(threshold));
        if free {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the definition says it: a box goes when a surer one of its class that stays overlaps it.
    fn naive(found: &[Found], threshold: f32) -> Vec<Found> {
        let mut stays = vec![true; found.len()];
        for index in 0..found.len() {
            for surer in 0..index {
                let (a, b) = (&found[surer], &found[index]);
                if stays[surer] && a.class == b.class && iou(&a.corners, &b.corners) > f64::from(threshold) {
                    stays[index] = false;
                }
            }
        }
        found.iter().zip(stays).filter(|(_, stays)| *stays).map(|(found, _)| found.clone()).collect()
    }

    fn boxes() -> impl Strategy<Value = Vec<Found>> {
        // Few places, so that ties, equal boxes and boxes without an area are common; odd ones among them.
        let odd = prop_oneof![
            20 => (0_u8..12).prop_map(f32::from),
            1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(f32::MAX), 1 => Just(f32::NEG_INFINITY)
        ];
        let corners = [odd.clone(), odd.clone(), odd.clone(), odd];
        let one = (0_usize..3, 0_u8..5, corners);
        proptest::collection::vec(one, 0..60).prop_map(|found| {
            let found = found.into_iter().map(|(class, confidence, corners)| Found {
                class,
                confidence: f32::from(confidence) / 4.0,
                corners,
            });
            let mut found: Vec<Found> = found.collect();
            found.sort_by(|left, right| right.confidence.total_cmp(&left.confidence));
            found
        })
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(found in boxes(), threshold in 0.0_f32..=1.0, most in 0_usize..40) {
            let mut wanted = naive(&found, threshold);
            wanted.truncate(most);
            // Debug, because NaN is not equal to itself.
            prop_assert_eq!(format!("{:?}", suppress(found, threshold, most)), format!("{wanted:?}"));
        }
    }

    #[test]
    fn overlaps_are_shares_of_both() {
        assert_eq!(iou(&[0.0, 0.0, 2.0, 2.0], &[1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou(&[0.0, 0.0, 2.0, 2.0], &[2.0, 0.0, 3.0, 2.0]), 0.0);
        assert_eq!(iou(&[1.0; 4], &[1.0; 4]), 0.0);
        assert_eq!(iou(&[f32::NAN; 4], &[0.0, 0.0, 1.0, 1.0]), 0.0);
    }
}
