//! Regions, against a flood fill.

use proptest::prelude::*;

use super::*;

/// The regions of a mask by flood fill: for each pixel the number of its region, by the first pixel's order.
pub(crate) fn flooded(mask: &[u8], width: usize) -> Vec<Option<usize>> {
    let mut labels = vec![None; mask.len()];
    let mut regions = 0;
    for start in 0..mask.len() {
        if mask[start] == 0 || labels[start].is_some() {
            continue;
        }
        let mut ahead = vec![start];
        while let Some(pixel) = ahead.pop() {
            if mask[pixel] == 0 || labels[pixel].is_some() {
                continue;
            }
            labels[pixel] = Some(regions);
            let (x, y) = (pixel % width, pixel / width);
            ahead.extend((x > 0).then(|| pixel - 1));
            ahead.extend((x + 1 < width).then(|| pixel + 1));
            ahead.extend((y > 0).then(|| pixel - width));
            ahead.extend((pixel + width < mask.len()).then(|| pixel + width));
        }
        regions += 1;
    }
    labels
}

/// Masks of a few rows with many neighbours.
pub(crate) fn masks() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (1_usize..24, 1_usize..24, 1_u8..9).prop_flat_map(|(width, height, dense)| {
        let pixel = (0_u8..10).prop_map(move |chance| u8::from(chance < dense));
        (Just(width), proptest::collection::vec(pixel, width * height))
    })
}

proptest! {
    #[test]
    fn regions_are_those_of_a_flood((width, mask) in masks()) {
        let runs = Runs::find(&mask, width as u32, 1, usize::MAX).unwrap();
        let wanted = flooded(&mask, width);
        for (pixel, wanted) in wanted.iter().enumerate() {
            let found = runs.at((pixel % width) as i64, (pixel / width) as i64);
            let found = found.map(|run| runs.runs[run].label as usize);
            prop_assert_eq!(found, *wanted, "pixel {}", pixel);
        }
        for (number, region) in runs.regions().iter().enumerate() {
            let pixels: Vec<usize> = (0..mask.len()).filter(|pixel| wanted[*pixel] == Some(number)).collect();
            let xs = pixels.iter().map(|pixel| (pixel % width) as f64);
            prop_assert_eq!(region.area, pixels.len() as u64);
            prop_assert!((region.centroid.0 - (xs.sum::<f64>() / pixels.len() as f64 + 0.5)).abs() < 1e-9);
            prop_assert_eq!(region.corners[0] as usize, pixels.iter().map(|pixel| pixel % width).min().unwrap());
            prop_assert_eq!(region.corners[3] as usize, pixels.iter().map(|pixel| pixel / width).max().unwrap() + 1);
            prop_assert!((region.score - 1.0 / 255.0).abs() < 1e-9);
        }
        let all: Vec<u8> = mask.iter().map(|pixel| pixel * 255).collect();
        prop_assert_eq!(runs.mask(width as u32, |_| true), all);
    }
}

#[test]
fn noise_is_refused() {
    let mask: Vec<u8> = (0..100).map(|pixel| pixel % 2).collect();
    assert_eq!(Runs::find(&mask, 100, 1, 49).unwrap_err(), TooManyRuns(49));
    assert_eq!(Runs::find(&mask, 100, 1, 50).unwrap().regions().len(), 50);
}

#[test]
fn pixels_count_from_the_threshold_on() {
    let runs = Runs::find(&[127, 128, 255, 0, 128], 5, 128, 10).unwrap();
    let areas: Vec<u64> = runs.regions().iter().map(|region| region.area).collect();
    assert_eq!(areas, [2, 1]);
    assert!(runs.at(-1, 0).is_none() && runs.at(5, 0).is_none() && runs.at(1, 1).is_none());
}
