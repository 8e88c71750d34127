//! From tags of tokens to spans of characters.

use serde::Serialize;

/// The tag of a token that is nothing in particular.
const OUTSIDE: i64 = 0;

/// A marked part of the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Span {
    /// The first character, and the one after the last.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) tag: i64,
    /// The least sure of its tokens.
    pub(crate) score: f32,
}

/// Joins neighbouring tokens of one tag. `offsets` has start and end in bytes for each token,
/// 0 and 0 for the special ones.
pub(crate) fn join(text: &str, offsets: &[u32], tags: &[i64], scores: &[f32]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut previous = OUTSIDE;
    let (offsets, _) = offsets.as_chunks::<2>();
    for ((&[start, end], &tag), &score) in offsets.iter().zip(tags).zip(scores) {
        if tag == OUTSIDE || start == end {
            previous = OUTSIDE;
            continue;
        }
        let end = characters(text, end);
        match spans.last_mut() {
            Some(last) if previous == tag => {
                last.end = end;
                last.score = last.score.min(score);
            }
            _ => spans.push(Span { start: characters(text, start), end, tag, score }),
        }
        previous = tag;
    }
    spans
}

/// How many characters begin before this byte.
fn characters(text: &str, byte: u32) -> usize {
    text.char_indices().take_while(|(index, _)| *index < byte as usize).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_tag_join_and_bytes_become_characters() {
        // "Zoë met Ada Lovelace": `ë` has two bytes.
        let text = "Zoë met Ada Lovelace";
        let offsets = [0, 0, 0, 4, 5, 8, 9, 12, 13, 17, 17, 21, 0, 0];
        let tags = [0, 1, 0, 1, 1, 1, 0];
        let scores = [1.0, 0.9, 1.0, 0.8, 0.7, 0.95, 1.0];
        let spans = join(text, &offsets, &tags, &scores);
        let wanted = [Span { start: 0, end: 3, tag: 1, score: 0.9 }, Span { start: 8, end: 20, tag: 1, score: 0.7 }];
        assert_eq!(spans, wanted);
    }
}
