//! The way back from a text to the document that it was taken from. Owns two maps: from bytes of the text to bytes of the
//! original, and from those to what callers count in. Refuses to know what markup is.

/// What callers count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Unicode scalar values, as Python's and Rust's `char`s.
    Characters,
    /// UTF-16 code units, as JavaScript's, Java's and C#'s strings.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl Unit {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "characters" => Some(Unit::Characters),
            "utf16" => Some(Unit::Utf16),
            "bytes" => Some(Unit::Bytes),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Characters => "characters",
            Unit::Utf16 => "utf16",
            Unit::Bytes => "bytes",
        }
    }

    fn count(self, text: &str) -> usize {
        match self {
            Unit::Characters => text.chars().count(),
            Unit::Utf16 => text.chars().map(char::len_utf16).sum(),
            Unit::Bytes => text.len(),
        }
    }
}

/// A piece of a text and where it came from, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    text: usize,
    text_length: usize,
    source: usize,
    source_length: usize,
    /// The text is the source, byte by byte; else all of it stands for all of the source (`&amp;`, a break).
    verbatim: bool,
}

/// A text that was taken out of a document, piece by piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extract {
    pub(crate) text: String,
    pieces: Vec<Piece>,
    /// Where in the text a sentence ends whatever is written there: the end of a paragraph, of a cell.
    pub(crate) breaks: Vec<usize>,
}

impl Extract {
    /// Adds `source[start..end]` as it is.
    pub(crate) fn copy(&mut self, source: &str, start: usize, end: usize) {
        let piece = &source[start..end];
        match self.pieces.last_mut() {
            Some(last) if last.verbatim && last.source + last.source_length == start => {
                last.text_length += piece.len();
                last.source_length += piece.len();
            }
            _ if piece.is_empty() => {}
            _ => self.add(piece.len(), start, piece.len(), true),
        }
        self.text.push_str(piece);
    }

    /// Adds `text`, for which `source_length` bytes of the document stand.
    pub(crate) fn replace(&mut self, text: &str, start: usize, source_length: usize) {
        if !text.is_empty() {
            self.add(text.len(), start, source_length, false);
            self.text.push_str(text);
        }
    }

    /// Ends a sentence here, at byte `at` of the document.
    pub(crate) fn break_at(&mut self, at: usize) {
        if self.text.is_empty() || self.breaks.last() == Some(&self.text.len()) {
            return;
        }
        self.replace("\n", at, 0);
        self.breaks.push(self.text.len());
    }

    fn add(&mut self, text_length: usize, source: usize, source_length: usize, verbatim: bool) {
        self.pieces.push(Piece { text: self.text.len(), text_length, source, source_length, verbatim });
    }

    /// The byte of the document at which what begins at this byte of the text begins.
    pub(crate) fn start(&self, byte: usize) -> usize {
        let Some(piece) = self.piece(byte) else { return 0 };
        if piece.verbatim { piece.source + (byte - piece.text) } else { piece.source }
    }

    /// The byte of the document at which what ends before this byte of the text ends.
    pub(crate) fn end(&self, byte: usize) -> usize {
        let Some(piece) = byte.checked_sub(1).and_then(|last| self.piece(last)) else { return 0 };
        let length = if piece.verbatim { byte - piece.text } else { piece.source_length };
        piece.source + length
    }

    /// The piece that holds this byte of the text, or the last one.
    fn piece(&self, byte: usize) -> Option<&Piece> {
        let after = self.pieces.partition_point(|piece| piece.text <= byte);
        self.pieces.get(after.checked_sub(1)?)
    }
}

/// Bytes between two counts that are kept.
const STEP: usize = 256;

/// Counts a document's units up to any byte without counting from the beginning each time.
#[derive(Clone, Debug)]
pub(crate) struct Ruler {
    unit: Unit,
    /// Units before each `STEP` bytes, or the first character that begins after them.
    counts: Vec<(usize, usize)>,
}

impl Ruler {
    pub(crate) fn new(document: &str, unit: Unit) -> Self {
        let mut counts = vec![(0, 0)];
        let (mut byte, mut count) = (0, 0);
        while document.len() - byte > STEP {
            let mut next = byte + STEP;
            while !document.is_char_boundary(next) {
                next += 1;
            }
            count += unit.count(&document[byte..next]);
            byte = next;
            counts.push((byte, count));
        }
        Self { unit, counts }
    }

    /// How many units begin before this byte, which is where a character begins.
    pub(crate) fn at(&self, document: &str, byte: usize) -> usize {
        let before = self.counts.partition_point(|(at, _)| *at <= byte) - 1;
        let (at, count) = self.counts[before];
        count + self.unit.count(&document[at..byte])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lead_back() {
        let source = "a&amp;b<i>c</i>";
        let mut extract = Extract::default();
        extract.copy(source, 0, 1);
        extract.replace("&", 1, 5);
        extract.copy(source, 6, 7);
        extract.copy(source, 10, 11);
        extract.break_at(15);
        extract.break_at(15);
        assert_eq!((extract.text.as_str(), extract.breaks.as_slice()), ("a&bc\n", [5].as_slice()));
        let starts: Vec<_> = (0..4).map(|byte| extract.start(byte)).collect();
        let ends: Vec<_> = (1..5).map(|byte| extract.end(byte)).collect();
        assert_eq!((starts, ends), (vec![0, 1, 6, 10], vec![1, 6, 7, 11]));
        assert_eq!((extract.end(0), Extract::default().start(0)), (0, 0));
    }

    #[test]
    fn neighbouring_copies_are_one_piece() {
        let mut extract = Extract::default();
        extract.copy("abcd", 0, 2);
        extract.copy("abcd", 2, 4);
        assert_eq!(extract.pieces.len(), 1);
        assert_eq!(extract.start(3), 3);
    }

    #[test]
    fn rulers_count_as_a_count_from_the_beginning() {
        let document = "aé😀\r\n".repeat(300);
        for unit in [Unit::Characters, Unit::Utf16, Unit::Bytes] {
            let ruler = Ruler::new(&document, unit);
            for (byte, _) in document.char_indices().chain([(document.len(), ' ')]) {
                assert_eq!(ruler.at(&document, byte), unit.count(&document[..byte]), "{unit:?} {byte}");
            }
            assert_eq!(Unit::parse(unit.name()), Some(unit));
        }
    }
}
