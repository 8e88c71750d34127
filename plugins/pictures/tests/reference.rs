//! Suppression and regions, held against OpenCV's and COCO's tools: tests/fixtures/vision has what they say, and the
//! script that asked them.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tenon_pictures::boxes::Found;
use tenon_pictures::overlap::suppress;
use tenon_pictures::rle;
use tenon_pictures::runs::Runs;

fn read<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision").join(name);
    serde_json::from_slice(&std::fs::read(&file).expect("a fixture")).expect("its shape")
}

#[derive(Deserialize)]
struct Boxes {
    iou: f32,
    confidence: f32,
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
    classes: Vec<usize>,
    kept: Vec<usize>,
}

#[test]
fn suppression_keeps_the_boxes_that_opencv_keeps() {
    let cases: Vec<Boxes> = read("nms.json");
    assert!(cases.len() >= 5);
    for Boxes { iou, confidence, boxes, scores, classes, kept } in cases {
        let mut found: Vec<Found> = (0..boxes.len())
            .filter(|index| scores[*index] > confidence)
            .map(|index| Found { class: classes[index], confidence: scores[index], corners: boxes[index] })
            .collect();
        found.sort_by(|left, right| right.confidence.total_cmp(&left.confidence));
        let stays = suppress(found, iou, usize::MAX);
        // Confidences all differ, so that they name their boxes.
        let index = |found: &Found| scores.iter().position(|score| *score == found.confidence).expect("one of them");
        let mut indices: Vec<usize> = stays.iter().map(index).collect();
        indices.sort_unstable();
        assert_eq!(indices, kept, "iou {iou}, confidence {confidence}");
        assert!(!kept.is_empty() && kept.len() < boxes.len(), "a case that says something");
    }
}

#[derive(Deserialize)]
struct Mask {
    width: usize,
    height: usize,
    counts: Vec<u32>,
    regions: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    area: u64,
    #[serde(rename = "box")]
    corners: [u32; 4],
    centroid: [f64; 2],
}

#[test]
fn regions_and_run_lengths_are_those_of_opencv_and_coco() {
    let cases: Vec<Mask> = read("regions.json");
    assert!(cases.iter().map(|case| case.regions.len()).sum::<usize>() > 20);
    for Mask { width, height, counts, mut regions } in cases {
        let mut mask = vec![0; width * height];
        let inside = counts.iter().enumerate().flat_map(|(turn, count)| vec![turn % 2 == 1; *count as usize]);
        inside.enumerate().for_each(|(place, inside)| mask[place % height * width + place / height] = u8::from(inside));
        assert_eq!(rle::counts(&mask, width as u32, usize::MAX), Some(counts));
        let runs = Runs::find(&mask, width as u32, 1, usize::MAX).unwrap();
        let mut found = runs.regions().to_vec();
        // Each numbers regions in its own order.
        found.sort_by_key(|region| (region.corners, region.area));
        regions.sort_by_key(|region| (region.corners, region.area));
        assert_eq!(found.len(), regions.len());
        for (found, wanted) in found.iter().zip(&regions) {
            assert_eq!((found.area, found.corners), (wanted.area, wanted.corners));
            let apart = (found.centroid.0 - wanted.centroid[0]).hypot(found.centroid.1 - wanted.centroid[1]);
            assert!(apart < 1e-6, "{found:?}");
        }
    }
}
