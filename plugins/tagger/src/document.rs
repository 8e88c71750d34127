//! One document on its way: its text, its sentences, its tokens, and where the model's rows for it are. Owns the order of
//! these and what the answer says of it.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use tenon_sdk::Rows;

use crate::{
    asked::{Entry, Fault, Wishes},
    decode::{Likely, Span, spans},
    format::Markup,
    markup::extract,
    places::{Extract, Ruler},
    sentences,
    windows::{Layout, judges},
};

/// A document that is being answered.
#[derive(Debug)]
pub(crate) struct Document {
    id: Option<Value>,
    source: String,
    markup: Markup,
    pub(crate) extract: Extract,
    sentences: Vec<Range<usize>>,
    /// The text's tokens without special ones, and their bytes.
    pub(crate) ids: Vec<i64>,
    pub(crate) offsets: Vec<(usize, usize)>,
    pub(crate) windows: Vec<Range<usize>>,
    /// The first of the model's rows that is this document's.
    first_row: usize,
}

/// What the answer says of one document.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Found { sentences: Vec<Sentence>, spans: Vec<Marked> },
    Failed { error: Fault },
}

#[derive(Debug, Serialize)]
struct Sentence {
    start: usize,
    end: usize,
    text: String,
}

#[derive(Debug, Serialize)]
struct Marked {
    start: usize,
    end: usize,
    text: String,
    label: String,
    confidence: f32,
    sentence: usize,
}

/// A document, or why there is none.
pub(crate) type Opened = Result<Document, (Option<Value>, Fault)>;

/// Takes text and sentences out of what came.
pub(crate) fn open(entry: Entry) -> Opened {
    let Entry { id, content } = entry;
    let (source, markup) = match content {
        Ok(content) => content,
        Err(fault) => return Err((id, fault)),
    };
    let extract = extract(&source, markup);
    let sentences = sentences::split(&extract.text, &extract.breaks);
    if sentences.is_empty() {
        let detail = "there is no text in the markup".to_owned();
        return Err((id, Fault::new(422, "empty-text", detail)));
    }
    let (ids, offsets, windows) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Document { id, source, markup, extract, sentences, ids, offsets, windows, first_row: 0 })
}

/// Lays the tokens out in windows, from row `first` of the model's on; too many windows are a fault.
pub(crate) fn lay_out(document: Document, layout: Layout, first: usize, most: usize) -> Opened {
    let count = layout.count(document.ids.len());
    if first + count > most {
        let detail = format!("{count} windows of tokens; {} of {most} are left", most - first.min(most));
        return Err((document.id, Fault::new(413, "too-many-windows", detail)));
    }
    Ok(Document { windows: layout.windows(document.ids.len()), first_row: first, ..document })
}

impl Document {
    /// What the model's rows say of it.
    ///
    /// Panics, which traps, if a score is no finite number or a row has not its tokens' length: to answer anyway would be
    /// to make up an answer.
    pub(crate) fn tell(self, rows: Option<&Rows<f32>>, labels: &[String], wishes: &Wishes) -> Told {
        let likely = self.likely(rows, 1 + 2 * labels.len());
        let found = spans(&self.extract.text, &self.offsets, &likely, &self.sentences);
        let ruler = Ruler::new(&self.source, wishes.unit);
        let place = |range: &Range<usize>| {
            let (start, end) = (self.extract.start(range.start), self.extract.end(range.end));
            (ruler.at(&self.source, start), ruler.at(&self.source, end), self.words(range))
        };
        let sentences = self.sentences.iter().map(|range| {
            let (start, end, text) = place(range);
            Sentence { start, end, text }
        });
        let wanted = |span: &Span| wishes.labels[span.kind] && span.confidence >= wishes.min_confidence;
        let spans = found.into_iter().filter(wanted).map(|span| {
            let (start, end, text) = place(&span.range);
            let label = labels[span.kind].clone();
            Marked { start, end, text, label, confidence: span.confidence, sentence: span.sentence }
        });
        let outcome = Outcome::Found { sentences: sentences.collect(), spans: spans.collect() };
        Told { id: self.id, outcome }
    }

    fn likely(&self, rows: Option<&Rows<f32>>, scores: usize) -> Vec<Likely> {
        let judges = judges(&self.windows, self.ids.len());
        let of = |(token, judge): (usize, usize)| {
            let window = &self.windows[judge];
            let row = rows.and_then(|rows| rows.get(self.first_row + judge)).unwrap_or_default();
            // One special token before the window's own, and one after.
            let wanted = (window.len() + 2) * scores;
            assert_eq!(row.len(), wanted, "the model gave {} scores for a row of {}", row.len(), window.len() + 2);
            let at = (1 + token - window.start) * scores;
            Likely::of(&row[at..at + scores]).expect("the model gave a score that is no finite number")
        };
        judges.into_iter().enumerate().map(of).collect()
    }

    /// As it is read: markup's line breaks and indentation are one space.
    fn words(&self, range: &Range<usize>) -> String {
        let text = &self.extract.text[range.clone()];
        match self.markup {
            Markup::Plain => text.to_owned(),
            _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// What the answer says of a document that has a fault.
pub(crate) fn tell_fault((id, error): (Option<Value>, Fault)) -> Told {
    Told { id, outcome: Outcome::Failed { error } }
}
