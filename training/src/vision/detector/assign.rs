//! Which cells answer for which shape, and the loss that follows. Owns both: cells are chosen by what the net already
//! thinks of them (class and overlap together), so that the cell that scores best is the one whose box is best.

use tch::{Kind, Reduction, TchError, Tensor};

/// Cells that answer for a shape.
const CELLS_PER_OBJECT: i64 = 10;
/// Weights of probability and overlap in the choice.
const SCORE_POWER: f64 = 0.5;
const OVERLAP_POWER: f64 = 4.0;
/// Weights of the two losses.
const BOX_WEIGHT: f64 = 5.0;
const CLASS_WEIGHT: f64 = 1.0;
const TINY: f64 = 1e-9;

/// The shapes of a batch, each picture's list filled up to the same length.
pub(super) struct Truth {
    /// FP32[rows, objects, 4]: left, top, right, bottom.
    pub(super) boxes: Tensor,
    /// INT64[rows, objects].
    pub(super) classes: Tensor,
    /// FP32[rows, objects]: 1 where there is one.
    pub(super) present: Tensor,
}

/// What a net says of a batch.
pub(super) struct Said<'a> {
    /// FP32[rows, 4, cells]: left, top, right, bottom.
    pub(super) boxes: &'a Tensor,
    /// FP32[rows, classes, cells]: logits.
    pub(super) classes: &'a Tensor,
    /// FP32[1, 2, cells].
    pub(super) middles: &'a Tensor,
}

/// The loss of a batch.
pub(super) fn loss(said: &Said<'_>, truth: &Truth) -> Result<Tensor, TchError> {
    let (scores, boxes) = tch::no_grad(|| targets(said, truth))?;
    let total = scores.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
    let classes = said.classes.f_binary_cross_entropy_with_logits(&scores, None::<&Tensor>, None, Reduction::Sum)?;
    let weight = scores.f_sum_dim_intlist([1_i64].as_slice(), false, Kind::Float)?;
    let apart = overlap(said.boxes, &boxes, 1)?.1.f_mul_scalar(-1)?.f_add_scalar(1)?;
    let boxes = apart.f_mul(&weight)?.f_sum(Kind::Float)?;
    classes.f_mul_scalar(CLASS_WEIGHT)?.f_add(&boxes.f_mul_scalar(BOX_WEIGHT)?)?.f_div(&total)
}

/// For each cell the scores that it should have, FP32[rows, classes, cells], and the box, FP32[rows, 4, cells].
fn targets(said: &Said<'_>, truth: &Truth) -> Result<(Tensor, Tensor), TchError> {
    let (rows, objects) = truth.classes.size2()?;
    let (_, classes, cells) = said.classes.size3()?;
    let index = truth.classes.f_unsqueeze(-1)?.f_expand([rows, objects, cells], false)?;
    let probability = said.classes.f_sigmoid()?.f_gather(1, &index, false)?;
    // FP32[rows, objects, 4, cells] by broadcasting.
    let wanted = truth.boxes.f_unsqueeze(-1)?;
    let overlap = overlap(&said.boxes.f_unsqueeze(1)?, &wanted, 2)?.0.f_clamp_min(0.0)?;
    let allowed = inside(said.middles, &wanted)?.f_mul(&truth.present.f_unsqueeze(-1)?)?;
    let fit = probability
        .f_pow_tensor_scalar(SCORE_POWER)?
        .f_mul(&overlap.f_pow_tensor_scalar(OVERLAP_POWER)?)?
        .f_add_scalar(TINY)?
        .f_mul(&allowed)?;
    let (best, at) = fit.f_topk(CELLS_PER_OBJECT, 2, true, false)?;
    let chosen = fit.f_zeros_like()?.f_scatter(2, &at, &best.f_gt(0.0)?.f_to_kind(Kind::Float)?)?;
    // A cell that several shapes want goes to the one it overlaps most.
    let claim = overlap.f_add_scalar(TINY)?.f_mul(&chosen)?;
    let (strongest, owner) = claim.f_max_dim(1, true)?;
    let owned = chosen.f_mul(&claim.f_eq_tensor(&strongest)?.f_to_kind(Kind::Float)?)?;
    // The best cell of a shape should score as high as its box is good, others in proportion.
    let most = |x: &Tensor| x.f_mul(&owned)?.f_amax([2_i64].as_slice(), true);
    let score = fit.f_mul(&owned)?.f_div(&most(&fit)?.f_add_scalar(TINY)?)?.f_mul(&most(&overlap)?)?;
    let score = score.f_amax([1_i64].as_slice(), true)?;
    let class = truth.classes.f_gather(1, &owner.f_squeeze_dim(1)?, false)?;
    let hot = score.f_new_zeros([rows, classes, cells], (Kind::Float, score.device()))?;
    let scores = hot.f_scatter(1, &class.f_unsqueeze(1)?, &score)?;
    let pick = owner.f_squeeze_dim(1)?.f_unsqueeze(-1)?.f_expand([rows, cells, 4], false)?;
    Ok((scores, truth.boxes.f_gather(1, &pick, false)?.f_transpose(1, 2)?))
}

