//! What a caller asks beside the images, and what the function's owner has set.
//!
//! Owns paths, parameters and their bounds. Refuses to know images.

use tenon_pictures::query::preference;
use tenon_pictures::{Limits, Query};
use tenon_sdk::{Rejection, Request, setting};

const NOT_FOUND: u16 = 404;
/// What an image may be scaled by; more tiles than may be are refused anyway.
const SCALES: std::ops::RangeInclusive<f32> = 0.05..=8.0;
const MOST_SIMPLIFIED: f32 = 100.0;
const PARAMETERS: [&str; 9] =
    ["model", "threshold", "min_area", "scale", "simplify", "polygons", "mask", "index", "format"];

/// `[config]` in `function.toml`.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) max_tiles: usize,
    pub(crate) overlap: u32,
    pub(crate) mean: f32,
    pub(crate) deviation: f32,
    model: String,
    models: String,
    min_area: u64,
}

impl Settings {
    pub(crate) fn from_config() -> Self {
        Settings {
            limits: Limits { images: setting("max_images", 32) },
            max_tiles: setting("max_tiles", 1000),
            overlap: setting("overlap", 64),
            mean: setting("mean", 0.5),
            deviation: setting("deviation", 0.25),
            model: setting("model", "unet".to_owned()),
            models: setting("models", "hrnet,resunet,unet".to_owned()),
            min_area: setting("min_area", 16),
        }
    }
}

/// What the answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Json,
    /// The mask as a PNG.
    Mask,
    /// The picture with outlines.
    Annotated,
}

/// How JSON tells the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    None,
    Png,
    Rle,
}

/// A question that passed.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) wanted: Wanted,
    pub(crate) index: Option<usize>,
    pub(crate) format: &'static str,
    pub(crate) model: String,
    /// Pixels whose mask is at least this are inside; 1 to 255.
    pub(crate) least: u8,
    pub(crate) min_area: u64,
    pub(crate) scale: Option<f32>,
    pub(crate) tolerance: f32,
    pub(crate) polygons: bool,
    pub(crate) mask: Mask,
}

impl Question {
    pub(crate) fn read(request: &Request, settings: &Settings) -> Result<Question, Rejection> {
        let wanted = match request.path().as_str() {
            "" | "/" | "/segment" => {
                let accept = request.header("accept").unwrap_or_default();
                let png = preference(&accept, "image/png") > preference(&accept, "application/json");
                if png { Wanted::Mask } else { Wanted::Json }
            }
            "/mask" | "/segment/mask" => Wanted::Mask,
            "/annotated" | "/segment/annotated" => Wanted::Annotated,
            path => {
                let path: String = path.chars().take(80).collect();
                let detail = format!("there is no `{path}`; there are /segment, /mask and /annotated");
                return Err(Rejection::new(NOT_FOUND, "unknown-path", detail));
            }
        };
        let query = Query::read(request, &PARAMETERS)?;
        let models: Vec<&str> = settings.models.split(',').map(str::trim).collect();
        let threshold = query.number("threshold", 0.5_f32, 0.0..=1.0)?;
        let scale = query.get("scale").map(|_| query.number("scale", 1.0, SCALES)).transpose()?;
        let mask = match query.choice("mask", "none", &["none", "png", "rle"])? {
            "png" => Mask::Png,
            "rle" => Mask::Rle,
            _ => Mask::None,
        };
        Ok(Question {
            wanted,
            index: query.index()?,
            format: query.format(request)?,
            model: query.choice("model", &settings.model, &models)?.to_owned(),
            // 0 would be everything, and what the model rules out is never inside.
            least: (threshold * 255.0).ceil().clamp(1.0, 255.0) as u8,
            min_area: query.number("min_area", settings.min_area, 0..=u64::from(u32::MAX))?,
            scale,
            tolerance: query.number("simplify", 0.0, 0.0..=MOST_SIMPLIFIED)?,
            polygons: query.choice("polygons", "true", &["true", "false"])? == "true",
            mask,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, accept: &str, query: &[(&str, &str)]) -> Result<Question, Rejection> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let headers = vec![("accept".to_owned(), accept.to_owned())];
        let request = Request { path: path.to_owned(), query, headers, ..Request::default() };
        Question::read(&request, &Settings::from_config())
    }

    #[test]
    fn what_nobody_says_has_a_default() {
        let question = read("", "", &[]).unwrap();
        assert_eq!((question.model.as_str(), question.least, question.min_area), ("unet", 128, 16));
        assert_eq!((question.wanted, question.mask, question.polygons), (Wanted::Json, Mask::None, true));
        assert_eq!((question.scale, question.tolerance), (None, 0.0));
    }

    #[test]
    fn paths_and_accept_say_what_the_answer_is() {
        let wanted = |path: &str, accept: &str| read(path, accept, &[]).unwrap().wanted;
        assert_eq!(wanted("/segment", "*/*"), Wanted::Json);
        assert_eq!(wanted("/segment", "image/png"), Wanted::Mask);
        assert_eq!(wanted("/segment", "application/json, image/png;q=0.5"), Wanted::Json);
        assert_eq!(wanted("/mask", "application/json"), Wanted::Mask);
        assert_eq!(wanted("/annotated", "image/png"), Wanted::Annotated);
    }

    #[test]
    fn thresholds_become_steps_of_255() {
        let least = |threshold: &str| read("", "", &[("threshold", threshold)]).unwrap().least;
        assert_eq!([least("0"), least("0.001"), least("0.5"), least("0.999"), least("1")], [1, 1, 128, 255, 255]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases = [
            ("model", "detector"),
            ("threshold", "1.5"),
            ("min_area", "-1"),
            ("scale", "0"),
            ("scale", "1000"),
            ("simplify", "NaN"),
            ("polygons", "yes"),
            ("mask", "bmp"),
        ];
        for case in cases {
            let rejection = read("", "", &[case]).unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (400, "invalid-parameter"), "{case:?}");
        }
        assert_eq!(read("", "", &[("treshold", "1")]).unwrap_err().code, "unknown-parameter");
        assert_eq!(read("/x", "", &[]).unwrap_err().status, 404);
    }
}
