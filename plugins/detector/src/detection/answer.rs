//! The answer's shape.

use serde::Serialize;
use tenon_pictures::Refused;
use tenon_pictures::boxes::{Corners, Found};
use tenon_sdk::Rejection;
use tenon_sdk::images::Area;

/// What is in one image.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    width: u32,
    height: u32,
    pub(crate) detections: Vec<Detection>,
}

/// One object, in pixels of the image.
#[derive(Debug, Serialize)]
pub(crate) struct Detection {
    pub(crate) class: String,
    pub(crate) class_id: usize,
    pub(crate) confidence: f32,
    #[serde(rename = "box")]
    corners: Corners<f32>,
}

/// Several images: each one's answer, or its error.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    images: Vec<Place>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Place {
    Seen(Seen),
    Refused(Refused),
}

impl Seen {
    pub(crate) fn new((width, height): (u32, u32), found: Vec<Found>, names: &[String]) -> Self {
        let detections = found.into_iter().map(|Found { class, confidence, corners }| Detection {
            class: names.get(class).cloned().unwrap_or_default(),
            class_id: class,
            confidence,
            corners: corners.into(),
        });
        Seen { width, height, detections: detections.collect() }
    }
}

impl Detection {
    pub(crate) fn area(&self) -> Area {
        self.corners.area()
    }
}

/// Puts what was seen in the places of those images that were shown, in order.
pub(crate) fn list<T>(images: Vec<Result<T, Rejection>>, seen: Vec<Result<Seen, Rejection>>) -> List {
    let mut seen = seen.into_iter();
    let places = images.into_iter().map(|image| {
        let outcome = image.and_then(|_| seen.next().expect("every image that was shown was answered"));
        outcome.map_or_else(|rejection| Place::Refused(rejection.into()), Place::Seen)
    });
    List { images: places.collect() }
}
