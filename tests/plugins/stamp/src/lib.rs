//! Sends the body's bytes through a model and answers with a digest of what came out, or works by itself: what the
//! benchmarks load a host with.
//!
//! | path | |
//! |---|---|
//! | `/ids` | one row for `encoder`, an id for each byte of the body |
//! | `/numbers` | one row of sixteen FP32 for `identity` |
//! | `/picture` | one row of 3 x 64 x 64 FP32 for `conv` |
//! | `/work?turns=N` | no model: `N` turns of the digest, some nanoseconds each |
//!
//! [`STAMP`] is a constant of the code, not of the data: whoever puts another in its place has another component, whose
//! code, ids and answers are its own. That is how the benchmarks come to many different plugins from one build.
#![forbid(unsafe_code)]

use std::hint::black_box;

use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
};

/// Looked for by the benchmarks, byte for byte: odd, so that multiplying loses nothing, and long, so that nothing else in
/// the code is the same.
const STAMP: u64 = 0x5eed_7e40_4a3d_c0d1;
/// The first ids of the encoder's vocabulary mean no words.
const FIRST_ID: u64 = 1000;
const IDS: u64 = 29_000;

const NUMBERS: [u64; 2] = [1, 16];
const PICTURE: [u64; 4] = [1, 3, 64, 64];

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Stamp;

impl Preprocessing for Stamp {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        match request.path().as_str() {
            "/ids" => Ok(ids(&request.body()).or_trap().into()),
            "/numbers" => plain(request, ("identity", "x"), &NUMBERS),
            "/picture" => plain(request, ("conv", "picture"), &PICTURE),
            "/work" => work(request),
            path => Err(Rejection::new(404, "no-such-path", format!("nothing is done at `{path}`"))),
        }
    }
}

fn ids(body: &[u8]) -> Result<Inference, Failure> {
    let mut state = STAMP;
    let id = |byte: &u8| {
        state = turn(state, u64::from(*byte));
        (FIRST_ID + state % IDS) as i64
    };
    let ids: Vec<i64> = body.iter().map(id).collect();
    let length = ids.len();
    Inference::new("encoder")
        .input("input_ids", &Tensor::ragged(&[ids])?)?
        .input("attention_mask", &Tensor::ragged(&[vec![1_i64; length]])?)?
        .input("token_type_ids", &Tensor::ragged(&[vec![0_i64; length]])?)
}

/// The body as it is, if it is as long as a row of that shape.
fn plain(request: &Request, (model, input): (&str, &str), shape: &[u64]) -> Result<Step, Rejection> {
    let wanted = shape.iter().product::<u64>() * size_of::<f32>() as u64;
    if request.body_size() != wanted {
        let detail = format!("{} bytes; {wanted} are wanted", request.body_size());
        return Err(Rejection::bad_request("body-length", detail));
    }
    let ask = || {
        let tensor = Tensor::create("FP32", shape)?;
        tensor.write(0, &request.body())?;
        Inference::new(model).input(input, &tensor)
    };
    Ok(ask().or_trap().into())
}

fn work(request: &Request) -> Result<Step, Rejection> {
    let query = request.query();
    let turns = query.iter().find(|(key, _)| key == "turns").and_then(|(_, value)| value.parse::<u64>().ok());
    let turns = turns.ok_or_else(|| Rejection::bad_request("query", "`turns` must be a number"))?;
    let state = (0..turns).fold(STAMP, |state, number| turn(state, black_box(number)));
    Ok(answer(state).or_trap().into())
}

impl Postprocessing for Stamp {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let name = outputs[0].names().into_iter().next().unwrap_or_default();
        let tensor = outputs[0].tensor(&name).or_trap();
        let bytes = tensor.read(0, tensor.size()).or_trap();
        let state = bytes.iter().fold(STAMP, |state, byte| turn(state, u64::from(*byte)));
        Ok(answer(state).or_trap().into())
    }
}

fn turn(state: u64, value: u64) -> u64 {
    (state ^ value).wrapping_mul(STAMP).rotate_left(29)
}

fn answer(state: u64) -> Result<Response, Failure> {
    Response::text(200, &format!("{state:016x}"))
}

tenon_sdk::export!(Stamp: preprocessing, postprocessing);
