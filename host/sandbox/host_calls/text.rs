//! `text`: the tokenizer that belongs to a model. Runs on the guest's thread, text by text, and lets others run between
//! two texts once it has held the thread for a tick; its time is charged as work of a host call.

use std::{sync::Arc, time::Duration};

use tokenizers::Encoding as Encoded;
use wasmtime::{Result, component::Resource};

use super::{check_name, failure, memory, tensors::Tensor};
use crate::{
    account::{Account, Charge, Kind, Used},
    sandbox::{
        bindings::{
            text::{Host, HostEncoding, HostOptions, Input},
            types::Failure,
        },
        limits::HANDLE_BYTES,
        meter::Clock,
        store::{Guest, TextModel},
        ticker::{TICK, pause},
        tokenizer::{EncodeError, Tokenizer, Tokens, Truncation},
    },
    tensor::{Datatype, Layout, Staging, Tensor as Shared},
};

/// Bytes that one token takes in an encoding: id, mask and type as INT64, two offsets as UINT32.
const BYTES_PER_TOKEN: u64 = 3 * 8 + 2 * 4;
/// What the tokenizer itself holds for a byte of text while it works (tokens, strings, offsets), measured generously.
const WORKING_BYTES_PER_TEXT_BYTE: u64 = 64;
/// What it holds for a token of a finished row until all rows are laid out.
const WORKING_BYTES_PER_TOKEN: u64 = 128;
/// What it and its tensors hold for a row beside tokens: lengths and starts of four tensors, its text's place.
const BYTES_PER_ROW: u64 = 4 * 16 + size_of::<Input>() as u64;
/// Texts up to this size are timed by the wall clock, which costs a tenth of the thread's CPU clock.
const SHORT_BYTES: u64 = 1 << 10;

/// Texts of more bytes take over a millisecond to encode (measured: 0.2 to 0.3 µs a byte).
const LONG_BYTES: u64 = 4 << 10;

type Outcome<T> = std::result::Result<T, Failure>;

/// How the guest wants its texts encoded.
pub struct Options {
    wanted: Wanted,
    _handle: Charge,
}

/// What options say.
#[derive(Clone, Copy, Default)]
struct Wanted {
    max_length: Option<u32>,
    truncation: Truncation,
    offsets: bool,
}

/// Rows of tokens.
pub struct Encoding {
    ids: Shared,
    attention_mask: Shared,
    type_ids: Shared,
    offsets: Option<Shared>,
    truncated: Vec<bool>,
    charge: Arc<Charge>,
    _handle: Charge,
}

impl Options {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self._handle = account.nothing(Kind::Handles);
    }
}

impl Encoding {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, empty: &Shared, account: &Arc<Account>) {
        let (ids, attention_mask, type_ids) = (empty.clone(), empty.clone(), empty.clone());
        let (charge, _handle) = (account.nothing(Kind::Text).into(), account.nothing(Kind::Handles));
        *self = Self { ids, attention_mask, type_ids, offsets: None, truncated: Vec::new(), charge, _handle };
    }
}

impl Host for Guest {
    async fn encode(
        &mut self,
        model: String,
        inputs: Vec<Input>,
        options: Resource<Options>,
    ) -> Result<Outcome<Resource<Encoding>>> {
        check_name(&model)?;
        let options = self.table.get(&options)?.wanted;
        let handle = match self.limits.charge(Kind::Handles, HANDLE_BYTES) {
            Ok(handle) => handle,
            Err(holder) => return Ok(Err(memory(holder))),
        };
        let encoding = match self.encode_all(&model, &inputs, options, handle).await {
            Ok(encoding) => encoding,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(Ok(self.table.push(encoding)?))
    }
}

impl Guest {
    async fn encode_all(
        &mut self,
        model: &str,
        inputs: &[Input],
        options: Wanted,
        handle: Charge,
    ) -> Outcome<Encoding> {
        let (tokenizer, max) = self.tokenizer(model, options)?;
        self.check_sizes(inputs)?;
        let bytes = inputs.iter().map(text_bytes).sum::<u64>();
        // The texts are here already, copied within what one call may pass; from here on they are held while others run.
        let _texts = self.limits.charge(Kind::Text, bytes).map_err(memory)?;
        if bytes > LONG_BYTES {
            // Known before it begins: goes on where it keeps nobody from their connections.
            self.assignment.invocation.mark_long();
            pause().await;
        }
        let longest = inputs.iter().map(text_bytes).max().unwrap_or(0);
        // Held while the tokenizer works on one text at a time.
        let mut working = self.limits.charge(Kind::Text, longest * WORKING_BYTES_PER_TEXT_BYTE).map_err(memory)?;
        let mut charge = self.limits.charge(Kind::Text, inputs.len() as u64 * BYTES_PER_ROW).map_err(memory)?;
        let mut rows = Vec::with_capacity(inputs.len());
        let account = self.assignment.invocation.account.clone();
        let mut held = Duration::ZERO;
        for (row, input) in inputs.iter().enumerate() {
            let (encoded, time) = timed(&tokenizer, input, max, options.truncation);
            account.spend(Used::HostCall, time);
            let tokens = encoded.map_err(|error| explain(error, row, max))?;
            let bytes = tokens.encoding.len() as u64 * BYTES_PER_TOKEN;
            charge.grow(bytes).map_err(|over| memory(self.limits.refuse(over)))?;
            let held_bytes = tokens.encoding.len() as u64 * WORKING_BYTES_PER_TOKEN;
            working.grow(held_bytes).map_err(|over| memory(self.limits.refuse(over)))?;
            rows.push(tokens);
            held += time;
            if held >= TICK {
                held = Duration::ZERO;
                // Here a deadline or a caller's leaving ends the work, and other guests get their turn.
                self.assignment.invocation.mark_long();
                pause().await;
            }
        }
        pack(&rows, options.offsets, &*self.staging, (charge, handle))
    }

