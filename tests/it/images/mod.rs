//! `images` over a whole host: programs of calls run by the plugin `easel`, files of all kinds, and what Pillow and OpenCV
//! make of the same pictures.

mod bad;
mod calls;
mod files;
mod reference;

use serde_json::Value;

use crate::support::{Answer, Served, TestHost};

/// A host with the plugin that runs programs of image calls.
pub async fn host() -> Served {
    TestHost::new().functions(&["easel"]).start().await
}

/// A program and the bytes that it speaks of, as a body.
pub fn body(program: &Value, bytes: &[u8]) -> Vec<u8> {
    [program.to_string().as_bytes(), b"\n", bytes].concat()
}

/// Runs a program; what each call said, and what was read and encoded.
pub async fn run(host: &Served, program: Value, bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
    let answer = host.call("easel", body(&program, bytes)).await;
    assert_eq!(answer.status, 200, "{program}: {}", answer.text());
    (said(&answer), answer.body)
}

/// What each call said.
pub fn said(answer: &Answer) -> Vec<String> {
    answer.header("said").split(' ').map(str::to_owned).collect()
}
