//! A plugin that validates and answers `{"ok":true}`: what an invocation costs by itself.
#![forbid(unsafe_code)]

use tenon_sdk::{HostCall, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Validation};

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Empty;

impl Validation for Empty {
    fn validate(&mut self, _: &Request) -> Result<(), Rejection> {
        Ok(())
    }
}

impl Preprocessing for Empty {
    fn preprocess(&mut self, _: &Request) -> Result<Step, Rejection> {
        Ok(Response::bytes(200, "application/json", br#"{"ok":true}"#).or_trap().into())
    }
}

impl Postprocessing for Empty {
    fn postprocess(&mut self, _: &Request, _: Vec<Outputs>) -> Result<Step, Rejection> {
        panic!("no model was asked");
    }
}

tenon_sdk::export!(Empty: validation, preprocessing, postprocessing);
