//! The tagger: marks cell types, markers and tissues in texts, HTML pages and JATS articles, one or many in a request.
//! docs/tagger.md has the interface.
//!
//! Owns the order of things: read, take the text out, encode in pieces, lay out in windows, ask once, merge, answer. What a
//! right request is, how markup is read, where sentences end, what windows and spans are is each in a module of plain
//! functions. It fetches nothing: plugins have no network, so callers send the documents themselves.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::single_range_in_vec_init, reason = "lists of one sentence, of one window"))]

mod asked;
mod decode;
mod document;
mod elements;
mod format;
mod markup;
mod pieces;
mod places;
mod sentences;
mod windows;

use std::ops::Range;

use serde::Serialize;
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
    Validation, setting,
    text::{Encoding, Input, Options, encode},
};

use asked::{Asked, Limits, PAYLOAD_TOO_LARGE};
use document::{Document, Opened, Told, lay_out, open, tell_fault};
use windows::Layout;

/// The plugin's name for the model: the key under `[models]` in `function.toml`.
const TAGGER: &str = "tagger";
const DEFAULT_LABELS: &str = "CELL,MARKER,TISSUE";
const DEFAULT_MAX_TOKENS: usize = 256;
const DEFAULT_OVERLAP: usize = 64;
const DEFAULT_MAX_WINDOWS: usize = 1024;
/// Of a window's tokens those that are not the text's: one before and one after.
const SPECIAL: usize = 2;
/// The most texts and bytes of one host call; a text of its own may be longer.
const CALL_TEXTS: usize = 1024;
const CALL_BYTES: usize = 256 * 1024;

/// One invocation.
#[derive(Debug, Default)]
pub struct Tagger {
    /// Left by `validate` for `preprocess`.
    asked: Option<Asked>,
    /// Left by `preprocess` for `postprocess`.
    documents: Vec<Opened>,
    wishes: Option<asked::Wishes>,
    tokens: usize,
    windows: usize,
}

#[derive(Serialize)]
struct Answer {
    documents: Vec<Told>,
    model: String,
    unit: &'static str,
    usage: Usage,
}

/// What the request cost: tokens of all texts, and the model's rows.
#[derive(Serialize)]
struct Usage {
    tokens: usize,
    windows: usize,
}

impl Validation for Tagger {
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        self.asked = Some(asked::read(request, &Limits::from_config(), &labels())?);
        Ok(())
    }
}

impl Preprocessing for Tagger {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        if self.asked.is_none() {
            self.validate(request)?;
        }
        let asked = self.asked.take().expect("validate leaves what was asked");
        let mut opened: Vec<Opened> = asked.documents.into_iter().map(open).collect();
        let mut special = [0, 0];
        tokenise(&mut opened, &mut special)?;
        let (layout, most) = (layout(), setting("max_windows", DEFAULT_MAX_WINDOWS));
        for opened in opened {
            let tokens = opened.as_ref().map_or(0, |document| document.ids.len());
            let placed = opened.and_then(|document| lay_out(document, layout, self.windows, most));
            if let Ok(document) = &placed {
                self.windows += document.windows.len();
                self.tokens += tokens;
            }
            self.documents.push(placed);
        }
        if asked.alone
            && let Some(Err((_, fault))) = self.documents.pop_if(|only| only.is_err())
        {
            return Err(fault.into_rejection());
        }
        self.wishes = Some(asked.wishes);
        if self.windows == 0 {
            return Ok(self.answer(None).into());
        }
        Ok(self.ask(special).or_trap().into())
    }
}

impl Postprocessing for Tagger {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let outputs = outputs.first().expect("one inference was asked, so one output came");
        Ok(self.answer(Some(outputs)).into())
    }
}

impl Tagger {
    /// One row for each window: the special tokens, and the window's between them.
    fn ask(&self, [first, last]: [i64; 2]) -> Result<Inference, Failure> {
        let documents = self.documents.iter().flatten();
        let rows: Vec<Vec<i64>> = documents
            .flat_map(|document| {
                let row = |window: &Range<usize>| [&[first], &document.ids[window.clone()], &[last]].concat();
                document.windows.iter().map(row).collect::<Vec<_>>()
            })
            .collect();
        let lengths: Vec<u64> = rows.iter().map(|row| row.len() as u64).collect();
        let ids = Tensor::ragged(&rows)?;
        let types = Tensor::create_ragged("INT64", &[0], 0, &lengths)?;
        let mask = Tensor::create_ragged("INT64", &[0], 0, &lengths)?;
        let ones = 1_i64.to_le_bytes().repeat(rows.iter().map(Vec::len).sum());
        mask.write(0, &ones)?;
        let inference = Inference::new(TAGGER).input("input_ids", &ids)?.input("attention_mask", &mask)?;
        inference.input("token_type_ids", &types)
    }

