//! Tokenisation by a stand-in that a test brings; without one, encoding fails.

use std::cell::{Cell, RefCell};

use super::Failure;
use crate::Tensor;

/// What becomes one row of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// One text.
    Single(String),
    /// Two texts in one row.
    Pair((String, String)),
}

/// How to encode.
#[derive(Debug, Default)]
pub struct Options {
    max_length: Cell<Option<u32>>,
    truncate: RefCell<Option<String>>,
}

const TRUNCATIONS: [&str; 4] = ["none", "longest-first", "only-first", "only-second"];

impl Options {
    /// The defaults: no truncation, no offsets.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most tokens a row may have.
    pub fn max_length(&self, tokens: u32) {
        self.max_length.set(Some(tokens));
    }

    /// What happens to a row with more tokens than that.
    pub fn truncate(&self, how: &str) -> Result<(), Failure> {
        if !TRUNCATIONS.contains(&how) {
            let detail = format!("truncation `{how}`: none, longest-first, only-first or only-second");
            return Err(Failure::new("unknown-option", detail));
        }
        self.truncate.replace((how != "none").then(|| how.to_owned()));
        Ok(())
    }

    /// Whether to give offsets; the stand-in has none.
    pub fn offsets(&self, _wanted: bool) {}
}

/// Rows of tokens.
#[derive(Debug)]
pub struct Encoding {
    ids: Tensor,
    ones: Tensor,
    zeros: Tensor,
    truncated: Vec<bool>,
}

impl Encoding {
    /// The tokens: INT64, ragged, `[rows, tokens]`.
    pub fn ids(&self) -> Tensor {
        self.ids.clone()
    }

    /// Ones in the shape of the tokens.
    pub fn attention_mask(&self) -> Tensor {
        self.ones.clone()
    }

    /// Zeros in the shape of the tokens: the stand-in does not tell the texts of a pair apart.
    pub fn type_ids(&self) -> Tensor {
        self.zeros.clone()
    }

    /// None: the stand-in has no offsets.
    pub fn offsets(&self) -> Option<Tensor> {
        None
    }

    /// For each row, whether tokens were taken away.
    pub fn truncated(&self) -> Vec<bool> {
        self.truncated.clone()
    }
}

type Tokenizer = Box<dyn Fn(&str) -> Vec<i64>>;

thread_local! {
    static TOKENIZER: RefCell<Option<Tokenizer>> = const { RefCell::new(None) };
}

/// Brings a tokenizer for this thread, that is for this test.
pub fn tokenize_with(tokenizer: impl Fn(&str) -> Vec<i64> + 'static) {
    TOKENIZER.replace(Some(Box::new(tokenizer)));
}

/// Encodes each input into one row with the stand-in; fails with `no-tokenizer` without one.
pub fn encode(model: &str, inputs: &[Input], options: &Options) -> Result<Encoding, Failure> {
    let limit = options.max_length.get().map_or(usize::MAX, |tokens| tokens as usize);
    let cut = options.truncate.borrow().is_some();
    let mut rows: Vec<Vec<i64>> = TOKENIZER.with_borrow(|tokenizer| {
        let tokenizer = tokenizer.as_ref().ok_or_else(|| {
            let detail = format!("natively `{model}` has no tokenizer until text::tokenize_with brings one");
            Failure::new("no-tokenizer", detail)
        })?;
        Ok(inputs.iter().map(|input| tokens(tokenizer, input)).collect())
    })?;
    let truncated: Vec<bool> = rows.iter().map(|row| row.len() > limit).collect();
    if let Some(row) = truncated.iter().position(|over| *over && !cut) {
        let detail = format!("row {row} has {} tokens, {limit} at most", rows[row].len());
        return Err(Failure::new("too-long", detail));
    }
    rows.iter_mut().for_each(|row| row.truncate(limit));
    let filled = |value: i64| -> Result<Tensor, Failure> {
        let rows: Vec<Vec<i64>> = rows.iter().map(|row| vec![value; row.len()]).collect();
        Tensor::ragged(&rows)
    };
    let (ids, ones, zeros) = (Tensor::ragged(&rows)?, filled(1)?, filled(0)?);
    for tensor in [&ids, &ones, &zeros] {
        tensor.seal();
    }
    Ok(Encoding { ids, ones, zeros, truncated })
}

fn tokens(tokenizer: &Tokenizer, input: &Input) -> Vec<i64> {
    match input {
        Input::Single(text) => tokenizer(text),
        Input::Pair((first, second)) => [tokenizer(first), tokenizer(second)].concat(),
    }
}
