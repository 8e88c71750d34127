//! Sentences with what is marked in them, made of templates and names. Owns the notation of templates and the variety:
//! adjectives, abbreviations, hyphens, names put together. Knows nothing of tokens. The same seed gives the same sentences.

use anyhow::{Context, bail};
use fastrand::Rng;

use super::names::{Kind, Names, lines, plural};

/// Templates that training sees.
const SEEN: &str = include_str!("text/templates.txt");
/// Templates that it does not.
const UNSEEN: &str = include_str!("text/templates_unseen.txt");

/// How often something is done.
const PUT_TOGETHER: f32 = 0.25;
const ADJECTIVE: f32 = 0.12;
const HYPHEN: f32 = 0.1;
const ABBREVIATION: f32 = 0.04;
const LAST_STOP_DROPPED: f32 = 0.05;

/// A marked part of a text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

/// A text and what is marked in it, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) text: String,
    pub(super) marks: Vec<Mark>,
}

impl Marked {
    fn mark(&mut self, kind: Kind, name: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        self.marks.push(Mark { start, end: self.text.len(), kind });
    }

    /// Adds `other` after a space.
    pub(super) fn append(&mut self, other: &Marked) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let by = self.text.len();
        self.text.push_str(&other.text);
        self.marks.extend(other.marks.iter().map(|mark| Mark { start: mark.start + by, end: mark.end + by, ..*mark }));
    }
}

/// Which templates and names; what is unseen has no names put together, so that each is one of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What training sees.
    Training,
    /// Unseen templates, seen names.
    UnseenTemplates,
    /// Unseen templates, unseen names.
    UnseenNames,
}

/// Makes sentences.
pub(super) struct Author {
    rng: Rng,
    templates: Vec<&'static str>,
    names: Names,
    from: Source,
}

impl Author {
    pub(super) fn new(from: Source, seed: u64) -> anyhow::Result<Self> {
        let templates = if from == Source::Training { SEEN } else { UNSEEN };
        let names = if from == Source::UnseenNames { Names::unseen()? } else { Names::seen()? };
        Ok(Self { rng: Rng::with_seed(seed), templates: lines(templates).collect(), names, from })
    }

    /// So many sentences, one after another, as one text.
    pub(super) fn text(&mut self, sentences: usize) -> anyhow::Result<Marked> {
        let mut text = Marked::default();
        for _ in 0..sentences {
            text.append(&self.sentence()?);
        }
        Ok(text)
    }

