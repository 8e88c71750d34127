//! Generated microscopy: cells in several looks (fluorescence, phase, brightfield, smears, stained tissue, and discs in
//! relief such as coins), uneven light, blur, noise, dirt; and which pixels are cell. Owns what a specimen is; refuses
//! to know models. Pure: a seed and a size are a specimen.

mod arrangement;
mod cell;
mod degrade;
mod looks;
mod paint;
mod tissue;

use crate::picture::{Picture, generator};
use arrangement::Arrangement;
pub(crate) use arrangement::Ground;
use looks::Look;

/// A picture, and what each of its pixels is.
#[derive(Debug, PartialEq)]
pub(crate) struct Specimen {
    pub(crate) picture: Picture,
    /// Row by row.
    pub(crate) ground: Vec<Ground>,
    /// Cells of which something is seen.
    pub(crate) cells: usize,
}

impl Specimen {
    /// The specimen of a seed, `width` x `height` pixels.
    pub(crate) fn new(seed: u64, width: usize, height: usize) -> Self {
        let mut rng = generator(seed);
        let look = Look::drawn(&mut rng);
        let strewing = look.strewing(&mut rng);
        let arrangement = Arrangement::new(&mut rng, (width, height), &strewing);
        let mut picture = look.paint(&mut rng, &arrangement);
        let grey = look.is_grey(&mut rng);
        degrade::degrade(&mut rng, &mut picture, grey);
        Self { picture, ground: arrangement.ground(), cells: arrangement.cells.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_specimen() {
        assert_eq!(Specimen::new(3, 64, 48), Specimen::new(3, 64, 48));
        assert_ne!(Specimen::new(3, 64, 48).picture, Specimen::new(4, 64, 48).picture);
    }

    #[test]
    fn truth_fits_the_picture_and_cells_differ_from_what_is_beside() {
        let (mut told, mut covered) = (0, 0.0);
        for seed in 0..40 {
            let specimen = Specimen::new(seed, 96, 96);
            assert_eq!((specimen.ground.len(), specimen.picture.values.len()), (96 * 96, 3 * 96 * 96));
            assert!(specimen.picture.values.iter().all(|value| (0.0..=1.0).contains(value)), "seed {seed}");
            let mean = |kind: Ground| {
                let pixels: Vec<_> = (0..96 * 96).filter(|pixel| specimen.ground[*pixel] == kind).collect();
                let sum: f32 = pixels.iter().map(|pixel| specimen.picture.at(*pixel).iter().sum::<f32>()).sum();
                (sum / (3 * pixels.len()).max(1) as f32, pixels.len())
            };
            let ((cell, cells), (beside, besides)) = (mean(Ground::Cell), mean(Ground::Beside));
            covered += cells as f32 / 9216.0 / 40.0;
            if cells > 200 && besides > 200 && (cell - beside).abs() > 0.02 {
                told += 1;
            }
        }
        assert!(told > 20 && (0.1..0.7).contains(&covered), "{told} {covered}");
    }
}
