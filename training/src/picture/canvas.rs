//! The pixels of a picture. Owns their layout, blending, blur and noise. Refuses sizes of zero.

use tch::Tensor;

use super::{Colour, Draw, draw::Rng};

pub(super) const PLANES: usize = 3;

/// Three planes of `width` x `height` numbers, nominally from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Plane by plane, each row by row.
    pub(crate) values: Vec<f32>,
}

impl Picture {
    /// A picture of one colour.
    pub(crate) fn filled(width: usize, height: usize, colour: Colour) -> Self {
        assert!(width > 0 && height > 0, "a picture has pixels");
        let mut values = Vec::with_capacity(PLANES * width * height);
        for plane in colour {
            values.resize(values.len() + width * height, plane);
        }
        Self { width, height, values }
    }

    /// Pixels of one plane.
    pub(crate) fn area(&self) -> usize {
        self.width * self.height
    }

    /// The colour at a pixel, counted row by row.
    pub(crate) fn at(&self, pixel: usize) -> Colour {
        let area = self.area();
        [self.values[pixel], self.values[area + pixel], self.values[2 * area + pixel]]
    }

    /// Mixes a colour into a pixel: 1 covers it.
    pub(crate) fn blend(&mut self, pixel: usize, colour: Colour, part: f32) {
        let area = self.area();
        for (plane, value) in colour.into_iter().enumerate() {
            let old = &mut self.values[plane * area + pixel];
            *old += (value - *old) * part;
        }
    }

    /// Softens by two box means each way, which is nearly a Gaussian of about `0.8 x radius`; 0 does nothing.
    pub(crate) fn blur(&mut self, radius: usize) {
        let (width, height) = (self.width, self.height);
        for plane in self.values.chunks_exact_mut(width * height) {
            blur(plane, width, radius);
        }
    }

    /// Adds noise of each pixel's own; `colourful` says how much the planes differ from each other (0 to 1).
    pub(crate) fn add_noise(&mut self, rng: &mut Rng, strength: f32, colourful: f32) {
        let area = self.area();
        for pixel in 0..area {
            let shared = rng.normal() * (1.0 - colourful);
            for plane in 0..PLANES {
                let own = if colourful > 0.0 { rng.normal() * colourful } else { 0.0 };
                self.values[plane * area + pixel] += strength * (shared + own);
            }
        }
    }

    /// What a file of 8 bits would keep: values are cut to 0 to 1 and rounded to 256 steps.
    pub(crate) fn quantise(&mut self) {
        for value in &mut self.values {
            *value = (value.clamp(0.0, 1.0) * 255.0).round() / 255.0;
        }
    }

    /// Red, green and blue of each pixel, row by row.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        (0..self.area()).flat_map(|pixel| self.at(pixel).map(byte)).collect()
    }

    /// The same as a model takes it: FP32[3, height, width].
    pub(crate) fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.values).view([PLANES as i64, self.height as i64, self.width as i64])
    }
}

/// Two box means in each direction over one plane.
pub(super) fn blur(plane: &mut [f32], width: usize, radius: usize) {
    if radius == 0 {
        return;
    }
    let height = plane.len() / width;
    let mut line = vec![0.0; width.max(height)];
    for _ in 0..2 {
        for row in plane.chunks_exact_mut(width) {
            line[..width].copy_from_slice(row);
            mean(&line[..width], radius, row.iter_mut());
        }
        for column in 0..width {
            for row in 0..height {
                line[row] = plane[row * width + column];
            }
            mean(&line[..height], radius, plane[column..].iter_mut().step_by(width));
        }
    }
}

/// The means of a sliding window; beyond the ends the window is shorter.
fn mean<'a>(line: &[f32], radius: usize, to: impl Iterator<Item = &'a mut f32>) {
    let mut sum: f32 = line.iter().take(radius).sum();
    let mut count = radius.min(line.len());
    for (index, target) in to.enumerate() {
        if let Some(next) = line.get(index + radius) {
            sum += next;
            count += 1;
        }
        if index > radius {
            sum -= line[index - radius - 1];
            count -= 1;
        }
        *target = sum / count as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::generator, *};

    #[test]
    fn blurring_keeps_the_mean_of_what_is_flat_and_spreads_a_point() {
        let mut picture = Picture::filled(9, 7, [0.25, 0.5, 1.0]);
        picture.blur(3);
        assert!(picture.values[..63].iter().all(|value| (value - 0.25).abs() < 1e-6));
        let mut picture = Picture::filled(9, 9, [0.0; 3]);
        picture.values[4 * 9 + 4] = 1.0;
        picture.blur(1);
        assert!((picture.values[4 * 9 + 4] - 1.0 / 9.0).abs() < 1e-6, "{}", picture.values[4 * 9 + 4]);
        assert!((picture.values[..81].iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn bytes_are_interleaved_and_cut() {
        let mut picture = Picture::filled(2, 1, [-1.0, 0.5, 2.0]);
        picture.blend(1, [1.0, 0.5, 0.0], 1.0);
        assert_eq!(picture.bytes(), [0, 128, 255, 255, 128, 0]);
        picture.quantise();
        assert_eq!(picture.at(0), [0.0, 128.0 / 255.0, 1.0]);
        assert_eq!(picture.tensor().size(), [3, 1, 2]);
    }

    #[test]
    fn noise_is_as_strong_as_asked() {
        let mut picture = Picture::filled(64, 64, [0.5; 3]);
        picture.add_noise(&mut generator(1), 0.1, 0.0);
        let variance = picture.values.iter().map(|value| (value - 0.5).powi(2)).sum::<f32>() / 12288.0;
        assert!((variance.sqrt() - 0.1).abs() < 0.01, "{variance}");
        assert_eq!(picture.values[0], picture.values[64 * 64], "grey noise is equal in all planes");
    }
}
