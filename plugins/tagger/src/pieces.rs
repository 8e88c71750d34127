//! Texts in pieces that the tokenizer takes whole. `text.encode` makes rows of at most as many tokens as the model has
//! places; a document has more. Owns where a text may be cut so that the tokens are those of the whole: where the
//! tokenizer itself cuts before it looks for words.

use std::ops::Range;

use unicode_categories::UnicodeCategories;

/// A piece of so many characters has at most 510 tokens: a character comes apart into four at most (NFD), and each of
/// those is a token at most.
pub(crate) const PIECE_CHARACTERS: usize = 126;

/// What a character is to BERT's tokenizer before it looks for words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Parts words, and is no token.
    Space,
    /// Is a token of its own: punctuation, Chinese.
    Alone,
    /// Part of a word, or removed.
    Word,
}

fn class(c: char) -> Class {
    // Removed before white space is looked for, although Unicode calls some of them white space.
    let removed = c.is_control() && !['\t', '\n', '\r'].contains(&c);
    if c.is_whitespace() && !removed {
        Class::Space
    } else if c.is_ascii_punctuation() || c.is_punctuation() || is_chinese(c) {
        Class::Alone
    } else {
        Class::Word
    }
}

/// The blocks that BERT's tokenizer takes for Chinese; all of them, as this decides where a text may be cut.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c), 0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// Whether two neighbouring characters can be part of one word.
fn joined(before: char, after: char) -> bool {
    class(before) == Class::Word && class(after) == Class::Word
}

/// Whether the token that ends at `end` and the one that begins at `start` are of one word.
pub(crate) fn same_word(text: &str, end: usize, start: usize) -> bool {
    if start < end {
        // Tokens of one character that came apart.
        return true;
    }
    let (before, between, after) = (&text[..end], &text[end..start], &text[start..]);
    let (Some(before), Some(after)) = (before.chars().next_back(), after.chars().next()) else { return false };
    joined(before, after) && between.chars().all(|c| class(c) == Class::Word)
}

/// The pieces of a text in order; all of it is in one of them. Longer than `PIECE_CHARACTERS` only where it cannot be cut.
pub(crate) fn cut(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut characters) = (0, 0);
    // The last place where the present piece may be cut, and how many characters it would have.
    let mut place: Option<(usize, usize)> = None;
    let mut before = None;
    for (at, c) in text.char_indices() {
        if before.is_some_and(|before| !joined(before, c)) {
            place = Some((at, characters));
        }
        if characters >= PIECE_CHARACTERS
            && let Some((end, taken)) = place.take()
        {
            pieces.push(start..end);
            (start, characters) = (end, characters - taken);
        }
        characters += 1;
        before = Some(c);
    }
    if start < text.len() {
        pieces.push(start..text.len());
    }
    pieces
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
