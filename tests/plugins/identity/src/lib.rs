//! Sends the body, rows of sixteen FP32, through a model that gives them back.
#![forbid(unsafe_code)]

use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
};

const ROW_ELEMENTS: u64 = 16;
const ROW_BYTES: u64 = ROW_ELEMENTS * 4;

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Identity;

impl Preprocessing for Identity {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let size = request.body_size();
        if size == 0 || !size.is_multiple_of(ROW_BYTES) {
            let detail = format!("{size} bytes; rows of {ROW_BYTES} bytes are wanted");
            return Err(Rejection::bad_request("body-length", detail));
        }
        let rows = size / ROW_BYTES;
        Ok(ask(rows, &request.body()).or_trap().into())
    }
}

fn ask(rows: u64, body: &[u8]) -> Result<Inference, Failure> {
    let tensor = Tensor::create("FP32", &[rows, ROW_ELEMENTS])?;
    tensor.write(0, body)?;
    Inference::new("model").input("x", &tensor)
}

impl Postprocessing for Identity {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let tensor = outputs[0].tensor("y").or_trap();
        let bytes = tensor.read(0, tensor.size()).or_trap();
        Ok(Response::bytes(200, "application/octet-stream", &bytes).or_trap().into())
    }
}

tenon_sdk::export!(Identity: preprocessing, postprocessing);
