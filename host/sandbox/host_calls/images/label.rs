//! Labels: letters on a tag, from a font of pixels whose sizes are multiplied where a large pen wants large letters.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use super::{
    picture::Picture,
    shapes::{Ink, Tile, frame},
};

/// The most characters of a label.
pub(super) const MAX_CHARACTERS: usize = 64;
/// Height of letters for each pixel of the pen's width.
const HEIGHT_PER_WIDTH: f32 = 8.0;
/// Pens of this brightness and more have black letters on their tags.
const BRIGHT: u32 = 140;

/// What can be written of a text: printable ASCII, and not too much of it.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    text.chars().take(MAX_CHARACTERS).map(shown).collect()
}

/// Letters of one size.
struct Font {
    height: RasterHeight,
    times: u32,
}

impl Font {
    fn for_pen(width: f32) -> Self {
        let wanted = width * HEIGHT_PER_WIDTH;
        let (height, times) = match wanted {
            wanted if wanted < 24.0 => (RasterHeight::Size16, 1.0),
            wanted if wanted < 32.0 => (RasterHeight::Size24, 1.0),
            wanted => (RasterHeight::Size32, wanted / 32.0),
        };
        Self { height, times: times as u32 }
    }

    fn letter(&self, character: char) -> Option<RasterizedChar> {
        get_raster(character, FontWeight::Bold, self.height)
    }

    /// Width and height of a letter in pixels of the picture.
    fn size(&self) -> (u32, u32) {
        let width = get_raster_width(FontWeight::Bold, self.height) as u32;
        (width * self.times, self.height.val() as u32 * self.times)
    }
}

/// The area of a tag: above `corner` (the upper left one of what is labelled), or where that is outside, within.
pub(super) fn place(picture: &Picture, text: &str, pen_width: f32, [x, y]: [f32; 2]) -> [f32; 4] {
    let (letter, height) = Font::for_pen(pen_width).size();
    let (width, height) = (letter as f32 * (text.len() + 1) as f32, height as f32);
    let left = x.min(picture.width as f32 - width).max(0.0).round();
    let top = if y >= height { (y - height).round() } else { y.max(0.0).round() };
    [left, top, left + width, top + height]
}

/// Draws the tag and the letters on it.
pub(super) fn draw(picture: &mut Picture, text: &str, pen_width: f32, area: [f32; 4], colour: [u8; 3]) {
    frame(picture, area, None, Ink { colour, opacity: 1.0 });
    let font = Font::for_pen(pen_width);
    let (letter_width, _) = font.size();
    let [red, green, blue] = colour.map(u32::from);
    let bright = (299 * red + 587 * green + 114 * blue) / 1000 >= BRIGHT;
    let ink = Ink { colour: if bright { [0; 3] } else { [255; 3] }, opacity: 1.0 };
    // Half a letter is free on either side.
    let start = area[0] + (letter_width / 2) as f32;
    let Some(tile) = Tile::touched(picture, area) else { return };
    let letters: Vec<_> = text.chars().map(|character| font.letter(character)).collect();
    let channels = picture.channels;
    for row in tile.top..tile.bottom {
        let line = ((row as f32 - area[1]).max(0.0) as u32 / font.times) as usize;
        let pixels = picture.part_mut(row, tile.left..tile.right);
        for (column, pixel) in (tile.left..tile.right).zip(pixels.chunks_exact_mut(channels)) {
            let Some(across) = (column as f32 >= start).then_some((column as f32 - start) as u32) else { continue };
            let Some(Some(letter)) = letters.get((across / letter_width) as usize) else { continue };
            let within = (across % letter_width / font.times) as usize;
            let covered = letter.raster().get(line).and_then(|line| line.get(within)).copied().unwrap_or(0);
            ink.lay(pixel, covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_drawn_is_kept_and_the_tag_stays_in_the_picture() {
        assert_eq!(printable("a\u{e4}\n~"), "a??~");
        assert_eq!(printable(&"x".repeat(999)).len(), MAX_CHARACTERS);
        let picture = Picture { width: 100, height: 50, channels: 1, pixels: vec![0; 5000] };
        let above = place(&picture, "ab", 2.0, [10.0, 30.0]);
        assert_eq!((above[0], above[3]), (10.0, 30.0));
        let corner = place(&picture, "ab", 2.0, [95.0, 2.0]);
        assert_eq!((corner[1], corner[2]), (2.0, 100.0));
    }

    #[test]
    fn letters_can_be_read_on_any_colour() {
        let mut picture = Picture { width: 200, height: 80, channels: 3, pixels: vec![90; 48_000] };
        for (colour, letters) in [([255, 255, 0], [0, 0, 0]), ([0, 0, 120], [255, 255, 255])] {
            let area = place(&picture, "M", 4.0, [0.0, 70.0]);
            draw(&mut picture, "M", 4.0, area, colour);
            let pixels = picture.pixels.as_chunks::<3>().0;
            assert!(pixels.contains(&colour) && pixels.contains(&letters), "{colour:?}");
        }
    }
}
