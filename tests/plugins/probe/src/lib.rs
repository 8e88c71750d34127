//! A plugin that misbehaves on order: what the host's tests send requests to.
//!
//! | path | |
//! |---|---|
//! | `/loop/validate`, `/loop/preprocess`, `/loop/postprocess` | never ends |
//! | `/trap`, `/panic`, `/exit`, `/memory`, `/recursion` | ends badly |
//! | `/respond?status=N&bytes=N`, `/header?name=…&value=…` | answers as told |
//! | `/reject?status=N&code=…&pointer=…&body=…` | rejects as told, in `validate` |
//! | `/nothing`, `/steps`, `/unknown-model`, `/unequal?how=…` | asks for what may not be (`how`: `shape`, `datatype`, `missing`, `unknown`, `rows`) |
//! | `/rows?n=N`, `/slow`, `/parallel`, `/chain?n=N` | asks models that give back what they got |
//! | `/ids?values=1,2;3`, `/lookup?values=1,2,3,4` | rows of ids, possibly out of range |
//! | `/sealed`, `/big-tensor?bytes=N` | answers with the failure's code |
//! | `/hoard?what=…` | makes the host keep as much as it lets itself be made to: see `hoards` |
//! | `/absurd?what=…` | host calls with absurd arguments: see `absurd` |
//! | `/program` | host calls as the body lists them: see `program` |
//! | `/unread` | asks a model for much, again and again, and reads none of it |
//! | `/leave?tensors=N`, `/let-go` | keeps tensors beyond its invocation; lets go of them, in whichever that is |
//! | `/log?lines=N&bytes=N`, `/stdout`, `/endless-line`, `/flood?how=…` | writes |
//! | `/echo`, `/config`, `/env`, `/state` | answers with what it sees |
//!
//! Owns the table of paths; refuses to know what each of them should come to: that is for
//! the tests to say.
#![forbid(unsafe_code)]

mod absurd;
mod faults;
mod hoards;
mod program;
mod query;
mod questions;
mod sights;

use std::sync::atomic::{AtomicU32, Ordering};

use tenon_sdk::{HostCall, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Validation};

/// Outside of the plugin's value, as a careless plugin might keep it: fresh memory for each
/// invocation makes this 1 all the same.
static INVOCATIONS: AtomicU32 = AtomicU32::new(0);

/// One invocation.
#[derive(Debug, Default)]
pub struct Probe {
    rounds: u64,
    program: program::Program,
}

impl Validation for Probe {
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        match request.path().as_str() {
            "/loop/validate" => faults::spin(),
            "/reject" => Err(query::rejection(request)?),
            _ => Ok(()),
        }
    }
}

impl Preprocessing for Probe {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let invocations = INVOCATIONS.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.path();
        faults::strike(&path);
        if let Some(step) = questions::ask(&path, request)? {
            return Ok(step);
        }
        if let Some(step) = sights::answer(&path, request)? {
            return Ok(step);
        }
        if let Some(step) = hoards::answer(&path, request)? {
            return Ok(step);
        }
        if let Some(step) = absurd::answer(&path, request)? {
            return Ok(step);
        }
        match path.as_str() {
            "/program" => self.program.run(request),
            "/state" => {
                let seen = serde_json::json!({ "invocations": invocations });
                Ok(Response::json(200, &seen).or_trap().into())
            }
            _ => Err(Rejection::new(404, "no-such-probe", format!("no probe answers `{path}`"))),
        }
    }
}

impl Postprocessing for Probe {
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        self.rounds += 1;
        if request.path() == "/program" {
            return Ok(self.program.compare(&outputs[0]));
        }
        questions::go_on(request, &outputs, self.rounds)
    }
}

tenon_sdk::export!(Probe: validation, preprocessing, postprocessing);
