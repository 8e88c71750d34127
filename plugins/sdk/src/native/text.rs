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
    offsets: Cell<bool>,
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

    /// Whether to give offsets.
    pub fn offsets(&self, wanted: bool) {
        self.offsets.set(wanted);
    }
}

/// Rows of tokens.
#[derive(Debug)]
pub struct Encoding {
    ids: Tensor,
    ones: Tensor,
    zeros: Tensor,
    offsets: Option<Tensor>,
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

    /// Start and end of each token in bytes of its text: UINT32, ragged, `[rows, tokens, 2]`; none unless they were asked
    /// for. Zeros where the stand-in has none.
    pub fn offsets(&self) -> Option<Tensor> {
        self.offsets.clone()
    }

    /// For each row, whether tokens were taken away.
    pub fn truncated(&self) -> Vec<bool> {
        self.truncated.clone()
    }
}

/// A token and where in its text it lies.
type Token = (i64, [u32; 2]);
type Tokenizer = Box<dyn Fn(&str) -> Vec<Token>>;

thread_local! {
    static TOKENIZER: RefCell<Option<Tokenizer>> = const { RefCell::new(None) };
}

/// Brings a tokenizer for this thread, that is for this test.
pub fn tokenize_with(tokenizer: impl Fn(&str) -> Vec<i64> + 'static) {
    tokenize_with_offsets(move |text| tokenizer(text).into_iter().map(|token| (token, [0, 0])).collect());
}

/// As [`tokenize_with`], for plugins that ask where tokens lie.
pub fn tokenize_with_offsets(tokenizer: impl Fn(&str) -> Vec<(i64, [u32; 2])> + 'static) {
    TOKENIZER.replace(Some(Box::new(tokenizer)));
}

/// Encodes each input into one row with the stand-in; fails with `no-tokenizer` without one.
pub fn encode(model: &str, inputs: &[Input], options: &Options) -> Result<Encoding, Failure> {
    let limit = options.max_length.get().map_or(usize::MAX, |tokens| tokens as usize);
    let cut = options.truncate.borrow().is_some();
    let mut tokens: Vec<Vec<Token>> = TOKENIZER.with_borrow(|tokenizer| {
        let tokenizer = tokenizer.as_ref().ok_or_else(|| {
            let detail = format!("natively `{model}` has no tokenizer until text::tokenize_with brings one");
            Failure::new("no-tokenizer", detail)
        })?;
        Ok(inputs.iter().map(|input| row(tokenizer, input)).collect())
    })?;
    let truncated: Vec<bool> = tokens.iter().map(|row| row.len() > limit).collect();
    if let Some(row) = truncated.iter().position(|over| *over && !cut) {
        let detail = format!("row {row} has {} tokens, {limit} at most", tokens[row].len());
        return Err(Failure::new("too-long", detail));
    }
    tokens.iter_mut().for_each(|row| row.truncate(limit));
    let of = |value: fn(&Token) -> i64| -> Result<Tensor, Failure> {
        let rows: Vec<Vec<i64>> = tokens.iter().map(|row| row.iter().map(value).collect()).collect();
        Tensor::ragged(&rows)
    };
    let (ids, ones, zeros) = (of(|token| token.0)?, of(|_| 1)?, of(|_| 0)?);
    let offsets = options.offsets.get().then(|| offsets(&tokens)).transpose()?;
    for tensor in [&ids, &ones, &zeros].into_iter().chain(&offsets) {
        tensor.seal();
    }
    Ok(Encoding { ids, ones, zeros, offsets, truncated })
}

fn offsets(rows: &[Vec<Token>]) -> Result<Tensor, Failure> {
    let lengths: Vec<u64> = rows.iter().map(|row| row.len() as u64).collect();
    let tensor = Tensor::create_ragged("UINT32", &[0, 2], 0, &lengths)?;
    let bounds = rows.iter().flatten().flat_map(|(_, bounds)| bounds);
    tensor.write(0, &bounds.flat_map(|bound| bound.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(tensor)
}

fn row(tokenizer: &Tokenizer, input: &Input) -> Vec<Token> {
    match input {
        Input::Single(text) => tokenizer(text),
        Input::Pair((first, second)) => [tokenizer(first), tokenizer(second)].concat(),
    }
}
