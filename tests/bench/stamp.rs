//! The plugin of `tests/plugins/stamp` as a function of any tenant, bound to what a figure asks, and as many different
//! plugins of it as are wanted.

use std::fs;

use crate::{made, place::Place};

/// The plugin's constant, as `tests/plugins/stamp` has it.
const STAMP: i64 = 0x5eed_7e40_4a3d_c0d1;
/// Between two plugins' constants: odd ones stay odd, and the highest bits, which decide the length, stay as they are.
const STEP: i64 = 0x0000_0123_4567_89ac;

/// Parts of a `function.toml`: the models that `/ids`, `/numbers` and `/picture` ask.
pub(crate) const ENCODER: &str = r#"
[models.encoder]
model = "minilm@serving"
inputs = { input_ids = "INT64[rows, seq]", attention_mask = "INT64[rows, seq]", token_type_ids = "INT64[rows, seq]" }
outputs = { embedding = "FP32[rows, 384]" }
"#;
pub(crate) const IDENTITY: &str = r#"
[models.identity]
model = "identity@serving"
inputs = { x = "FP32[rows, 16]" }
outputs = { y = "FP32[rows, 16]" }
"#;
pub(crate) const CONV: &str = r#"
[models.conv]
model = "conv@serving"
inputs = { picture = "FP32[rows, 3, 64, 64]" }
outputs = { scores = "FP32[rows, 10]" }
"#;

/// The plugin with another number in its code. Code and digest are its own, and so are compiled code and memory image in
/// the host; number 0 is the plugin as it was built.
pub(crate) fn component(number: i64) -> Vec<u8> {
    let mut bytes = fs::read(made(".tenon/test-functions/test/stamp/stamp.wasm")).expect("it is laid out");
    let (was, is) = (constant(STAMP), constant(STAMP + number * STEP));
    assert_eq!(was.len(), is.len(), "the code must keep its length");
    let places: Vec<_> = (0..bytes.len() - was.len()).filter(|at| bytes[*at..].starts_with(&was)).collect();
    assert!(!places.is_empty(), "the plugin's code does not have its constant");
    places.into_iter().for_each(|at| bytes[at..at + is.len()].copy_from_slice(&is));
    bytes
}

/// How WebAssembly writes the operand of `i64.const`: seven bits a byte, lowest first, until the rest is only sign.
fn constant(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// Lays it out as the function `stamp` of a tenant.
pub(crate) fn deploy(place: &Place, tenant: &str, models: &str, component: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let manifest = format!("component = \"stamp.wasm\"\n{models}\n[limits]\ntimeout_ms = 60000\n");
    fs::write(folder.path().join("function.toml"), manifest).expect("a file can be written");
    fs::write(folder.path().join("stamp.wasm"), component).expect("a file can be written");
    place.function(tenant, "stamp", folder.path());
}

/// Where its callers come in.
pub(crate) fn path(tenant: &str, path: &str) -> String {
    format!("/v1/functions/{tenant}/stamp/{path}")
}
