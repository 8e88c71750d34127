//! What a mask costs: each pixel's surprise, more where two cells touch, and the overlap of the whole. Owns that sum.

use tch::{Kind, Reduction, TchError, Tensor};

/// What a gap's pixel counts more than another: gaps are few, and cells could not be counted without.
pub(super) const GAP_WEIGHT: f64 = 2.0;
/// How much the overlap counts beside the pixels.
const OVERLAP_WEIGHT: f64 = 1.0;

/// One number for `[rows, height, width]` of logits, truth (0 or 1) and weights.
pub(super) fn loss(logits: &Tensor, cells: &Tensor, weights: &Tensor) -> Result<Tensor, TchError> {
    let pixels = logits.f_binary_cross_entropy_with_logits(cells, Some(weights), None::<&Tensor>, Reduction::Mean)?;
    let probability = logits.f_sigmoid()?;
    // Over the batch, not each picture: a picture without cells has no overlap to speak of.
    let common = probability.f_mul(cells)?.f_sum(Kind::Float)?;
    let all = probability.f_sum(Kind::Float)?.f_add(&cells.f_sum(Kind::Float)?)?;
    let apart = common.f_mul_scalar(-2.0)?.f_div(&all.f_add_scalar(1.0)?)?.f_add_scalar(1.0)?;
    pixels.f_add(&apart.f_mul_scalar(OVERLAP_WEIGHT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_masks_cost_nearly_nothing_and_gaps_cost_more() {
        let cells = Tensor::from_slice(&[1.0_f32, 0.0, 0.0, 1.0]).view([1, 2, 2]);
        let even = cells.ones_like();
        let of = |logits: &Tensor, weights: &Tensor| loss(logits, &cells, weights).unwrap().double_value(&[]);
        let right = (&cells - 0.5) * 20.0;
        assert!(of(&right, &even) < 0.3 && of(&-&right, &even) > 5.0);
        let gap = Tensor::from_slice(&[1.0_f32, 5.0, 1.0, 1.0]).view([1, 2, 2]);
        let wrong_there = Tensor::from_slice(&[10.0_f32, 10.0, -10.0, 10.0]).view([1, 2, 2]);
        assert!(of(&wrong_there, &gap) > of(&wrong_there, &even) * 3.0);
    }
}
