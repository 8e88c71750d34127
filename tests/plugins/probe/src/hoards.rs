//! What a guest can try to make the host keep: long names, tables of nothing, headers, refusals, handles of every kind,
//! all without end.

use serde_json::json;
use tenon_sdk::text::{Input, Options, encode};
use tenon_sdk::{CachePolicy, Failure, HostCall, Inference, Rejection, Request, Response, Step, Tensor};

use crate::query;

/// A name as no manifest has it.
const LONG_NAME_BYTES: usize = 1 << 20;
/// Rows of no length: no bytes of elements, and a table of lengths that the host keeps.
const EMPTY_ROWS: usize = 1 << 16;
/// Handles that are tried before it counts as success.
const TRIES: usize = 1_000_000;
/// Inputs of one inference.
const INPUTS: usize = 64;
/// A refusal longer than any that a person reads.
const LONG_REFUSAL_BYTES: usize = 1 << 20;
/// Headers of one answer, and their values.
const HEADERS: usize = 60;
const HEADER_BYTES: usize = 8000;

/// The answer of `/hoard?what=…`: the failure that stopped it, and after how many.
pub(crate) fn answer(path: &str, request: &Request) -> Result<Option<Step>, Rejection> {
    if path != "/hoard" {
        return Ok(None);
    }
    let (kept, failure) = match query::value(request, "what").as_deref() {
        Some("name") => until_failure(|| Ok(Inference::new(&"a".repeat(LONG_NAME_BYTES)))),
        Some("ragged") => {
            let lengths = vec![0; EMPTY_ROWS];
            until_failure(|| Tensor::create_ragged("UINT8", &[0], 0, &lengths))
        }
        Some("headers") => until_failure(response_with_headers),
        Some("tensors") => until_failure(|| Tensor::create("FP32", &[0])),
        Some("inferences") => until_failure(|| Ok(Inference::new("identity"))),
        Some("responses") => until_failure(|| Ok(Response::new(200, "text/plain"))),
        Some("options") => until_failure(|| Ok(Options::new())),
        Some("policies") => until_failure(|| Ok(CachePolicy::new())),
        Some("encodings") => until_failure(|| encode("ragged", &[Input::Single("a".into())], &Options::new())),
        Some("inputs") => {
            let tensor = Tensor::create("FP32", &[1, 16]).or_trap();
            let all = |inference: Inference, number| inference.input(&format!("{number:0100}"), &tensor);
            until_failure(|| (0..INPUTS).try_fold(Inference::new("identity"), all))
        }
        #[cfg(target_arch = "wasm32")]
        Some("streams") => until_failure(|| Ok(wasip2::cli::stdout::get_stdout())),
        #[cfg(target_arch = "wasm32")]
        Some("clocks") => until_failure(|| Ok(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX))),
        Some("refusal") => {
            let text = vec![b'.'; LONG_REFUSAL_BYTES];
            return Err(Rejection::bad_request("long", "see the body").with_body("text/plain", text));
        }
        _ => (0, None),
    };
    let code = failure.map(|failure| failure.code);
    Ok(Some(Response::json(200, &json!({ "kept": kept, "code": code })).or_trap().into()))
}

/// Handles of one tensor that a model gave.
pub(crate) fn outputs(outputs: &tenon_sdk::Outputs) -> usize {
    until_failure(|| outputs.tensor("y")).0
}

fn until_failure<T>(mut make: impl FnMut() -> Result<T, Failure>) -> (usize, Option<Failure>) {
    let mut kept = Vec::new();
    while kept.len() < TRIES {
        match make() {
            Ok(handle) => kept.push(handle),
            Err(failure) => return (kept.len(), Some(failure)),
        }
    }
    (kept.len(), None)
}

fn response_with_headers() -> Result<Response, Failure> {
    let response = Response::new(200, "text/plain");
    for header in 0..HEADERS {
        response.header(&format!("x-{header}"), &"v".repeat(HEADER_BYTES))?;
    }
    Ok(response)
}
