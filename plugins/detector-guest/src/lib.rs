//! The detector, with everything in the guest: decoding, resizing, drawing and encoding.
//!
//! Owns the pictures ([`picture`]). All else is compiled from `plugins/detector`, so that what differs between the two
//! components is who works on pixels. It exists to be measured, and to show that a plugin may bring its own decoders;
//! it gives the same boxes within the tolerance of two decoders.
#![forbid(unsafe_code)]

#[path = "../../detector/src/detection/mod.rs"]
pub mod detection;
mod lines;
pub mod picture;

use detection::Detector;
use picture::Decoded;

tenon_sdk::export!(Detector<Decoded>: preprocessing, postprocessing);