    /// A number below `limit`, for whoever lays out what was made.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.rng.usize(..limit)
    }

    pub(super) fn sentence(&mut self) -> anyhow::Result<Marked> {
        let template = self.templates[self.rng.usize(..self.templates.len())];
        let mut sentence = Marked::default();
        self.fill(template, &mut sentence).with_context(|| template.to_owned())?;
        if self.happens(LAST_STOP_DROPPED) && sentence.text.ends_with('.') {
            sentence.text.pop();
        }
        // Bytes stay where they are: only an ASCII letter changes.
        if let Some(first) = sentence.text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Ok(sentence)
    }

    fn happens(&mut self, chance: f32) -> bool {
        self.rng.f32() < chance
    }

    fn pick(&mut self, section: &str) -> anyhow::Result<&'static str> {
        let choices = self.names.filler(section)?;
        Ok(choices[self.rng.usize(..choices.len())])
    }

    fn fill(&mut self, template: &'static str, out: &mut Marked) -> anyhow::Result<()> {
        let mut rest = template;
        while let Some(at) = rest.find(['{', '[']) {
            out.text.push_str(&rest[..at]);
            let close = if rest[at..].starts_with('{') { '}' } else { ']' };
            let length = rest[at..].find(close).context("a bracket is not closed")?;
            let inside = &rest[at + 1..at + length];
            if close == '}' {
                self.place(inside, out)?;
            } else {
                let choices: Vec<_> = inside.split('|').collect();
                out.text.push_str(choices[self.rng.usize(..choices.len())]);
            }
            rest = &rest[at + length + 1..];
        }
        out.text.push_str(rest);
        Ok(())
    }

    fn place(&mut self, what: &str, out: &mut Marked) -> anyhow::Result<()> {
        match what {
            "cell" | "cells" => self.cell(what == "cells", out)?,
            "marker" => {
                let name = self.marker();
                self.adjective("marker-adjective", out)?;
                out.mark(Kind::Marker, &name);
            }
            "tissue" => {
                let name = self.tissue()?;
                self.adjective("tissue-adjective", out)?;
                out.mark(Kind::Tissue, &name);
            }
            "n" => out.text.push_str(&self.rng.u32(2..40).to_string()),
            "p" => {
                let text = format!("{}.{}%", self.rng.u32(0..95), self.rng.u32(0..10));
                out.text.push_str(&text);
            }
            "year" => out.text.push_str(&self.rng.u32(1950..2027).to_string()),
            "drug" | "disease" | "method" | "species" | "process" => out.text.push_str(self.pick(what)?),
            other => bail!("nothing is called {{{other}}}"),
        }
        Ok(())
    }

    /// Never where it would glue to what stands before: `anti-` and the like.
    fn adjective(&mut self, section: &str, out: &mut Marked) -> anyhow::Result<()> {
        if self.happens(ADJECTIVE) && out.text.ends_with(' ') {
            out.text.push_str(self.pick(section)?);
            out.text.push(' ');
        }
        Ok(())
    }

    fn cell(&mut self, many: bool, out: &mut Marked) -> anyhow::Result<()> {
        let mut name = if self.puts_together() {
            match self.rng.u8(..3) {
                0 => format!("{} {}", self.pick("cell-modifier")?, self.pick("cell-base")?),
                1 => format!("{} {}", self.word(), self.pick("cell-base")?),
                _ => format!("{}{}", self.word(), self.pick("cell-ending")?).replace('_', " "),
            }
        } else {
            self.name(Kind::Cell).to_owned()
        };
        if self.happens(HYPHEN) {
            name = name.replace("T cell", "T-cell").replace("B cell", "B-cell").replace("NK cell", "NK-cell");
        }
        self.adjective("cell-adjective", out)?;
        out.mark(Kind::Cell, &if many { plural(&name) } else { name });
        if many && self.happens(ABBREVIATION) {
            let short = self.abbreviation();
            out.text.push_str(" (");
            out.mark(Kind::Cell, &short);
            out.text.push(')');
        }
        Ok(())
    }

    fn marker(&mut self) -> String {
        if !self.puts_together() {
            return self.name(Kind::Marker).to_owned();
        }
        match self.rng.u8(..10) {
            0..3 => return format!("CD{}", self.rng.u32(1..370)),
            3 | 4 => return format!("{}in", self.word()),
            _ => {}
        }
        // What symbols of genes look like.
        let letters = self.rng.usize(2..6);
        let mut symbol: String = (0..letters).map(|_| self.rng.uppercase()).collect();
        if self.happens(0.8) {
            symbol.push_str(&self.rng.u32(1..30).to_string());
        }
        symbol
    }

    fn tissue(&mut self) -> anyhow::Result<String> {
        if self.puts_together() {
            return Ok(match self.rng.u8(..3) {
                0 => format!("{} {}", self.pick("tissue-modifier")?, self.pick("tissue-base")?),
                1 => format!("{} {}", self.word(), self.pick("tissue-ending")?),
                _ => format!("{}{}", self.word(), ["a", "is", "um", "us"][self.rng.usize(..4)]),
            });
        }
        Ok(self.name(Kind::Tissue).to_owned())
    }

    /// A word that does not exist, so that the sentence must tell what it is.
    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 24] = [
            "bar", "cor", "den", "fel", "gla", "hy", "lin", "mor", "nep", "ol", "pla", "qui", "ren", "sal", "tro",
            "ur", "ves", "xan", "zel", "ith", "an", "ob", "ect", "im",
        ];
        let syllables = self.rng.usize(2..4);
        (0..syllables).map(|_| SYLLABLES[self.rng.usize(..SYLLABLES.len())]).collect()
    }

    /// Two or three capitals and a plural's s: what authors call cells after the first time.
    fn abbreviation(&mut self) -> String {
        let letters = self.rng.usize(2..4);
        let capitals: String = (0..letters).map(|_| self.rng.uppercase()).collect();
        format!("{capitals}s")
    }

    fn puts_together(&mut self) -> bool {
        self.from == Source::Training && self.happens(PUT_TOGETHER)
    }

    fn name(&mut self, kind: Kind) -> &'static str {
        let names = self.names.of(kind);
        names[self.rng.usize(..names.len())]
    }
}

#[cfg(test)]
#[path = "sentences_tests.rs"]
mod tests;
