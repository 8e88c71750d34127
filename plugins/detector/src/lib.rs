//! The detector: finds objects in images.
//!
//! `POST …/detect` with a JPEG, PNG or WebP image is answered with `{"width", "height", "detections": [{"class",
//! "class_id", "confidence", "box": {"x1", "y1", "x2", "y2"}}]}` in pixels of the image, `…/detect/annotated` with the
//! picture itself and the boxes in it. Also taken: forms, and base64 in JSON, of one or several images; docs/detector.md.
//!
//! Owns that pictures are the host's: they are decoded, resized and drawn there, and no pixel enters the guest. What is
//! made of them is in [`detection`], which `plugins/detector-guest` compiles with decoders of its own.
#![forbid(unsafe_code)]

pub mod detection;

use detection::Detector;
use tenon_sdk::images::Image;

tenon_sdk::export!(Detector<Image>: preprocessing, postprocessing);