/// 1 where a cell's middle lies in a shape's box.
fn inside(middles: &Tensor, boxes: &Tensor) -> Result<Tensor, TchError> {
    let middles = middles.f_unsqueeze(1)?;
    let low = middles.f_sub(&boxes.f_narrow(2, 0, 2)?)?;
    let high = boxes.f_narrow(2, 2, 2)?.f_sub(&middles)?;
    low.f_minimum(&high)?.f_amin([2_i64].as_slice(), false)?.f_gt(0.0)?.f_to_kind(Kind::Float)
}

/// Intersection over union of boxes whose four numbers lie along `axis`, and the generalised one, which also says how
/// far boxes are apart that do not meet.
fn overlap(one: &Tensor, other: &Tensor, axis: i64) -> Result<(Tensor, Tensor), TchError> {
    let edge = |boxes: &Tensor, index: i64| boxes.f_select(axis, index);
    let extent = |low: &Tensor, high: &Tensor| high.f_sub(low)?.f_clamp_min(0.0);
    let area = |boxes: &Tensor| {
        extent(&edge(boxes, 0)?, &edge(boxes, 2)?)?.f_mul(&extent(&edge(boxes, 1)?, &edge(boxes, 3)?)?)
    };
    let both = |index: i64, outer: bool| {
        let (a, b) = (edge(one, index)?, edge(other, index)?);
        if (index < 2) == outer { a.f_minimum(&b) } else { a.f_maximum(&b) }
    };
    let box_of =
        |outer: bool| extent(&both(0, outer)?, &both(2, outer)?)?.f_mul(&extent(&both(1, outer)?, &both(3, outer)?)?);
    let common = box_of(false)?;
    let union = area(one)?.f_add(&area(other)?)?.f_sub(&common)?.f_add_scalar(1e-6)?;
    let around = box_of(true)?.f_add_scalar(1e-6)?;
    let overlap = common.f_div(&union)?;
    let generalised = overlap.f_sub(&around.f_sub(&union)?.f_div(&around)?)?;
    Ok((overlap, generalised))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes(values: &[[f32; 4]]) -> Tensor {
        Tensor::from_slice(values.as_flattened()).view([values.len() as i64, 4])
    }

    #[test]
    fn overlaps_are_as_defined() {
        let (overlap, generalised) = overlap(
            &boxes(&[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]]),
            &boxes(&[[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]]),
            1,
        )
        .unwrap();
        assert!((overlap.double_value(&[0]) - 1.0 / 3.0).abs() < 1e-5);
        assert!((generalised.double_value(&[0]) - 1.0 / 3.0).abs() < 1e-5);
        assert_eq!(overlap.double_value(&[1]), 0.0);
        assert!((generalised.double_value(&[1]) + 1.0 / 3.0).abs() < 1e-5);
    }

    /// Twenty cells in a line, one shape over the first twelve, one row; the second shape is not there.
    fn example() -> (Tensor, Tensor, Tensor, Truth) {
        let middles: Vec<f32> = (0..20).map(|index| index as f32 * 10.0 + 5.0).chain([5.0; 20]).collect();
        let middles = Tensor::from_slice(&middles).view([1, 2, 20]);
        let cells: Vec<_> = (0..20).map(|_| [0.0, 0.0, 118.0, 10.0]).collect();
        let said = boxes(&cells).transpose(0, 1).unsqueeze(0);
        let logits = Tensor::zeros([1, 3, 20], tch::kind::FLOAT_CPU);
        let truth = Truth {
            boxes: boxes(&[[0.0, 0.0, 120.0, 10.0], [0.0, 0.0, 200.0, 10.0]]).unsqueeze(0),
            classes: Tensor::from_slice(&[2_i64, 0]).unsqueeze(0),
            present: Tensor::from_slice(&[1.0_f32, 0.0]).unsqueeze(0),
        };
        (said, logits, middles, truth)
    }

    #[test]
    fn ten_cells_within_the_shape_answer_for_it() {
        let (said, logits, middles, truth) = example();
        let said = Said { boxes: &said, classes: &logits, middles: &middles };
        let (scores, wanted) = targets(&said, &truth).unwrap();
        let count = scores.gt(0.5).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(count, 10);
        assert_eq!(scores.narrow(2, 12, 8).sum(Kind::Float).double_value(&[]), 0.0);
        assert_eq!(scores.narrow(1, 0, 2).sum(Kind::Float).double_value(&[]), 0.0);
        assert!((scores.max().double_value(&[]) - 118.0 / 120.0).abs() < 1e-4);
        assert_eq!(wanted.double_value(&[0, 2, 0]), 120.0);
    }

    #[test]
    fn a_right_answer_costs_less() {
        let (said, logits, middles, truth) = example();
        let of = |boxes: &Tensor, classes: &Tensor| {
            loss(&Said { boxes, classes, middles: &middles }, &truth).unwrap().double_value(&[])
        };
        let sure = Tensor::full([1, 3, 20], -6.0, tch::kind::FLOAT_CPU);
        let _ = sure.narrow(1, 2, 1).narrow(2, 0, 10).fill_(4.0);
        let start = of(&said, &logits);
        assert!(of(&said, &sure) < start / 2.0);
        assert!(of(&(&said + 40.0), &logits) > start);
    }
}
