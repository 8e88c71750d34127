//! Boxes as a detector gives them, and back in the image's own pixels.
//!
//! Owns the layouts in which detectors of the YOLO family answer. Refuses to trust them: what is not a finite number
//! is told, what is no box is dropped.

use serde::Serialize;
use tenon_sdk::images::{Area, Mapping, Point};

/// How a row of the model's output is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[4 + classes, anchors]`: all centres' x, then y, widths, heights, then each class's probabilities. Exports of
    /// YOLOv8, YOLO11 and this project's own detector.
    YoloV8,
    /// `[anchors, 5 + classes]`: x, y, width, height, objectness, classes. Exports of YOLOv5.
    YoloV5,
    /// `[boxes, 6]`: x1, y1, x2, y2, confidence, class. Exports of YOLOv10, and such with suppression built in.
    YoloV10,
}

impl std::str::FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yolov8" => Ok(Layout::YoloV8),
            "yolov5" => Ok(Layout::YoloV5),
            "yolov10" => Ok(Layout::YoloV10),
            _ => Err("layouts are yolov8, yolov5, yolov10".to_owned()),
        }
    }
}

/// A box as answers have it, in pixels of the image: `{"x1", "y1", "x2", "y2"}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Corners<T> {
    x1: T,
    y1: T,
    x2: T,
    y2: T,
}

impl<T> From<[T; 4]> for Corners<T> {
    fn from([x1, y1, x2, y2]: [T; 4]) -> Self {
        Self { x1, y1, x2, y2 }
    }
}

impl Corners<f32> {
    /// The box as the host's calls take it.
    pub fn area(self) -> Area {
        Area { start: Point { x: self.x1, y: self.y1 }, end: Point { x: self.x2, y: self.y2 } }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its number among the model's classes.
    pub class: usize,
    /// 0 to 1.
    pub confidence: f32,
    /// x1, y1, x2, y2.
    pub corners: [f32; 4],
}

impl Found {
    /// The box as the host's calls take it.
    pub fn area(&self) -> Area {
        Corners::from(self.corners).area()
    }

    /// The box in the image, cut at its edges; none if nothing of it is there.
    pub fn placed(mut self, mapping: &Mapping, (width, height): (u32, u32)) -> Option<Found> {
        let x = |x: f32| (x * mapping.scale.x + mapping.origin.x).clamp(0.0, width as f32);
        let y = |y: f32| (y * mapping.scale.y + mapping.origin.y).clamp(0.0, height as f32);
        let [x1, y1, x2, y2] = self.corners;
        self.corners = [x(x1), y(y1), x(x2), y(y2)];
        is_box(&self.corners).then_some(self)
    }
}

/// What of a row is wanted.
#[derive(Clone, Debug)]
pub struct Reading {
    /// How the row is to be read.
    pub layout: Layout,
    /// How many classes the model knows.
    pub classes: usize,
    /// A box counts when its confidence is above this.
    pub least: f32,
    /// Which classes count; none: all of them.
    pub only: Option<Vec<bool>>,
    /// The most boxes that are considered, the surest of them.
    pub candidates: usize,
}

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The model gave NaN or an infinite number.
    NotFinite,
    /// The row is not as long as the layout and the classes say.
    WrongLength,
}

impl Reading {
    /// The boxes of a row, in pixels of the tensor, the surest first; equally sure ones as the model has them.
    pub fn read(&self, row: &[f32]) -> Result<Vec<Found>, Unreadable> {
        let stride = match self.layout {
            Layout::YoloV8 => 4 + self.classes,
            Layout::YoloV5 => 5 + self.classes,
            Layout::YoloV10 => 6,
        };
        if self.classes == 0 || row.is_empty() || !row.len().is_multiple_of(stride) {
            return Err(Unreadable::WrongLength);
        }
        // Asked of all at once, in vectors: what is not finite leaves something that is not 0.
        if row.iter().map(|value| value * 0.0).fold(0.0, |sum: f32, odd| sum + odd) != 0.0 {
            return Err(Unreadable::NotFinite);
        }
        let mut found = match self.layout {
            Layout::YoloV8 => self.by_class(row),
            Layout::YoloV5 => self.by_anchor(row),
            Layout::YoloV10 => self.ready_made(row),
        };
        // A stable sort, so that a request gets the same answer in any batch.
        found.sort_by(|left, right| right.confidence.total_cmp(&left.confidence));
        found.truncate(self.candidates);
        Ok(found)
    }

    fn by_class(&self, row: &[f32]) -> Vec<Found> {
        let anchors = row.len() / (4 + self.classes);
        let mut lines = row.chunks_exact(anchors);
        let mut next = || lines.next().expect("the row is a multiple of the anchors, and has lines for all of these");
        let (xs, ys, widths, heights) = (next(), next(), next(), next());
        let mut best = next().to_vec();
        let mut class = vec![0_u32; anchors];
        for number in 1..self.classes {
            for ((best, class), score) in best.iter_mut().zip(&mut class).zip(next()) {
                // Written as a choice, so that it becomes vectors.
                let better = *score > *best;
                *best = if better { *score } else { *best };
                *class = if better { number as u32 } else { *class };
            }
        }
        let likely = (0..anchors).filter(|anchor| best[*anchor] > self.least);
        let found = likely.filter_map(|anchor| {
            let around = [xs[anchor], ys[anchor], widths[anchor], heights[anchor]];
            self.wanted(class[anchor] as usize, best[anchor], from_centre(around))
        });
        found.collect()
    }

    fn by_anchor(&self, row: &[f32]) -> Vec<Found> {
        let found = row.chunks_exact(5 + self.classes).filter(|anchor| anchor[4] > self.least).filter_map(|anchor| {
            let (class, score) = largest(&anchor[5..]);
            self.wanted(class, score * anchor[4], from_centre([anchor[0], anchor[1], anchor[2], anchor[3]]))
        });
        found.collect()
    }

    fn ready_made(&self, row: &[f32]) -> Vec<Found> {
        let (boxes, _) = row.as_chunks::<6>();
        let found = boxes.iter().filter_map(|[x1, y1, x2, y2, confidence, class]| {
            // A cast keeps to the type's bounds: what is negative or huge becomes a class that is not there.
            self.wanted(class.round() as usize, *confidence, [*x1, *y1, *x2, *y2]).filter(|_| *class >= 0.0)
        });
        found.collect()
    }

    fn wanted(&self, class: usize, confidence: f32, corners: [f32; 4]) -> Option<Found> {
        let sure = confidence > self.least && class < self.classes;
        let wanted = self.only.as_ref().is_none_or(|only| only.get(class).is_some_and(|wanted| *wanted));
        (sure && wanted && is_box(&corners)).then_some(Found { class, confidence, corners })
    }
}

fn largest(scores: &[f32]) -> (usize, f32) {
    let first = (0, scores.first().copied().unwrap_or(0.0));
    scores.iter().copied().enumerate().fold(first, |best, score| if score.1 > best.1 { score } else { best })
}

fn from_centre([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// Finite numbers can still be too far apart for their difference to be one.
fn is_box([x1, y1, x2, y2]: &[f32; 4]) -> bool {
    x2 > x1 && y2 > y1 && (x2 - x1).is_finite() && (y2 - y1).is_finite()
}

#[cfg(test)]
#[path = "boxes_tests.rs"]
mod tests;
