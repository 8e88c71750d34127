//! The answer's shape: what each model says of each object.

use serde::Serialize;
use tenon_pictures::boxes::{Corners, Found};

/// The answer to the caller.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    width: u32,
    height: u32,
    objects: Vec<Object>,
}

#[derive(Debug, Serialize)]
struct Object {
    #[serde(rename = "box")]
    corners: Corners<f32>,
    detected: Named,
    classified: Named,
    /// Both models say the same.
    agreed: bool,
}

#[derive(Debug, Serialize)]
struct Named {
    class: String,
    class_id: usize,
    confidence: f32,
}

/// What the classifier says of one object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Opinion {
    class: usize,
    confidence: f32,
}

impl Opinion {
    /// The likeliest class; none if a score is no finite number.
    pub(crate) fn of(scores: &[f32]) -> Option<Opinion> {
        let finite = !scores.is_empty() && scores.iter().all(|score| score.is_finite());
        let best = scores.iter().copied().enumerate().max_by(|left, right| left.1.total_cmp(&right.1));
        best.filter(|_| finite).map(|(class, confidence)| Opinion { class, confidence })
    }
}

impl Answer {
    pub(crate) fn new(size: (u32, u32), found: &[Found], opinions: &[Opinion], names: &[String]) -> Self {
        assert_eq!(found.len(), opinions.len(), "every object was classified");
        let named = |class: usize, confidence: f32| Named {
            class: names.get(class).cloned().unwrap_or_default(),
            class_id: class,
            confidence,
        };
        let objects = found.iter().zip(opinions).map(|(found, opinion)| Object {
            corners: found.corners.into(),
            detected: named(found.class, found.confidence),
            classified: named(opinion.class, opinion.confidence),
            agreed: found.class == opinion.class,
        });
        Answer { width: size.0, height: size.1, objects: objects.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_class_is_the_opinion() {
        assert_eq!(Opinion::of(&[0.1, 0.7, 0.2]), Some(Opinion { class: 1, confidence: 0.7 }));
        assert_eq!(Opinion::of(&[0.1, f32::NAN]), None);
        assert_eq!(Opinion::of(&[]), None);
    }
}
