//! Scores and their order.
//!
//! Owns cosine and what is made of it. Refuses to know where vectors come from and how an answer
//! is written.

use std::cmp::Ordering;

use crate::question::Question;

/// One document's place in the order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) index: usize,
    pub(crate) score: f32,
}

/// The best documents first; equal ones in the caller's order. `vectors` has the query's row,
/// then one for each document.
///
/// Panics, which traps, if the model did not give one finite vector for each text: to answer
/// anyway would be to make up an order.
pub(crate) fn rank(question: &Question, vectors: &[&[f32]]) -> Vec<Ranked> {
    let asked = question.documents.len() + 1;
    assert_eq!(vectors.len(), asked, "the model gave {} vectors for {asked} texts", vectors.len());
    let (query, documents) = vectors.split_first().expect("there is one more than there are documents");
    let scored = documents.iter().map(|document| cosine(query, document)).enumerate();
    let mut ranked: Vec<Ranked> = scored.map(|(index, score)| Ranked { index, score }).collect();
    let odd = ranked.iter().find(|ranked| !ranked.score.is_finite());
    assert!(odd.is_none(), "the model gave a vector that is not finite: {odd:?}");
    ranked.sort_by(best_first);
    ranked.truncate(question.top_n);
    if question.normalized {
        ranked.iter_mut().for_each(|ranked| ranked.score = normalized(ranked.score));
    }
    ranked
}

fn best_first(left: &Ranked, right: &Ranked) -> Ordering {
    right.score.total_cmp(&left.score).then(left.index.cmp(&right.index))
}

/// A cosine as 0 to 1. It keeps the order, and is no probability: an encoder's cosines of
/// unrelated texts are near 0, which becomes 0.5.
fn normalized(cosine: f32) -> f32 {
    (1.0 + cosine) / 2.0
}

/// The cosine of two vectors, -1 to 1; 0 if one of them has no direction.
///
/// Summed in f64 and divided by the lengths even where the model normalises: the score is
/// then a cosine for any encoder bound to this plugin.
fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let lengths = (dot(left, left) * dot(right, right)).sqrt();
    // `-0.0` would sort below `0.0` and read oddly.
    if lengths == 0.0 { 0.0 } else { (dot(left, right) / lengths).clamp(-1.0, 1.0) as f32 + 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Dialect, question::Longer};

    fn question(documents: usize, top_n: usize, normalized: bool) -> Question {
        Question {
            dialect: Dialect::Own,
            id: String::new(),
            query: "q".to_owned(),
            documents: (0..documents).map(|index| format!("document {index}")).collect(),
            given: None,
            top_n,
            return_documents: false,
            normalized,
            max_tokens: (256, 256),
            longer: Longer::Cut,
        }
    }

    fn ranked(question: &Question, vectors: &[[f32; 2]]) -> Vec<(usize, f32)> {
        let vectors: Vec<&[f32]> = vectors.iter().map(|vector| &vector[..]).collect();
        rank(question, &vectors).into_iter().map(|ranked| (ranked.index, ranked.score)).collect()
    }

    #[test]
    fn the_best_come_first_and_equal_ones_in_order() {
        let vectors = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]];
        let raw = ranked(&question(5, 5, false), &vectors);
        assert_eq!(raw, [(1, 1.0), (3, 1.0), (0, 0.0), (4, 0.0), (2, -1.0)]);
        let normalized = ranked(&question(5, 5, true), &vectors);
        assert_eq!(normalized, [(1, 1.0), (3, 1.0), (0, 0.5), (4, 0.5), (2, 0.0)]);
    }

    #[test]
    fn only_so_many() {
        let best = ranked(&question(2, 1, false), &[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
        assert_eq!(best, [(1, std::f32::consts::FRAC_1_SQRT_2)]);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn an_order_is_never_made_up() {
        ranked(&question(1, 1, true), &[[1.0, 0.0], [f32::NAN, 1.0]]);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn nor_of_a_query_without_end() {
        ranked(&question(1, 1, false), &[[f32::INFINITY, 0.0], [0.5, 1.0]]);
    }

    #[test]
    #[should_panic(expected = "the model gave 2 vectors for 3 texts")]
    fn every_text_has_a_vector() {
        ranked(&question(2, 2, false), &[[1.0, 0.0], [0.0, 1.0]]);
    }
}
