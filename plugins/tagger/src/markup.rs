//! Takes the text out of a document. Owns what becomes of tags, entities and sections of CDATA; how tags are told from text
//! is html5gum's, what elements mean is `elements`'. Never fails: what is malformed is read as a browser would, entities
//! that a document declares for itself stay as they are written, and nesting is counted, not followed.

use std::convert::Infallible;

use html5gum::{
    Span, Tokenizer,
    emitters::callback::{CallbackEmitter, CallbackEvent},
};

use crate::{
    elements::{is_block, is_skipped, is_void, skips},
    format::Markup,
    places::Extract,
};

/// The longest reference to a character: HTML's longest name has 31 letters.
const LONGEST_REFERENCE: usize = 40;
const CDATA: &str = "<![CDATA[";
const DOCTYPE: &str = "<!DOCTYPE";

/// The document's text and where it came from.
pub(crate) fn extract(document: &str, markup: Markup) -> Extract {
    match markup {
        Markup::Plain => plain(document),
        Markup::Html => {
            let mut reader = Reader::new(document, markup);
            reader.tags(0, document.len());
            reader.extract
        }
        Markup::Jats => xml(document),
    }
}

/// All of it; an empty line ends a sentence.
fn plain(document: &str) -> Extract {
    let mut extract = Extract::default();
    extract.copy(document, 0, document.len());
    let (mut at, mut blank) = (0, false);
    for line in document.split_inclusive('\n') {
        at += line.len();
        let empty = line.trim().is_empty();
        if empty && !blank {
            extract.breaks.push(at);
        }
        blank = empty;
    }
    extract
}

/// XML has two things that HTML reads otherwise: sections of CDATA, and declarations in brackets inside of the DOCTYPE.
fn xml(document: &str) -> Extract {
    let mut reader = Reader::new(document, Markup::Jats);
    let mut at = 0;
    while let Some(island) = island(document, at) {
        reader.tags(at, island.start);
        if island.is_text {
            reader.text(island.start + CDATA.len(), island.inner_end, false);
        }
        at = island.end;
    }
    reader.tags(at, document.len());
    reader.extract
}

struct Island {
    start: usize,
    inner_end: usize,
    end: usize,
    is_text: bool,
}

/// The next of them from `from` on; the one that has no end ends with the document.
fn island(document: &str, from: usize) -> Option<Island> {
    let mut at = from;
    while let Some(found) = document[at..].find("<!") {
        let start = at + found;
        let rest = &document[start..];
        let (is_text, close) = if rest.starts_with(CDATA) {
            (true, "]]>")
        } else if rest.starts_with(DOCTYPE) && declares(rest) {
            (false, "]>")
        } else {
            at = start + 2;
            continue;
        };
        let inner_end = rest.find(close).map_or(document.len(), |length| start + length);
        let end = document.len().min(inner_end + close.len());
        let inner_end = if is_text { inner_end.max(start + CDATA.len()) } else { inner_end };
        return Some(Island { start, inner_end, end, is_text });
    }
    None
}

/// Whether a DOCTYPE has declarations of its own: a bracket before its end.
fn declares(doctype: &str) -> bool {
    doctype.find(['[', '>']).is_some_and(|at| doctype[at..].starts_with('['))
}

/// Reads tags and text, and knows whether it is inside of something to be passed over.
struct Reader<'a> {
    document: &'a str,
    markup: Markup,
    extract: Extract,
    /// The element whose content is passed over, and how many of its name are open inside.
    skipping: Option<(String, usize)>,
    /// The start tag that is being read, its last attribute's name, and whether an attribute says to pass over.
    tag: String,
    attribute: String,
    skips: bool,
}

impl<'a> Reader<'a> {
    fn new(document: &'a str, markup: Markup) -> Self {
        let (tag, attribute) = (String::new(), String::new());
        Self { document, markup, extract: Extract::default(), skipping: None, tag, attribute, skips: false }
    }

