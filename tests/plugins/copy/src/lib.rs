//! Copies bytes into tensors and back, and answers with the nanoseconds that each way took, `turns` times over:
//! `write read-shared read-own create-write`. The clock is the guest's, so that nothing but the copies is between its
//! two looks.
#![forbid(unsafe_code)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tenon_sdk::{Failure, HostCall, Inference, Preprocessing, Rejection, Request, Response, Step, Tensor};

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Copy;

impl Preprocessing for Copy {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let query = request.query();
        let number = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<u32>().ok());
            found.ok_or_else(|| Rejection::bad_request("query", format!("`{name}` must be a number")))
        };
        let times = measure(number("bytes")?, number("turns")?).or_trap();
        let text: Vec<_> = times.iter().map(|time| time.as_nanos().to_string()).collect();
        Ok(Response::text(200, &text.join(" ")).or_trap().into())
    }
}

fn measure(bytes: u32, turns: u32) -> Result<[Duration; 4], Failure> {
    let source = vec![0x5a_u8; bytes as usize];
    let size = u64::from(bytes);
    let tensor = Tensor::create("UINT8", &[size])?;
    // Touched once before the clock runs, as the buffers of a memcpy are.
    tensor.write(0, &source)?;
    let write = timed(turns, || tensor.write(0, &source))?;
    let read_own = timed(turns, || tensor.read(0, size).map(|bytes| drop(black_box(bytes))))?;
    // An inference shares what it takes: from then on a tensor is read as a model's output is.
    let _shared = Inference::new("any").input("x", &tensor)?;
    let read_shared = timed(turns, || tensor.read(0, size).map(|bytes| drop(black_box(bytes))))?;
    let create = timed(turns, || Tensor::create("UINT8", &[size])?.write(0, &source))?;
    Ok([write, read_shared, read_own, create])
}

fn timed(turns: u32, mut copy: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    for _ in 0..turns {
        copy()?;
    }
    Ok(start.elapsed())
}

tenon_sdk::export!(Copy: preprocessing);