    /// The tokenizer of the model that the guest calls `model`, and how many tokens a row may have.
    fn tokenizer(&self, model: &str, options: Wanted) -> Outcome<(Arc<Tokenizer>, usize)> {
        let Some(TextModel { tokenizer, max_tokens }) = self.assignment.models.get(model) else {
            return Err(failure("unknown-model", format!("`function.toml` binds no model as `{model}`")));
        };
        let Some(tokenizer) = tokenizer else {
            return Err(failure("no-tokenizer", format!("the model bound as `{model}` has no tokenizer.json")));
        };
        let model_limit = max_tokens.unwrap_or(u64::MAX);
        let max = options.max_length.map_or(model_limit, |wanted| model_limit.min(wanted.into()));
        Ok((tokenizer.clone(), usize::try_from(max).unwrap_or(usize::MAX)))
    }

    fn check_sizes(&self, inputs: &[Input]) -> Outcome<()> {
        let limits = self.text_limits;
        if inputs.len() as u64 > limits.texts {
            return Err(failure("too-large", format!("{} texts; one call takes {}", inputs.len(), limits.texts)));
        }
        match inputs.iter().position(|input| text_bytes(input) > limits.bytes) {
            Some(row) => Err(failure("too-large", format!("text {row} has more than {} bytes", limits.bytes))),
            None => Ok(()),
        }
    }
}

/// Encodes one input, and tells how long it took.
fn timed(
    tokenizer: &Tokenizer,
    input: &Input,
    max: usize,
    how: Truncation,
) -> (std::result::Result<Tokens, EncodeError>, Duration) {
    let clock = Clock::start(text_bytes(input) > SHORT_BYTES);
    let (first, second) = match input {
        Input::Single(text) => (text, None),
        Input::Pair((first, second)) => (first, Some(&second[..])),
    };
    (tokenizer.encode(first, second, max, how), clock.elapsed())
}

fn text_bytes(input: &Input) -> u64 {
    match input {
        Input::Single(text) => text.len() as u64,
        Input::Pair((first, second)) => first.len() as u64 + second.len() as u64,
    }
}

fn explain(error: EncodeError, row: usize, max: usize) -> Failure {
    match error {
        EncodeError::TooLong(tokens) => {
            failure("too-long", format!("row {row} has {tokens} tokens, at most {max} fit"))
        }
        EncodeError::CannotTruncate(why) => {
            failure("unknown-option", format!("row {row} cannot be truncated so: {why}"))
        }
        EncodeError::Failed(why) => failure("too-long", format!("row {row} cannot be tokenised: {why}")),
    }
}

/// Lays rows of tokens back to back, one tensor for each kind.
fn pack(
    rows: &[Tokens],
    offsets: bool,
    staging: &dyn Staging,
    (charge, handle): (Charge, Charge),
) -> Outcome<Encoding> {
    let lengths: Vec<u64> = rows.iter().map(|row| row.encoding.len() as u64).collect();
    let flat = |of: fn(&Encoded) -> &[u32]| {
        let values = rows.iter().flat_map(|row| of(&row.encoding)).map(|value| i64::from(*value).to_le_bytes());
        ragged(Datatype::Int64, &[0], &lengths, staging, values)
    };
    let spans = rows.iter().flat_map(|row| row.encoding.get_offsets());
    // Texts are far smaller than 4 GiB.
    let bounds = spans.flat_map(|(start, end)| [(*start as u32).to_le_bytes(), (*end as u32).to_le_bytes()]);
    Ok(Encoding {
        ids: flat(Encoded::get_ids)?,
        attention_mask: flat(Encoded::get_attention_mask)?,
        type_ids: flat(Encoded::get_type_ids)?,
        offsets: offsets.then(|| ragged(Datatype::Uint32, &[0, 2], &lengths, staging, bounds)).transpose()?,
        truncated: rows.iter().map(|row| row.truncated).collect(),
        charge: Arc::new(charge),
        _handle: handle,
    })
}

fn ragged<const WIDTH: usize>(
    datatype: Datatype,
    row_shape: &[u64],
    lengths: &[u64],
    staging: &dyn Staging,
    values: impl Iterator<Item = [u8; WIDTH]>,
) -> Outcome<Shared> {
    let impossible = |error: crate::tensor::LayoutError| failure("invalid-shape", error.to_string());
    let layout = Layout::ragged(row_shape, 0, lengths).map_err(impossible)?;
    let mut buffer = staging.zeroed(layout.byte_length(datatype).map_err(impossible)? as usize);
    for (place, value) in buffer.chunks_exact_mut(WIDTH).zip(values) {
        place.copy_from_slice(&value);
    }
    Shared::new(datatype, layout, buffer.freeze()).map_err(impossible)
}

impl HostOptions for Guest {
    fn new(&mut self) -> Result<Resource<Options>> {
        let handle = self.limits.handle()?;
        Ok(self.table.push(Options { wanted: Wanted::default(), _handle: handle })?)
    }

