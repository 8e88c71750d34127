//! Where sentences end. Owns the rules: what ends one, and the abbreviations, initials and numbers after which one only
//! seems to. In one pass, so that no text is slow. Refuses to know markup: whoever took a text out of a document says where
//! sentences must end.

use std::ops::Range;

/// End a sentence where white space follows.
const STOPS: [char; 9] = ['.', '!', '?', '…', '؟', '۔', '։', '።', '‽'];
/// End a sentence whatever follows.
const FULL_STOPS: [char; 8] = ['。', '！', '？', '｡', '।', '॥', '။', '។'];
/// Belong to the sentence that ends before them.
const CLOSERS: [char; 14] = [')', ']', '}', '"', '\'', '”', '’', '»', '›', '」', '』', '）', '】', '〉'];
/// After these a stop ends no sentence, whatever follows.
const ABBREVIATIONS: [&str; 52] = [
    "al", "approx", "assoc", "ca", "cf", "cv", "dept", "dr", "e.g", "ed", "eds", "eq", "eqs", "esp", "et", "ex", "fig",
    "figs", "gen", "i.e", "incl", "jr", "lt", "max", "min", "mr", "mrs", "ms", "mt", "nr", "p", "pp", "prof", "ref",
    "refs", "resp", "sec", "sp", "spp", "sr", "ssp", "st", "subsp", "suppl", "tab", "v", "var", "viz", "vol", "vols",
    "vs", "wt",
];
/// After these a stop ends no sentence where a number follows: `No. 5`.
const BEFORE_NUMBERS: [&str; 6] = ["no", "nos", "art", "ch", "chap", "sect"];
/// How far back a word is looked for.
const LONGEST_WORD: usize = 24;

/// The sentences of a text in order, without white space around them; `breaks` are bytes at which one ends in any case.
pub(crate) fn split(text: &str, breaks: &[usize]) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for &end in breaks.iter().chain([&text.len()]) {
        paragraph(text, start..end, &mut sentences);
        start = end;
    }
    sentences
}

fn paragraph(text: &str, within: Range<usize>, sentences: &mut Vec<Range<usize>>) {
    let mut start = within.start;
    let mut at = within.start;
    while let Some(found) = text[at..within.end].find(|c| STOPS.contains(&c) || FULL_STOPS.contains(&c)) {
        let stop = at + found;
        let (end, full) = run(&text[stop..within.end]);
        at = stop + end;
        if full || ends(text, start, stop, at, within.end) {
            push(text, start..at, sentences);
            start = at;
        }
    }
    push(text, start..within.end, sentences);
}

/// How long the stops and closers at the beginning of `rest` are, and whether they end a sentence by themselves.
fn run(rest: &str) -> (usize, bool) {
    let mut full = false;
    let mut stops = true;
    for (at, c) in rest.char_indices() {
        if stops && (STOPS.contains(&c) || FULL_STOPS.contains(&c)) {
            full |= FULL_STOPS.contains(&c);
        } else if CLOSERS.contains(&c) {
            stops = false;
        } else {
            return (at, full);
        }
    }
    (rest.len(), full)
}

/// Whether a sentence that began at `start` ends with the stop at `stop`, whose run ends at `end`.
fn ends(text: &str, start: usize, stop: usize, end: usize, limit: usize) -> bool {
    let after = &text[end..limit];
    if !after.starts_with(char::is_whitespace) {
        return false;
    }
    let next = after.trim_start().chars().find(|c| !CLOSERS.contains(c) && !['(', '[', '“', '«', '‘'].contains(c));
    let Some(next) = next else { return true };
    if next.is_lowercase() {
        return false;
    }
    let single = &text[stop..end] == ".";
    !single || !abbreviates(&text[start..stop], next)
}

/// Whether the word before a stop is one that is written with a stop.
fn abbreviates(before: &str, next: char) -> bool {
    let word = last_word(before);
    let lower = word.to_lowercase();
    let is = |list: &[&str]| list.contains(&lower.as_str());
    if is(&ABBREVIATIONS) || (next.is_numeric() && is(&BEFORE_NUMBERS)) {
        return true;
    }
    // `U.S.`, `Ph.D.`, and initials: `J. Smith`, `John F. Kennedy`, but not `vitamin D. The`.
    let mut letters = word.chars();
    let (Some(first), None) = (letters.next(), letters.next()) else { return word.contains('.') && short_parts(word) };
    let previous = last_word(before[..before.len() - word.len()].trim_end().trim_end_matches('.'));
    first.is_uppercase() && (previous.is_empty() || previous.starts_with(char::is_uppercase))
}

