//! What plugins that look at pictures share.
//!
//! Owns the ways in which a request brings images ([`body`]), what a caller may ask in the query
//! ([`query`]), boxes ([`boxes`], [`overlap`]) and masks ([`tiles`], [`canvas`], [`runs`], [`rings`],
//! [`rle`]). Refuses to know any service: paths, answers and models belong to the plugins. It is a
//! library of its own because the same body, box or mask must mean the same in all of them.
#![forbid(unsafe_code)]

pub mod body;
pub mod boxes;
pub mod canvas;
mod form;
mod json;
pub mod overlap;
pub mod palette;
pub mod picture;
pub mod query;
pub mod rings;
pub mod rle;
pub mod runs;
mod simplify;
pub mod tiles;

pub use body::{Limits, Refused, Sent};
pub use picture::Picture;
pub use query::Query;
