//! Decides who may ask, and leaves the rest to the host: no `preprocessing`, no `postprocessing`.
#![forbid(unsafe_code)]

use tenon_sdk::{Rejection, Request, Validation};

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Guarded;

impl Validation for Guarded {
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        match request.header("x-word").as_deref() {
            Some("please") => Ok(()),
            _ => Err(Rejection::bad_request("no-word", "say please in x-word")),
        }
    }
}

tenon_sdk::export!(Guarded: validation);