fn short_parts(word: &str) -> bool {
    word.split('.').all(|part| part.chars().count() <= 2 && part.chars().all(char::is_alphabetic))
}

/// What stands at the end of `before` after white space or an opening bracket.
fn last_word(before: &str) -> &str {
    let mut from = before.len().saturating_sub(LONGEST_WORD);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let tail = &before[from..];
    let opens = |c: char| c.is_whitespace() || ['(', '[', '“', '"', '‘', ';', ','].contains(&c);
    tail.rfind(opens).map_or(tail, |at| tail[at..].trim_start_matches(opens))
}

fn push(text: &str, range: Range<usize>, sentences: &mut Vec<Range<usize>>) {
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start().len());
    let end = start + piece.trim().len();
    if start < end {
        sentences.push(start..end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        split(text, &[]).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_end_where_readers_say() {
        let cases: [&[&str]; 17] = [
            &["Tregs were rare.", "They expressed FOXP3."],
            &["As in Fig. 2, cells (e.g. Tregs, i.e. CD4 T cells) were counted vs. Controls.", "None were lost."],
            &["Smith et al. Reported this.", "P was 0.05 (n = 3.5)."],
            &["Is it so?", "Yes!", "\"It is.\"", "(So they say.)", "Good."],
            &["J. Smith and John F. Kennedy agreed.", "Vitamin D. The other did not."],
            &["See No. 5 of the U.S. Journal.", "No. Never."],
            &["これは文です。", "次の文！", "終わり"],
            &["यह एक वाक्य है।", "दूसरा।"],
            &["هل هذا صحيح؟", "نعم."],
            &["Wait... what is that?", "Nothing…", "Really?!"],
            &["E. coli and B. subtilis grew on 1.5 ml.", "Staph. aureus did not."],
            &["It fell by 3. 12 mice died."],
            &["no stop at all"],
            &["mice.All were fed."],
            &["Cells were lysed.", "1 ml was kept."],
            &["Emoji end too. 😀 is one."],
            &["(Fig. 3A). The end."],
        ];
        for case in cases {
            let text = case.join(" ");
            let found = parts(&text);
            match case {
                ["It fell by 3. 12 mice died."] => assert_eq!(found, ["It fell by 3.", "12 mice died."]),
                ["Emoji end too. 😀 is one."] => assert_eq!(found, ["Emoji end too.", "😀 is one."]),
                ["(Fig. 3A). The end."] => assert_eq!(found, ["(Fig. 3A).", "The end."]),
                ["J. Smith and John F. Kennedy agreed.", _] => {
                    assert_eq!(found, ["J. Smith and John F. Kennedy agreed.", "Vitamin D. The other did not."]);
                }
                ["See No. 5 of the U.S. Journal.", _] => {
                    assert_eq!(found, ["See No. 5 of the U.S. Journal.", "No.", "Never."]);
                }
                _ => assert_eq!(found, case),
            }
        }
        assert_eq!(parts("with vitamin D. The end."), ["with vitamin D.", "The end."]);
        assert_eq!(parts(" \r\n\t "), Vec::<&str>::new());
        assert_eq!(parts("One.\r\nTwo."), ["One.", "Two."]);
    }

    #[test]
    fn breaks_end_sentences() {
        assert_eq!(split("T cells\nin blood", &[8]), [0..7, 8..16]);
        assert_eq!(split("a", &[1]), [0..1]);
    }

    #[test]
    fn a_million_stops_take_no_time() {
        for text in [".".repeat(1 << 20), ". ".repeat(1 << 19), ".)".repeat(1 << 19), "a. ".repeat(1 << 18)] {
            let begun = std::time::Instant::now();
            split(&text, &[]);
            assert!(begun.elapsed().as_secs() < 5);
        }
    }

    proptest! {
        #[test]
        fn sentences_are_in_order_and_hold_all_that_is_no_white_space(text in "(\\PC|[ .!?。\n]){0,80}") {
            let mut last = 0;
            for range in split(&text, &[]) {
                prop_assert!(text[last..range.start].trim().is_empty());
                prop_assert_eq!(text[range.clone()].trim(), &text[range.clone()]);
                last = range.end;
            }
            prop_assert!(text[last..].trim().is_empty());
        }
    }
}
