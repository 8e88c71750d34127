//! How good a detector is: suppression of double boxes and mean average precision at an overlap of a half. Owns the
//! figure; the same rules as in the plugin, written apart from it, so that one may check the other.

use tch::Tensor;

use crate::scenes::{CLASSES, Object};

/// Boxes of a class that overlap more are one.
const SAME: f32 = 0.5;
/// A box that overlaps a shape at least so much has found it.
const FOUND: f32 = 0.5;
/// Boxes below this are not looked at, nor more than so many of a picture.
const LEAST: f32 = 0.02;
const MOST: usize = 300;

/// A box that a detector says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Detection {
    pub(super) class: usize,
    pub(super) score: f32,
    /// Left, top, right, bottom.
    pub(super) bounds: [f32; 4],
}

/// What one row of `output0` says, best first, each shape once.
pub(super) fn detections(output: &Tensor) -> anyhow::Result<Vec<Detection>> {
    let (_, cells) = output.size2()?;
    let values = Vec::<f32>::try_from(&output.contiguous().flatten(0, -1))?;
    let at = |channel: usize, cell: usize| values[channel * cells as usize + cell];
    let mut all = Vec::new();
    for cell in 0..cells as usize {
        let [x, y, width, height] = [0, 1, 2, 3].map(|channel| at(channel, cell));
        let bounds = [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0];
        for class in 0..CLASSES.len() {
            let score = at(4 + class, cell);
            if score >= LEAST {
                all.push(Detection { class, score, bounds });
            }
        }
    }
    all.sort_by(|one, other| other.score.total_cmp(&one.score));
    let mut kept: Vec<Detection> = Vec::new();
    for detection in all {
        let double =
            |other: &Detection| other.class == detection.class && overlap(other.bounds, detection.bounds) > SAME;
        if kept.len() < MOST && !kept.iter().any(double) {
            kept.push(detection);
        }
    }
    Ok(kept)
}

/// Mean average precision over the classes that occur; for each picture what was said and what is there.
pub(super) fn mean_average_precision(pictures: &[(Vec<Detection>, Vec<Object>)]) -> f64 {
    let precisions: Vec<_> = (0..CLASSES.len()).filter_map(|class| average_precision(pictures, class)).collect();
    precisions.iter().sum::<f64>() / precisions.len().max(1) as f64
}

/// The area below precision over recall; nothing if the class does not occur.
fn average_precision(pictures: &[(Vec<Detection>, Vec<Object>)], class: usize) -> Option<f64> {
    let mut hits: Vec<(f32, bool)> = Vec::new();
    let mut there = 0;
    for (said, objects) in pictures {
        let objects: Vec<_> = objects.iter().filter(|object| object.class as usize == class).collect();
        there += objects.len();
        let mut taken = vec![false; objects.len()];
        // Best first, as `detections` leaves them; each shape is found once.
        for detection in said.iter().filter(|detection| detection.class == class) {
            let best = (0..objects.len())
                .filter(|index| !taken[*index])
                .map(|index| (index, overlap(objects[index].bounds, detection.bounds)))
                .max_by(|one, other| one.1.total_cmp(&other.1))
                .filter(|(_, overlap)| *overlap >= FOUND);
            if let Some((index, _)) = best {
                taken[index] = true;
            }
            hits.push((detection.score, best.is_some()));
        }
    }
    hits.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut found = 0;
    let curve: Vec<(f64, f64)> = hits
        .iter()
        .enumerate()
        .map(|(index, (_, hit))| {
            found += usize::from(*hit);
            (found as f64 / there.max(1) as f64, found as f64 / (index + 1) as f64)
        })
        .collect();
    let mut area = 0.0;
    let mut precision = 0.0_f64;
    // From the right: precision at a recall is the best at that recall or beyond.
    for (index, (recall, at)) in curve.iter().enumerate().rev() {
        precision = precision.max(*at);
        let before = if index == 0 { 0.0 } else { curve[index - 1].0 };
        area += (recall - before) * precision;
    }
    (there > 0).then_some(area)
}

/// Intersection over union.
fn overlap(one: [f32; 4], other: [f32; 4]) -> f32 {
    let area = |[left, top, right, bottom]: [f32; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let common = area([one[0].max(other[0]), one[1].max(other[1]), one[2].min(other[2]), one[3].min(other[3])]);
    common / (area(one) + area(other) - common).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::Class;

    fn said(class: usize, score: f32, left: f32) -> Detection {
        Detection { class, score, bounds: [left, 0.0, left + 10.0, 10.0] }
    }

    fn there(class: Class, left: f32) -> Object {
        Object { class, bounds: [left, 0.0, left + 10.0, 10.0] }
    }

    #[test]
    fn doubles_go_and_other_classes_stay() {
        let mut values = vec![0.0_f32; 9 * 3];
        for (cell, (x, score, class)) in [(50.0, 0.6, 0), (51.0, 0.9, 0), (50.0, 0.5, 3)].into_iter().enumerate() {
            values[cell] = x;
            values[3 + cell] = 20.0;
            values[6 + cell] = 10.0;
            values[9 + cell] = 10.0;
            values[(4 + class) * 3 + cell] = score;
        }
        let kept = detections(&Tensor::from_slice(&values).view([9, 3])).unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0], Detection { class: 0, score: 0.9, bounds: [46.0, 15.0, 56.0, 25.0] });
        assert_eq!(kept[1].class, 3);
    }

    #[test]
    fn precision_counts_misses_and_false_alarms() {
        let right = vec![(
            vec![said(0, 0.9, 0.0), said(1, 0.8, 40.0)],
            vec![there(Class::Circle, 1.0), there(Class::Square, 40.0)],
        )];
        assert_eq!(mean_average_precision(&right), 1.0);
        let missed = vec![(vec![said(0, 0.9, 0.0)], vec![there(Class::Circle, 1.0), there(Class::Circle, 40.0)])];
        assert_eq!(mean_average_precision(&missed), 0.5);
        let alarm = vec![(vec![said(0, 0.9, 80.0), said(0, 0.5, 0.0)], vec![there(Class::Circle, 1.0)])];
        assert_eq!(mean_average_precision(&alarm), 0.5);
        let double = vec![(vec![said(0, 0.9, 0.0), said(0, 0.8, 1.0)], vec![there(Class::Circle, 0.0)])];
        assert_eq!(mean_average_precision(&double), 1.0);
        let wrong_class = vec![(vec![said(1, 0.9, 0.0)], vec![there(Class::Circle, 0.0)])];
        assert_eq!(mean_average_precision(&wrong_class), 0.0);
    }
}
