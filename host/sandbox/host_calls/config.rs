//! `config`: the function's own keys and values, fixed for a revision.

use crate::sandbox::{bindings::config, store::Guest};

impl config::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.assignment.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.assignment.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
