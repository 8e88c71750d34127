//! Pictures as the generators draw them: three planes of numbers from 0 to 1. Owns the pixels, resizing, blurring and
//! noise; refuses to know what is drawn and why. Planes, because that is how models take them.

mod canvas;
mod draw;
mod field;
mod files;
mod outline;
mod resize;

pub(crate) use canvas::Picture;
pub(crate) use draw::{Colour, Draw, generator};
pub(crate) use field::Field;
pub(crate) use files::{jpeg, png};
pub(crate) use outline::Outline;
