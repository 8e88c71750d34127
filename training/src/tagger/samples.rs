//! Held-out texts and what is to be found in them, for tests and examples outside of this program: places in characters, as
//! the service tells them. Owns the file's form.

use std::{fs, io::Write, path::Path};

use anyhow::Context;
use serde_json::json;

use super::{
    examples::texts,
    natural,
    sentences::{Marked, Source},
};

/// Texts of each kind, except those written by hand.
const TEXTS: usize = 300;
const SEED: u64 = 99;

/// Writes `tagger.jsonl` into the folder `to`: a line `{"kind", "text", "spans": [{"start", "end", "label"}]}` for each text.
pub(crate) fn samples(to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let kinds = [
        ("unseen_templates", texts(Source::UnseenTemplates, TEXTS, 1, SEED)?),
        ("unseen_templates_long", texts(Source::UnseenTemplates, TEXTS / 20, 60, SEED + 1)?),
        ("unseen_templates_and_names", texts(Source::UnseenNames, TEXTS, 1, SEED + 2)?),
        ("written_by_hand", natural::texts()?),
    ];
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    let lines = kinds.iter().flat_map(|(kind, texts)| texts.iter().map(|text| line(kind, text) + "\n"));
    let file = to.join("tagger.jsonl");
    fs::write(&file, lines.collect::<String>()).with_context(|| format!("writing {}", file.display()))?;
    writeln!(out, "samples of tagger: written to {}", file.display())?;
    Ok(())
}

fn line(kind: &str, text: &Marked) -> String {
    let characters = |byte: usize| text.text[..byte].chars().count();
    let spans: Vec<_> = text
        .marks
        .iter()
        .map(|mark| json!({ "start": characters(mark.start), "end": characters(mark.end), "label": mark.kind.name() }))
        .collect();
    json!({ "kind": kind, "text": text.text, "spans": spans }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_characters() {
        let texts = natural::texts().unwrap();
        let text = texts.iter().find(|text| text.text.contains("RORγt")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line("x", text)).unwrap();
        let characters: Vec<char> = text.text.chars().collect();
        for (mark, span) in text.marks.iter().zip(line["spans"].as_array().unwrap()) {
            let place = |key: &str| span[key].as_u64().unwrap() as usize;
            let told: String = characters[place("start")..place("end")].iter().collect();
            assert_eq!(told, text.text[mark.start..mark.end]);
        }
    }
}
