//! From the model's scores to spans. Owns the formulae: tokens to words, words to spans, and how sure each is. Pure.
//!
//! For each token, softmax over the model's labels; what a kind has is the sum of its B and its I, what nothing has is O.
//! A word (the tokenizer's pieces of it) has the mean over its tokens, and is what has most. Neighbouring words of a kind are
//! one span, unless a sentence ends between them or the second begins anew: its first token has more for B than for I. A
//! span's confidence is the mean over its words of what its kind has.

use std::ops::Range;

use crate::pieces::same_word;

/// What one token may be: for nothing and for each kind, and whether it begins one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likely {
    /// O, then each kind.
    shares: Vec<f32>,
    begins: bool,
}

/// A marked part of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// In bytes of the text.
    pub(crate) range: Range<usize>,
    /// Which kind, in the model's order.
    pub(crate) kind: usize,
    pub(crate) confidence: f32,
    /// The sentence that holds it.
    pub(crate) sentence: usize,
}

impl Likely {
    /// Of one token's scores: O, then B and I of each kind. None if one is not a finite number.
    pub(crate) fn of(scores: &[f32]) -> Option<Self> {
        if !scores.iter().all(|score| score.is_finite()) {
            return None;
        }
        let highest = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| (score - highest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        let mut shares = vec![powers[0] / sum];
        let kinds = powers[1..].chunks(2);
        shares.extend(kinds.clone().map(|pair| pair.iter().sum::<f32>() / sum));
        let kind = highest_of(&shares[1..]);
        let begins = kinds.clone().nth(kind).is_some_and(|pair| pair[0] > *pair.get(1).unwrap_or(&0.0));
        Some(Self { shares, begins })
    }
}

fn highest_of(shares: &[f32]) -> usize {
    let best = (0..shares.len()).rev().max_by(|a, b| shares[*a].total_cmp(&shares[*b]));
    best.unwrap_or(0)
}

/// One word: its place and what it most likely is.
struct Word {
    range: Range<usize>,
    kind: usize,
    share: f32,
    begins: bool,
    sentence: Option<usize>,
}

/// The spans of a text; `offsets` has the bytes of each token, in order, `sentences` the sentences, in order.
pub(crate) fn spans(
    text: &str,
    offsets: &[(usize, usize)],
    tokens: &[Likely],
    sentences: &[Range<usize>],
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut shares: Vec<f32> = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for word in words(text, offsets, tokens, sentences) {
        let Some(sentence) = word.sentence.filter(|_| word.kind > 0) else {
            open = None;
            continue;
        };
        let goes_on = open == Some((word.kind, sentence)) && !word.begins;
        // A word is never split, but a sentence may end inside of one that the tokenizer takes for one.
        let within = &sentences[sentence];
        let range = word.range.start.max(within.start)..word.range.end.min(within.end);
        match spans.last_mut() {
            Some(last) if goes_on => {
                last.range.end = range.end.max(last.range.end);
                shares.push(word.share);
                last.confidence = mean(&shares);
            }
            _ => {
                shares.clear();
                shares.push(word.share);
                spans.push(Span { range, kind: word.kind - 1, confidence: word.share, sentence });
            }
        }
        open = Some((word.kind, sentence));
    }
    spans
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64) as f32
}

/// The words that the tokens are of.
fn words<'a>(
    text: &'a str,
    offsets: &'a [(usize, usize)],
    tokens: &'a [Likely],
    sentences: &'a [Range<usize>],
) -> impl Iterator<Item = Word> + 'a {
    let mut at = 0;
    let mut sentence = 0;
    std::iter::from_fn(move || {
        let &(start, _) = offsets.get(at)?;
        let mut next = at + 1;
        while offsets.get(next).is_some_and(|&(start, _)| same_word(text, offsets[next - 1].1, start)) {
            next += 1;
        }
        let range = start..offsets[at..next].iter().map(|(_, end)| *end).max()?;
        while sentences.get(sentence).is_some_and(|candidate| candidate.end <= range.start) {
            sentence += 1;
        }
        let inside = sentences.get(sentence).is_some_and(|candidate| candidate.start < range.end);
        let word = word(&tokens[at..next], range, inside.then_some(sentence));
        at = next;
        Some(word)
    })
}

fn word(tokens: &[Likely], range: Range<usize>, sentence: Option<usize>) -> Word {
    let mut shares = vec![0.0; tokens[0].shares.len()];
    for token in tokens {
        for (sum, share) in shares.iter_mut().zip(&token.shares) {
            *sum += share / tokens.len() as f32;
        }
    }
    let kind = highest_of(&shares);
    Word { range, kind, share: shares[kind].clamp(0.0, 1.0), begins: tokens[0].begins, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores whose softmax gives `share` to `label` of five: O, B, I, B, I.
    fn token(label: usize, share: f32) -> Likely {
        let mut scores = [((1.0 - share) / 4.0).ln(); 5];
        scores[label] = share.ln();
        Likely::of(&scores).unwrap()
    }

    fn found(text: &str, tokens: &[(usize, usize, usize)], sentences: &[Range<usize>]) -> Vec<(String, usize, usize)> {
        let offsets: Vec<_> = tokens.iter().map(|(start, end, _)| (*start, *end)).collect();
        let likely: Vec<_> = tokens.iter().map(|(_, _, label)| token(*label, 0.9)).collect();
        let spans = spans(text, &offsets, &likely, sentences);
        spans.into_iter().map(|span| (text[span.range].to_owned(), span.kind, span.sentence)).collect()
    }

    fn span(text: &str, kind: usize, sentence: usize) -> (String, usize, usize) {
        (text.to_owned(), kind, sentence)
    }

    #[test]
    fn words_are_whole_and_spans_are_words() {
        // fox ##p3 + t cells: the second piece of the word is told by the first two together.
        let text = "FOXP3+ T cells";
        let tokens = [(0, 3, 3), (3, 5, 3), (5, 6, 0), (7, 8, 1), (9, 14, 2)];
        assert_eq!(found(text, &tokens, &[0..14]), [span("FOXP3", 1, 0), span("T cells", 0, 0)]);
    }

    #[test]
    fn spans_end_with_sentences_and_where_another_begins() {
        let text = "T cells. Cells B cells";
        let tokens = [(0, 1, 1), (2, 7, 2), (7, 8, 2), (9, 14, 2), (15, 16, 1), (17, 22, 2)];
        let wanted = [span("T cells.", 0, 0), span("Cells", 0, 1), span("B cells", 0, 1)];
        assert_eq!(found(text, &tokens, &[0..8, 9..22]), wanted);
        assert_eq!(found(text, &tokens, &[0..7, 9..22])[0], span("T cells", 0, 0));
        assert_eq!(found(text, &tokens, &[]), []);
    }

    #[test]
    fn confidence_is_the_mean_over_words() {
        let text = "NK cells";
        let likely = [token(1, 0.9), token(2, 0.7)];
        let spans = spans(text, &[(0, 2), (3, 8)], &likely, std::slice::from_ref(&(0..8)));
        // Of what is left to each label a kind has two halves: B and I.
        let wanted = ((0.9 + 0.1 / 4.0) + (0.7 + 0.3 / 4.0)) / 2.0;
        assert!((spans[0].confidence - wanted).abs() < 1e-6, "{spans:?}");
    }

    #[test]
    fn what_is_no_number_is_told() {
        assert_eq!(Likely::of(&[0.0, f32::NAN, 0.0]), None);
        assert_eq!(Likely::of(&[0.0, f32::INFINITY, 0.0]), None);
        assert!(Likely::of(&[-3e38, 3e38, 0.0]).is_some());
    }
}
