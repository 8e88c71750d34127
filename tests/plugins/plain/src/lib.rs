//! Asks a model and has no `postprocessing`: the body's bytes are the lengths of rows of ones; below `/twice` it asks
//! twice at once.
#![forbid(unsafe_code)]

use tenon_sdk::{Failure, HostCall, Inference, Preprocessing, Rejection, Request, Step, Tensor};

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Plain;

impl Preprocessing for Plain {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let lengths: Vec<u64> = request.body().into_iter().map(u64::from).collect();
        let times = if request.path() == "/twice" { 2 } else { 1 };
        let asked: Result<Vec<_>, Failure> = (0..times).map(|_| ask(&lengths)).collect();
        Ok(Step::Infer(asked.or_trap()))
    }
}

fn ask(lengths: &[u64]) -> Result<Inference, Failure> {
    let tensor = Tensor::create_ragged("INT64", &[0], 0, lengths)?;
    let ones: Vec<u8> = (0..lengths.iter().sum()).flat_map(|_: u64| 1_i64.to_le_bytes()).collect();
    tensor.write(0, &ones)?;
    Inference::new("model").input("ids", &tensor)
}

tenon_sdk::export!(Plain: preprocessing);
