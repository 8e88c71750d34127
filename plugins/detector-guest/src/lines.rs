//! Boxes and labels, drawn into pixels.

use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage};
use tenon_sdk::images::{Area, Point};

/// Pixels of a letter, which grows with the lines.
const LETTER: i64 = 8;
const MAX_LETTERS: usize = 64;

/// A rectangle's outline.
pub(crate) fn rectangle(image: &mut RgbImage, area: Area, width: f32, colour: Rgb<u8>) {
    let half = (width / 2.0).max(0.5);
    let Area { start, end } = area;
    let bars = [
        (start.x - half, start.y - half, end.x + half, start.y + half),
        (start.x - half, end.y - half, end.x + half, end.y + half),
        (start.x - half, start.y - half, start.x + half, end.y + half),
        (end.x - half, start.y - half, end.x + half, end.y + half),
    ];
    for (left, top, right, bottom) in bars {
        filled(image, (left.round() as i64, top.round() as i64), (right.round() as i64, bottom.round() as i64), colour);
    }
}

/// A label on a tag of the colour, above the corner, or below it where the image ends.
pub(crate) fn tag(image: &mut RgbImage, corner: Point, label: &str, (width, colour): (f32, Rgb<u8>)) {
    let grown = f64::from(width).round().max(1.0) as i64;
    let letters: Vec<char> = label.chars().take(MAX_LETTERS).collect();
    let (across, down) = (letters.len() as i64 * LETTER * grown, LETTER * grown);
    let left = corner.x.round() as i64;
    let above = corner.y.round() as i64 - down;
    let top = if above < 0 { corner.y.round() as i64 } else { above };
    filled(image, (left, top), (left + across, top + down), colour);
    let bright = colour.0.iter().map(|channel| u32::from(*channel)).sum::<u32>() > 380;
    let ink = Rgb([if bright { 0 } else { 255 }; 3]);
    for (place, letter) in (0..).zip(letters) {
        let Some(lines) = font8x8::BASIC_FONTS.get(letter) else { continue };
        for (y, line) in (0..).zip(lines) {
            for x in (0..LETTER).filter(|x| line >> x & 1 == 1) {
                let (x, y) = (left + (place * LETTER + x) * grown, top + y * grown);
                filled(image, (x, y), (x + grown, y + grown), ink);
            }
        }
    }
}

fn filled(image: &mut RgbImage, (left, top): (i64, i64), (right, bottom): (i64, i64), colour: Rgb<u8>) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    for y in top.clamp(0, height)..bottom.clamp(0, height) {
        for x in left.clamp(0, width)..right.clamp(0, width) {
            image.put_pixel(x as u32, y as u32, colour);
        }
    }
}