    fn answer(&mut self, outputs: Option<&Outputs>) -> Response {
        let labels = labels();
        let rows = outputs.map(|outputs| outputs.tensor("logits").and_then(|logits| logits.rows::<f32>()).or_trap());
        let wishes = self.wishes.take().expect("preprocess leaves the wishes");
        let tell = |opened: Opened| match opened {
            Ok(document) => document.tell(rows.as_ref(), &labels, &wishes),
            Err(failed) => tell_fault(failed),
        };
        let answer = Answer {
            documents: std::mem::take(&mut self.documents).into_iter().map(tell).collect(),
            model: setting("model", TAGGER.to_owned()),
            unit: wishes.unit.name(),
            usage: Usage { tokens: self.tokens, windows: self.windows },
        };
        Response::json(200, &answer).or_trap()
    }
}

/// The model's labels, without O, B and I.
fn labels() -> Vec<String> {
    let labels: String = setting("labels", DEFAULT_LABELS.to_owned());
    labels.split(',').map(|label| label.trim().to_owned()).collect()
}

fn layout() -> Layout {
    let (tokens, overlap) = (setting("max_tokens", DEFAULT_MAX_TOKENS), setting("overlap", DEFAULT_OVERLAP));
    let size = tokens.saturating_sub(SPECIAL);
    assert!(overlap < size, "[config] overlap = \"{overlap}\" in function.toml: less than max_tokens - {SPECIAL}");
    Layout { size, overlap }
}

/// Gives every document its tokens; `special` becomes what the tokenizer puts before and after a text.
fn tokenise(opened: &mut [Opened], special: &mut [i64; 2]) -> Result<(), Rejection> {
    let mut pieces = Vec::new();
    for (index, document) in opened.iter().enumerate() {
        if let Ok(document) = document {
            pieces.extend(pieces::cut(&document.extract.text).into_iter().map(|piece| (index, piece)));
        }
    }
    let mut rest = &pieces[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(CALL_TEXTS).take_while(|(_, piece)| {
            bytes += piece.len();
            bytes <= CALL_BYTES
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        rest = later;
        encode_pieces(opened, now, special)?;
    }
    Ok(())
}

fn encode_pieces(
    opened: &mut [Opened],
    pieces: &[(usize, Range<usize>)],
    special: &mut [i64; 2],
) -> Result<(), Rejection> {
    let text = |(index, piece): &(usize, Range<usize>)| {
        let document = opened[*index].as_ref().expect("only documents have pieces");
        Input::Single(document.extract.text[piece.clone()].to_owned())
    };
    let inputs: Vec<Input> = pieces.iter().map(text).collect();
    let encoding = match encode_all(&inputs) {
        // A request can ask for this much; every other failure is a fault of ours.
        Err(failure) if ["too-large", "memory"].contains(&failure.code.as_str()) => {
            return Err(failure.into_rejection(PAYLOAD_TOO_LARGE));
        }
        encoded => encoded.or_trap(),
    };
    let ids = encoding.ids().rows::<i64>().or_trap();
    let offsets = encoding.offsets().expect("the options ask for offsets").rows::<u32>().or_trap();
    for (row, (index, piece)) in pieces.iter().enumerate() {
        let (Some([first, inner @ .., last]), Some(offsets)) = (ids.get(row), offsets.get(row)) else {
            panic!("the tokenizer of the model puts no special tokens around a text");
        };
        *special = [*first, *last];
        let document: &mut Document = opened[*index].as_mut().expect("only documents have pieces");
        document.ids.extend_from_slice(inner);
        let (pairs, _) = offsets.as_chunks::<2>();
        let place = |&[start, end]: &[u32; 2]| (piece.start + start as usize, piece.start + end as usize);
        document.offsets.extend(pairs[1..pairs.len() - 1].iter().map(place));
    }
    Ok(())
}

fn encode_all(inputs: &[Input]) -> Result<Encoding, Failure> {
    let options = Options::new();
    options.offsets(true);
    // Only where a text cannot be cut and has more tokens than the model has places: its beginning is read.
    options.truncate("longest-first")?;
    encode(TAGGER, inputs, &options)
}

tenon_sdk::export!(Tagger: validation, preprocessing, postprocessing);
