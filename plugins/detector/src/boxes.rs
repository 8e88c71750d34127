//! Boxes as the model gives them, and back in the image's own pixels.

use serde::Serialize;
use tenon_sdk::images::{Area, Mapping, Point};

/// Numbers in a row of the model's output: x0, y0, x1, y1, score, class.
const BOX_ELEMENTS: usize = 6;

/// One object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Found {
    pub(crate) class: u32,
    pub(crate) score: f32,
    /// x0, y0, x1, y1 in pixels of the image.
    #[serde(rename = "box")]
    pub(crate) corners: [f32; 4],
}

impl Found {
    pub(crate) fn area(&self) -> Area {
        let [x0, y0, x1, y1] = self.corners;
        Area { start: Point { x: x0, y: y0 }, end: Point { x: x1, y: y1 } }
    }
}

/// The boxes with at least this score, mapped back into the image.
pub(crate) fn read(rows: &[f32], min_score: f32, mapping: &Mapping) -> Vec<Found> {
    let (boxes, _) = rows.as_chunks::<BOX_ELEMENTS>();
    let likely = boxes.iter().filter(|[.., score, _]| *score >= min_score);
    likely.map(|found| back(found, mapping)).collect()
}

fn back([x0, y0, x1, y1, score, class]: &[f32; BOX_ELEMENTS], mapping: &Mapping) -> Found {
    let x = |x: &f32| x * mapping.scale.x + mapping.origin.x;
    let y = |y: &f32| y * mapping.scale.y + mapping.origin.y;
    Found { class: *class as u32, score: *score, corners: [x(x0), y(y0), x(x1), y(y1)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_go_back_through_the_letterbox() {
        // 1280 x 640 into 640 x 640: halved, with 160 rows of bars above.
        let scale = Point { x: 2.0, y: 2.0 };
        let mapping = Mapping { scale, origin: Point { x: 0.0, y: -320.0 } };
        let rows = [10.0, 170.0, 20.0, 180.0, 0.9, 3.0, 0.0, 0.0, 1.0, 1.0, 0.1, 1.0];
        let found = read(&rows, 0.25, &mapping);
        assert_eq!(found, [Found { class: 3, score: 0.9, corners: [20.0, 20.0, 40.0, 40.0] }]);
    }
}