    fn max_length(&mut self, this: Resource<Options>, tokens: u32) -> Result<()> {
        self.table.get_mut(&this)?.wanted.max_length = Some(tokens);
        Ok(())
    }

    fn truncate(&mut self, this: Resource<Options>, how: String) -> Result<Outcome<()>> {
        let truncation = match &how[..] {
            "none" => Truncation::None,
            "longest-first" => Truncation::LongestFirst,
            "only-first" => Truncation::OnlyFirst,
            "only-second" => Truncation::OnlySecond,
            _ => {
                let known = "none, longest-first, only-first, only-second";
                return Ok(Err(failure("unknown-option", format!("truncation is one of {known}"))));
            }
        };
        self.table.get_mut(&this)?.wanted.truncation = truncation;
        Ok(Ok(()))
    }

    fn offsets(&mut self, this: Resource<Options>, wanted: bool) -> Result<()> {
        self.table.get_mut(&this)?.wanted.offsets = wanted;
        Ok(())
    }

    fn drop(&mut self, this: Resource<Options>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Guest {
    /// A handle of one of an encoding's tensors.
    fn hand_out(&mut self, this: &Resource<Encoding>, which: fn(&Encoding) -> &Shared) -> Result<Resource<Tensor>> {
        let encoding = self.table.get(this)?;
        let (shared, charge) = (which(encoding).clone(), encoding.charge.clone());
        let tensor = Tensor::sealed(shared, charge, Some(self.limits.handle()?));
        Ok(self.table.push(tensor)?)
    }
}

impl HostEncoding for Guest {
    fn ids(&mut self, this: Resource<Encoding>) -> Result<Resource<Tensor>> {
        self.hand_out(&this, |encoding| &encoding.ids)
    }

    fn attention_mask(&mut self, this: Resource<Encoding>) -> Result<Resource<Tensor>> {
        self.hand_out(&this, |encoding| &encoding.attention_mask)
    }

    fn type_ids(&mut self, this: Resource<Encoding>) -> Result<Resource<Tensor>> {
        self.hand_out(&this, |encoding| &encoding.type_ids)
    }

    fn offsets(&mut self, this: Resource<Encoding>) -> Result<Option<Resource<Tensor>>> {
        let encoding = self.table.get(&this)?;
        let (offsets, charge) = (encoding.offsets.clone(), encoding.charge.clone());
        let Some(offsets) = offsets else { return Ok(None) };
        let tensor = Tensor::sealed(offsets, charge, Some(self.limits.handle()?));
        Ok(Some(self.table.push(tensor)?))
    }

    fn truncated(&mut self, this: Resource<Encoding>) -> Result<Vec<bool>> {
        Ok(self.table.get(&this)?.truncated.clone())
    }

    fn drop(&mut self, this: Resource<Encoding>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
