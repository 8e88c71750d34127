//! `/program`: host calls as the request's body lists them, with what should come of each. What a tensor holds is kept
//! here too, and compared with what the host says it holds.

use serde_json::{Value, json};
use tenon_sdk::{HostCall, Inference, Outputs, Rejection, Request, Response, Step, Tensor};

/// Larger tensors are made and dropped.
const MAX_BYTES: u64 = 1 << 20;

/// A tensor and what should be in it.
#[derive(Debug)]
struct Mirrored {
    tensor: Tensor,
    bytes: Vec<u8>,
}

/// What a program has come to.
#[derive(Debug, Default)]
pub(crate) struct Program {
    tensors: Vec<Mirrored>,
    wrong: Vec<String>,
    asked: Option<usize>,
}

impl Program {
    /// Runs the body's calls up to the one that asks a model.
    pub(crate) fn run(&mut self, request: &Request) -> Result<Step, Rejection> {
        let calls = tenon_sdk::json::body(request)?;
        for call in calls.as_array().into_iter().flatten() {
            let (Some(name), arguments) = (call.as_object().and_then(|call| call.keys().next()), call) else {
                continue;
            };
            let arguments = &arguments[name];
            match name.as_str() {
                "ask" => {
                    if let Some(step) = self.ask(arguments) {
                        return Ok(step);
                    }
                }
                _ => self.call(name, arguments),
            }
        }
        Ok(self.answer())
    }

    /// What a model made of a tensor: the same, as all of the models asked here give back what they got.
    pub(crate) fn compare(&mut self, outputs: &Outputs) -> Step {
        let output = ["y", "same"].iter().find_map(|name| outputs.tensor(name).ok());
        if let (Some(asked), Some(output)) = (self.asked, output) {
            let given = output.read(0, output.size()).or_trap();
            if given != self.tensors[asked].bytes {
                self.wrong.push("a model gave other bytes than it got".to_owned());
            }
        }
        self.answer()
    }

    fn answer(&self) -> Step {
        Response::json(200, &json!({ "wrong": self.wrong, "asked": self.asked.is_some() })).or_trap().into()
    }

    fn call(&mut self, name: &str, arguments: &Value) {
        let number = |place: usize| arguments[place].as_u64().unwrap_or(0);
        let numbers =
            |place: usize| -> Vec<u64> { serde_json::from_value(arguments[place].clone()).unwrap_or_default() };
        let datatype = arguments[0].as_str().unwrap_or("");
        match name {
            "create" => self.keep(Tensor::create(datatype, &numbers(1)).ok()),
            "ragged" => {
                self.keep(Tensor::create_ragged(datatype, &numbers(1), number(2) as u32, &numbers(3)).ok());
            }
            "write" => self.write(number(0), number(1), &vec![number(3) as u8; number(2) as usize]),
            _ => self.read(number(0), number(1), number(2)),
        }
    }

    fn keep(&mut self, tensor: Option<Tensor>) {
        let Some(tensor) = tensor.filter(|tensor| tensor.size() <= MAX_BYTES) else { return };
        let size = tensor.size() as usize;
        self.tensors.push(Mirrored { tensor, bytes: vec![0; size] });
    }

    fn write(&mut self, index: u64, offset: u64, data: &[u8]) {
        let Some(Mirrored { tensor, bytes }) = self.tensors.get_mut(index as usize) else { return };
        let place = place(bytes, offset, data.len() as u64);
        if tensor.write(offset, data).is_ok() != place.is_some() {
            self.wrong.push(format!("write of {} bytes at {offset} of {}", data.len(), bytes.len()));
        }
        if let Some(place) = place {
            bytes[place].copy_from_slice(data);
        }
    }

    fn read(&mut self, index: u64, offset: u64, length: u64) {
        let Some(Mirrored { tensor, bytes }) = self.tensors.get(index as usize) else { return };
        let expected = place(bytes, offset, length).map(|place| bytes[place].to_vec());
        if tensor.read(offset, length).ok() != expected {
            self.wrong.push(format!("read of {length} bytes at {offset} of {}", bytes.len()));
        }
    }

    fn ask(&mut self, arguments: &Value) -> Option<Step> {
        let index = arguments[1].as_u64().unwrap_or(0) as usize;
        let tensor = &self.tensors.get(index)?.tensor;
        let model = arguments[0].as_str().unwrap_or("");
        let input = if model == "identity" { "x" } else { "ids" };
        let inference = Inference::new(model).input(input, tensor).or_trap();
        if tensor.write(0, &[]).is_ok() {
            self.wrong.push("a tensor that was given away could be written".to_owned());
        }
        self.asked = Some(index);
        Some(inference.into())
    }
}

/// Where `length` bytes at `offset` lie, if they do.
fn place(bytes: &[u8], offset: u64, length: u64) -> Option<std::ops::Range<usize>> {
    let end = offset.checked_add(length).filter(|end| *end <= bytes.len() as u64)?;
    Some(offset as usize..end as usize)
}
