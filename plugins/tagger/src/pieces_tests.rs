//! Pieces against the tokenizer itself.

use proptest::prelude::*;
use tokenizers::Tokenizer;

use super::*;

/// The tokenizer of the model; none where `setup/minilm.py` has not run.
fn tokenizer() -> Option<Tokenizer> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tenon/minilm/tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(file).ok()?;
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    Some(tokenizer)
}

type Tokens = Vec<(u32, (usize, usize))>;

fn tokens(tokenizer: &Tokenizer, text: &str, from: usize) -> Tokens {
    let encoding = tokenizer.encode(text, false).unwrap();
    let offsets = encoding.get_offsets().iter().map(|(start, end)| (start + from, end + from));
    encoding.get_ids().iter().copied().zip(offsets).collect()
}

fn agree(tokenizer: &Tokenizer, text: &str) -> Result<(), TestCaseError> {
    let pieces = cut(text);
    let mut last = 0;
    let mut of_pieces = Tokens::new();
    for piece in pieces {
        prop_assert_eq!(piece.start, last);
        last = piece.end;
        of_pieces.extend(tokens(tokenizer, &text[piece.clone()], piece.start));
    }
    prop_assert_eq!(last, text.len());
    prop_assert_eq!(of_pieces, tokens(tokenizer, text, 0), "{:?}", text);
    Ok(())
}

/// What makes tokenizers differ.
const ODD: [&str; 28] = [
    " ",
    "\u{85}",
    "\u{b}",
    "\u{a0}",
    "\u{200b}",
    "\u{ad}",
    "\0",
    "\u{fffd}",
    "\u{301}",
    "\u{20dd}",
    "é",
    "ﬁ",
    "ß",
    "İ",
    "漢",
    "豈",
    "한",
    "ﷺ",
    "ก็",
    "क्षि",
    "😀",
    "👩\u{200d}🔬",
    "≠",
    ";",
    "…",
    "—",
    "\u{2028}",
    "\r\n",
];

#[test]
fn odd_texts_have_the_tokens_of_the_whole() {
    let Some(tokenizer) = tokenizer() else { return };
    for odd in ODD {
        for text in [odd.repeat(300), format!("a{odd}").repeat(200), format!("{odd} cell ").repeat(60)] {
            agree(&tokenizer, &text).unwrap();
        }
    }
    for text in ["", "a", &"a".repeat(1 << 20), &"regulatory T cells, ".repeat(500)] {
        agree(&tokenizer, text).unwrap();
    }
}

#[test]
fn what_can_be_cut_is_short_and_has_few_tokens() {
    for text in ["漢字".repeat(5000), "한국어 ".repeat(2000), "a, ".repeat(9000), "word ".repeat(900)] {
        let pieces = cut(&text);
        assert!(pieces.iter().all(|piece| text[piece.clone()].chars().count() <= PIECE_CHARACTERS));
        if let Some(tokenizer) = tokenizer() {
            assert!(pieces.iter().all(|piece| tokens(&tokenizer, &text[piece.clone()], 0).len() <= 510));
        }
    }
    assert_eq!(cut(&"x".repeat(100_000)).len(), 1);
}

#[test]
fn tokens_of_one_word_are_told() {
    let cases = [
        ("FOXP3", 3, 3, true),
        ("CD4+", 3, 3, false),
        ("a b", 1, 2, false),
        ("a\u{ad}b", 1, 3, true),
        ("漢字", 3, 3, false),
        ("한", 3, 0, true),
    ];
    for (text, end, start, wanted) in cases {
        assert_eq!(same_word(text, end, start), wanted, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pieces_have_the_tokens_of_the_whole(
        parts in prop::collection::vec(prop_oneof![
            "\\PC{1,40}", "[a-z]{1,60}", prop::sample::select(ODD.to_vec()).prop_map(str::to_owned),
        ], 0..60),
    ) {
        let text = parts.concat();
        match tokenizer() {
            Some(tokenizer) => agree(&tokenizer, &text)?,
            None => prop_assert_eq!(cut(&text).iter().map(Range::len).sum::<usize>(), text.len()),
        }
    }
}
