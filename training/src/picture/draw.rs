//! What the generators draw from a seed: numbers, choices, colours. Owns how a seed becomes a sequence. Refuses clocks
//! and global state: equal seeds are equal pictures, on every machine.

pub(crate) use fastrand::Rng;

/// Red, green and blue from 0 to 1.
pub(crate) type Colour = [f32; 3];

/// A generator for one picture. Neighbouring seeds give sequences that have nothing to do with each other.
pub(crate) fn generator(seed: u64) -> Rng {
    // SplitMix64's finisher: fastrand takes the seed as its state, so 1, 2, 3 would begin alike.
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Rng::with_seed(state ^ (state >> 31))
}

/// Draws that pictures need, on top of a generator's own.
pub(crate) trait Draw {
    /// A number of a range, all equally likely.
    fn between(&mut self, low: f32, high: f32) -> f32;
    /// A number of a range, each doubling of it equally likely: for sizes.
    fn scaled(&mut self, low: f32, high: f32) -> f32;
    /// True this often.
    fn chance(&mut self, probability: f32) -> bool;
    /// Around 0 with a standard deviation of 1; never beyond 3.5.
    fn normal(&mut self) -> f32;
    /// Any colour.
    fn colour(&mut self) -> Colour;
}

impl Draw for Rng {
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.f32()
    }

    fn scaled(&mut self, low: f32, high: f32) -> f32 {
        self.between(low.ln(), high.ln()).exp()
    }

    fn chance(&mut self, probability: f32) -> bool {
        self.f32() < probability
    }

    fn normal(&mut self) -> f32 {
        // Four numbers of 16 bits from one draw: their sum is a bell, and cheap for every pixel.
        let bits = self.u64(..);
        let sum = (bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48);
        (sum as f32 / 65535.0 - 2.0) * 1.732
    }

    fn colour(&mut self) -> Colour {
        [self.f32(), self.f32(), self.f32()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_are_equal_sequences_and_neighbours_are_not() {
        let sequence = |seed| generator(seed).colour();
        assert_eq!(sequence(7), sequence(7));
        let [a, b] = [sequence(0), sequence(1)];
        assert!((0..3).all(|index| (a[index] - b[index]).abs() > 1e-3), "{a:?} {b:?}");
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut rng = generator(1);
        let drawn: Vec<f32> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / drawn.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(drawn.iter().all(|x| x.abs() < 3.5));
    }

    #[test]
    fn sizes_stay_in_their_range() {
        let mut rng = generator(2);
        assert!((0..1000).map(|_| rng.scaled(3.0, 90.0)).all(|x| (3.0..=90.0001).contains(&x)));
    }
}
