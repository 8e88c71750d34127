//! What a caller asks beside the images, and what the function's owner has set.
//!
//! Owns paths, parameters and their bounds. Refuses to know images.

use tenon_pictures::boxes::{Layout, Reading};
use tenon_pictures::{Limits, Query};
use tenon_sdk::{Rejection, Request, setting};

/// Of one image; more are never suppressed against each other.
const MAX_DETECTIONS: usize = 1000;
/// Before suppression: what it costs is bounded by this times the detections.
const MAX_CANDIDATES: usize = 10_000;
const NOT_FOUND: u16 = 404;
/// `conf` is what clients of other YOLO services say.
const PARAMETERS: [&str; 7] = ["confidence", "conf", "iou", "max_detections", "classes", "index", "format"];

/// `[config]` in `function.toml`.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) input: String,
    side: u32,
    names: Vec<String>,
    layout: Layout,
}

impl Settings {
    pub(crate) fn from_config() -> Self {
        let names = setting("classes", "circle,square,triangle,star,cross".to_owned());
        Settings {
            limits: Limits { images: setting("max_images", 32) },
            input: setting("input", "images".to_owned()),
            side: setting("size", 320),
            names: names.split(',').map(|name| name.trim().to_owned()).collect(),
            layout: setting("layout", Layout::YoloV8),
        }
    }
}

/// A question that passed.
#[derive(Debug)]
pub(crate) struct Question {
    /// A picture is wanted, not numbers.
    pub(crate) annotated: bool,
    pub(crate) index: Option<usize>,
    pub(crate) format: &'static str,
    /// The side of the square that the model sees.
    pub(crate) side: u32,
    pub(crate) names: Vec<String>,
    pub(crate) reading: Reading,
    pub(crate) overlap: f32,
    pub(crate) most: usize,
}

impl Question {
    pub(crate) fn read(request: &Request, settings: &Settings) -> Result<Question, Rejection> {
        let annotated = match request.path().as_str() {
            "" | "/" | "/detect" => false,
            "/annotated" | "/detect/annotated" => true,
            path => {
                let path: String = path.chars().take(80).collect();
                let detail = format!("there is no `{path}`; there are /detect and /detect/annotated");
                return Err(Rejection::new(NOT_FOUND, "unknown-path", detail));
            }
        };
        let query = Query::read(request, &PARAMETERS)?;
        let confidence = query.number("conf", 0.25, 0.0..=1.0)?;
        Ok(Question {
            annotated,
            index: query.index()?,
            format: query.format(request)?,
            side: settings.side,
            names: settings.names.clone(),
            reading: Reading {
                layout: settings.layout,
                classes: settings.names.len(),
                least: query.number("confidence", confidence, 0.0..=1.0)?,
                only: query.classes(&settings.names)?,
                candidates: MAX_CANDIDATES,
            },
            overlap: query.number("iou", 0.45, 0.0..=1.0)?,
            most: query.number("max_detections", 100, 1..=MAX_DETECTIONS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, query: &[(&str, &str)]) -> Result<Question, Rejection> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = Request { path: path.to_owned(), query, ..Request::default() };
        Question::read(&request, &Settings::from_config())
    }

    #[test]
    fn what_nobody_says_has_a_default() {
        let question = read("/detect", &[]).unwrap();
        assert_eq!((question.reading.least, question.overlap, question.most), (0.25, 0.45, 100));
        assert_eq!((question.annotated, question.format, question.reading.only), (false, "jpeg", None));
        let query = [("conf", "0.5"), ("iou", "0.7"), ("max_detections", "3"), ("classes", "star,0")];
        let question = read("/detect/annotated", &query).unwrap();
        assert_eq!((question.reading.least, question.overlap, question.most), (0.5, 0.7, 3));
        assert!(question.annotated);
        assert_eq!(question.reading.only, Some(vec![true, false, false, true, false]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |path: &str, query: &[(&str, &str)]| {
            let rejection = read(path, query).unwrap_err();
            (rejection.status, rejection.code)
        };
        let wrong = (400, "invalid-parameter".to_owned());
        for query in [
            ("confidence", "2"),
            ("iou", "-1"),
            ("max_detections", "0"),
            ("max_detections", "1001"),
            ("classes", "moon"),
            ("index", "x"),
            ("format", "bmp"),
        ] {
            assert_eq!(refused("/detect", &[query]), wrong, "{query:?}");
        }
        assert_eq!(refused("/detect", &[("size", "640")]), (400, "unknown-parameter".to_owned()));
        assert_eq!(refused("/detection", &[]), (404, "unknown-path".to_owned()));
    }
}
