//! Requests of the Open Inference Protocol, in JSON with and without binary tensors and in protobuf: no bytes panic, what
//! is refused is told in words and leaves nothing charged, and what is accepted are tensors as long as their shapes say.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestCaseResult};
use tenon_host::{
    account::{Account, Kind},
    function::oip::{DecodeError, Form, InferRequest},
};

use super::{cases, changed, seeds};

const TOKENS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "null",
    "true",
    "-",
    "1.5",
    "1e308",
    "\"data\":",
    "\"inputs\":",
    "\"shape\":[2]",
    "\"datatype\":\"BOOL\"",
    "\"parameters\":{\"binary_data_size\":8}",
    "BYTES",
    "FP16",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];
/// What one request may hold here.
const MEMORY_BYTES: u64 = 1 << 20;

fn decode(form: Form, bytes: &[u8]) -> Result<bool, TestCaseError> {
    let account = Account::host(MEMORY_BYTES);
    let body = Bytes::copy_from_slice(bytes);
    let charge = Arc::new(account.charge(Kind::Request, body.len() as u64).unwrap());
    let decoded = InferRequest::decode(form, &body, &charge, &account);
    let read = match &decoded {
        Err(DecodeError::Malformed(told)) => {
            prop_assert!(!told.is_empty() && told.len() < 2000, "{told}");
            false
        }
        Err(DecodeError::Memory(_)) => false,
        Ok(request) => {
            for (name, tensor) in &request.inputs {
                prop_assert!(!name.is_empty());
                prop_assert_eq!(tensor.layout.byte_length(tensor.datatype), Ok(tensor.bytes.len() as u64));
            }
            // Whatever lies in no body is charged.
            let own: usize = request.inputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
            prop_assert!(account.held_bytes() as usize + body.len() >= own);
            true
        }
    };
    drop((decoded, charge));
    prop_assert_eq!(account.held_bytes(), 0);
    Ok(read)
}

fn json(bytes: &[u8], header: Option<u64>) -> Result<bool, TestCaseError> {
    decode(Form::Json { header_bytes: header }, bytes)
}

#[test]
fn oip_documents() {
    let accepted = seeds("oip-json").iter().filter(|seed| json(seed, None).unwrap()).count();
    assert!(accepted > 2, "a corpus that is refused tests little");
    let binary = r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[2,4],"parameters":{"binary_data_size":8}}]}"#;
    assert!(json(format!("{binary}01234567").as_bytes(), Some(binary.len() as u64)).unwrap());
    cases("oip-json", &(changed("oip-json", TOKENS), any::<Option<u8>>()), |(bytes, behind)| {
        let header = behind.map(|behind| bytes.len().saturating_sub(usize::from(behind)) as u64);
        json(&bytes, header).map(drop)
    });
}

/// A field of any number and kind, mostly those that mean something, with fields inside.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24),
        prop::sample::select(vec![
            &b"x"[..],
            b"FP32",
            b"INT64",
            b"BOOL",
            b"UINT8",
            b"\x01\x04",
            b"\x02\x02",
            b"timeout"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let field = (1_u8..9, 0_u8..6, inner, any::<u64>()).prop_map(|(number, kind, bytes, value)| {
            let tag = number << 3;
            match kind {
                0 => [&[tag][..], &[value as u8 & 0x7f]].concat(),
                1 => [&[tag | 1][..], &value.to_le_bytes()].concat(),
                2 => [&[tag | 5][..], &(value as u32).to_le_bytes()].concat(),
                _ => [&[tag | 2, bytes.len().min(127) as u8][..], &bytes[..bytes.len().min(127)]].concat(),
            }
        });
        prop::collection::vec(field, 1..6).prop_map(|fields| fields.concat())
    })
}

fn protobuf(bytes: &[u8]) -> TestCaseResult {
    decode(Form::Protobuf, bytes).map(drop)
}

#[test]
fn oip_messages() {
    let row = b"\x0a\x01m\x2a\x12\x0a\x01x\x12\x05UINT8\x1a\x02\x01\x02\x2a\x02\x22\x00";
    assert!(!decode(Form::Protobuf, row).unwrap(), "two elements are missing");
    let row = b"\x0a\x01m\x2a\x14\x0a\x01x\x12\x05UINT8\x1a\x02\x01\x02\x2a\x04\x22\x02\x07\x08";
    assert!(decode(Form::Protobuf, row).unwrap());
    cases("oip-protobuf", &fields(), |bytes| protobuf(&bytes));
}
