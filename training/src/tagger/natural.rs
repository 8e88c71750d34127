//! Sentences that a person wrote, with marks in the text itself: `{cell:regulatory T cells}`. Neither their wording nor
//! all of their names come from the lists, so their figure says what the others cannot. Owns the notation.

use anyhow::{Context, bail};

use super::{
    names::{Kind, lines},
    sentences::{Mark, Marked},
};

/// The sentences.
pub(super) fn texts() -> anyhow::Result<Vec<Marked>> {
    lines(include_str!("text/natural.txt")).map(|line| parse(line).with_context(|| line.to_owned())).collect()
}

fn parse(line: &str) -> anyhow::Result<Marked> {
    let mut marked = Marked::default();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        marked.text.push_str(before);
        let (inside, after) = after.split_once('}').context("a bracket is not closed")?;
        let (kind, name) = inside.split_once(':').context("no colon")?;
        let kind = match kind {
            "cell" => Kind::Cell,
            "marker" => Kind::Marker,
            "tissue" => Kind::Tissue,
            other => bail!("no kind {other}"),
        };
        let start = marked.text.len();
        marked.text.push_str(name);
        marked.marks.push(Mark { start, end: marked.text.len(), kind });
        rest = after;
    }
    marked.text.push_str(rest);
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_read_and_have_enough_to_find() {
        let texts = texts().unwrap();
        let marks: usize = texts.iter().map(|text| text.marks.len()).sum();
        assert!(texts.len() >= 40 && marks >= 80, "{} {marks}", texts.len());
        assert!(texts.iter().all(|text| !text.text.contains(['{', '}'])));
    }

    #[test]
    fn marks_lie_where_the_brackets_were() {
        let marked = parse("No {cell:Tregs} in {tissue:skin}.").unwrap();
        assert_eq!(marked.text, "No Tregs in skin.");
        assert_eq!(marked.marks[1], Mark { start: 12, end: 16, kind: Kind::Tissue });
        assert!(parse("{cell:Tregs").is_err() && parse("{drug:x}").is_err() && parse("{x}").is_err());
    }
}