    /// Reads `document[start..end]`.
    fn tags(&mut self, start: usize, end: usize) {
        let (document, html) = (self.document, self.markup == Markup::Html);
        let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| -> Option<Infallible> {
            self.event(&event, start + span.start, (start + span.end).min(end));
            None
        });
        // In XML `<title>` and `<style>` are elements like others.
        emitter.naively_switch_states(html);
        let Ok(()) = Tokenizer::new_with_emitter(&document[start..end], emitter).finish();
    }

    fn event(&mut self, event: &CallbackEvent<'_>, start: usize, end: usize) {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag = String::from_utf8_lossy(name).into_owned();
                self.skips = is_skipped(self.markup, &self.tag);
            }
            CallbackEvent::AttributeName { name } => self.attribute = String::from_utf8_lossy(name).into_owned(),
            CallbackEvent::AttributeValue { value } => {
                self.skips |= skips(self.markup, &self.tag, &self.attribute, &String::from_utf8_lossy(value));
            }
            CallbackEvent::CloseStartTag { self_closing } => self.opened(*self_closing, end),
            CallbackEvent::EndTag { name } => self.closed(&String::from_utf8_lossy(name), start),
            CallbackEvent::String { .. } => self.text(start, end, true),
            _ => {}
        }
    }

    fn opened(&mut self, self_closing: bool, at: usize) {
        let void = is_void(self.markup, &self.tag, self_closing);
        match &mut self.skipping {
            Some((name, depth)) => *depth += usize::from(*name == self.tag && !void),
            None => {
                if is_block(self.markup, &self.tag) {
                    self.extract.break_at(at);
                }
                if self.skips && !void {
                    self.skipping = Some((self.tag.clone(), 1));
                }
            }
        }
    }

    fn closed(&mut self, name: &str, at: usize) {
        match &mut self.skipping {
            Some((skipped, depth)) if skipped == name => {
                *depth -= 1;
                if *depth == 0 {
                    self.skipping = None;
                }
            }
            None if is_block(self.markup, name) => self.extract.break_at(at),
            _ => {}
        }
    }

    /// Adds text, with its references resolved if it has any.
    fn text(&mut self, start: usize, end: usize, references: bool) {
        if self.skipping.is_some() {
            return;
        }
        let mut at = start;
        while let Some(found) = self.document[at..end].find(['&', '<']).filter(|_| references) {
            let here = at + found;
            self.extract.copy(self.document, at, here);
            at = here + self.special(here, end);
        }
        self.extract.copy(self.document, at, end);
    }

    /// What begins at `at` with `&` or `<` and is still text; how many bytes it takes.
    fn special(&mut self, at: usize, end: usize) -> usize {
        let rest = &self.document[at..end];
        if rest.starts_with("</>") {
            // An end tag without a name is nothing, and html5gum joins the texts around it.
            return 3;
        }
        let resolved = if rest.starts_with('&') { reference(rest) } else { None };
        match resolved {
            Some((text, length)) => {
                self.extract.replace(&text, at, length);
                length
            }
            None => {
                self.extract.copy(self.document, at, at + 1);
                1
            }
        }
    }
}

/// The characters that a reference at the beginning of `text` stands for, and its length; none if it is not one.
fn reference(text: &str) -> Option<(String, usize)> {
    let name = text.bytes().skip(1).take(LONGEST_REFERENCE).take_while(|b| b.is_ascii_alphanumeric() || *b == b'#');
    let mut length = 1 + name.count();
    if text[length..].starts_with(';') {
        length += 1;
    }
    let mut resolved = String::new();
    let emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<Infallible> {
        if let CallbackEvent::String { value } = event {
            resolved.push_str(&String::from_utf8_lossy(value));
        }
        None
    });
    let Ok(()) = Tokenizer::new_with_emitter(&text[..length], emitter).finish();
    // `&notit;` is `¬it;`: what follows the reference is left for the text.
    let mut same = 0;
    let (from, to) = (&text.as_bytes()[1..length], resolved.as_bytes());
    while same < from.len() && same + 1 < to.len() && from[from.len() - 1 - same] == to[to.len() - 1 - same] {
        same += 1;
    }
    if resolved == text[..length] {
        return None;
    }
    resolved.truncate(resolved.len() - same);
    Some((resolved, length - same))
}

#[cfg(test)]
#[path = "markup_tests.rs"]
mod tests;
