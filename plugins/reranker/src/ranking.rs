//! Scores and their order.
//!
//! Owns cosine and the answer's shape. Refuses to know where vectors come from.

use std::cmp::Ordering;

use serde::Serialize;
use tenon_sdk::Rows;

use crate::question::Question;

/// The answer to the caller.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) results: Vec<Ranked>,
    pub(crate) model: String,
    pub(crate) usage: Usage,
}

/// What the question cost.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) tokens: u64,
}

/// One document's place in the order.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ranked {
    pub(crate) index: usize,
    pub(crate) relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) document: Option<Document>,
}

/// A document as it is given back, whatever the shape in which it came.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Document {
    pub(crate) text: String,
}

/// The best documents first; equal ones in the caller's order. `vectors` has the query's row,
/// then one for each document.
///
/// Panics, which traps, if the model did not give one finite vector for each text: to answer
/// anyway would be to make up an order.
pub(crate) fn rank(question: &Question, vectors: &Rows<f32>) -> Vec<Ranked> {
    let asked = question.documents.len() + 1;
    assert_eq!(vectors.len(), asked, "the model gave {} vectors for {asked} texts", vectors.len());
    let mut rows = vectors.iter();
    let query = rows.next().unwrap_or_default();
    let mut scores: Vec<(usize, f32)> = rows.map(|document| cosine(query, document)).enumerate().collect();
    let odd = scores.iter().find(|(_, score)| !score.is_finite());
    assert!(odd.is_none(), "the model gave a vector that is not finite: {odd:?}");
    scores.sort_by(best_first);
    scores.truncate(question.top_n);
    scores.into_iter().map(|(index, score)| ranked(question, index, score)).collect()
}

fn best_first(left: &(usize, f32), right: &(usize, f32)) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

fn ranked(question: &Question, index: usize, relevance_score: f32) -> Ranked {
    let wanted = question.return_documents;
    let document = wanted.then(|| Document { text: question.documents[index].clone() });
    Ranked { index, relevance_score, document }
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
    use tenon_sdk::Tensor;

    fn question(documents: usize, top_n: usize, return_documents: bool) -> Question {
        let documents = (0..documents).map(|index| format!("document {index}")).collect();
        Question { query: "q".to_owned(), documents, top_n, return_documents }
    }

    fn vectors(rows: &[[f32; 2]]) -> Rows<f32> {
        Tensor::fixed(&[rows.len() as u64, 2], rows.as_flattened()).unwrap().rows().unwrap()
    }

    #[test]
    fn the_best_come_first_and_equal_ones_in_order() {
        let vectors = vectors(&[[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]);
        let ranked = rank(&question(5, 5, false), &vectors);
        let order: Vec<(usize, f32)> = ranked.iter().map(|r| (r.index, r.relevance_score)).collect();
        assert_eq!(order, [(1, 1.0), (3, 1.0), (0, 0.0), (4, 0.0), (2, -1.0)]);
    }

    #[test]
    fn only_so_many_and_with_their_texts() {
        let ranked = rank(&question(2, 1, true), &vectors(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]));
        let text = "document 1".to_owned();
        let relevance_score = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(ranked, [Ranked { index: 1, relevance_score, document: Some(Document { text }) }]);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn an_order_is_never_made_up() {
        rank(&question(1, 1, false), &vectors(&[[1.0, 0.0], [f32::NAN, 1.0]]));
    }

    #[test]
    #[should_panic(expected = "the model gave 2 vectors for 3 texts")]
    fn every_text_has_a_vector() {
        rank(&question(2, 2, false), &vectors(&[[1.0, 0.0], [0.0, 1.0]]));
    }
}
