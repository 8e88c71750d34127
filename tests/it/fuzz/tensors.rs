//! Tensors from guests: programs of host calls with any arguments, run by the probe (`/program`) in a real guest, through
//! the engine's checks, a real model and back. The probe compares every read with what it wrote; a tensor that the model
//! takes comes back as it was, and one that it does not take is refused before it is queued.

use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{cases, seeds};
use crate::support::{Served, TestHost};

const DATATYPES: [&str; 8] = ["FP32", "INT64", "UINT8", "FP64", "BOOL", "BYTES", "", "fp32"];

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..20, 2 => 0_u64..5000, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(1 << 32)]
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(number(), 0..most)
}

/// One host call; tensors are named by the order in which they were made.
fn call() -> impl Strategy<Value = Value> {
    let datatype = || prop::sample::select(&DATATYPES[..]);
    let axis = || prop_oneof![4 => 0_u32..2, 1 => any::<u32>()];
    let index = || 0_usize..4;
    prop_oneof![
        2 => (datatype(), numbers(10)).prop_map(|(datatype, shape)| json!({ "create": [datatype, shape] })),
        2 => (datatype(), numbers(4), axis(), numbers(12)).prop_map(|(datatype, row, axis, lengths)| {
            json!({ "ragged": [datatype, row, axis, lengths] })
        }),
        // Shapes that models take, so that some of them get there.
        2 => (1_u64..4).prop_map(|rows| json!({ "create": ["FP32", [rows, 16]] })),
        2 => prop::collection::vec(1_u64..9, 1..5).prop_map(|lengths| json!({ "ragged": ["INT64", [0], 0, lengths] })),
        4 => (index(), number(), 0_u64..300, any::<u8>()).prop_map(|(tensor, offset, length, byte)| {
            json!({ "write": [tensor, offset, length, byte] })
        }),
        3 => (index(), number(), number()).prop_map(|(tensor, offset, length)| json!({ "read": [tensor, offset, length] })),
        3 => (prop::sample::select(vec!["identity", "ragged", "lookup"]), index()).prop_map(|(model, tensor)| {
            json!({ "ask": [model, tensor] })
        }),
    ]
}

/// Runs a program; tells whether a model has answered.
fn run(runtime: &Runtime, host: &Served, program: &Value) -> Result<bool, TestCaseError> {
    let answer = runtime.block_on(host.call("probe/program", program.to_string()));
    let said = answer.json();
    match (answer.status, said["code"].as_str()) {
        (200, None) => {
            prop_assert_eq!(&said["wrong"], &json!([]), "{}", said);
            Ok(said["asked"] == true)
        }
        // Refused before it was queued. `model-failed` would mean that a model met what the checks let pass.
        (502, Some("plugin-contract" | "plugin-memory")) | (413, Some("too-many-rows")) => Ok(false),
        other => Err(TestCaseError::fail(format!("{other:?}: {said}"))),
    }
}

#[test]
fn programs_of_tensor_calls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // All that the lookup's signature lets pass is in its table here: a throw would be the checks' fault.
    let table = [("range = [0, 99]", "range = [0, 49]")];
    let host = runtime.block_on(TestHost::new().probe().changed_model("lookup", &table).start());
    for seed in seeds("tensors") {
        let program = serde_json::from_slice(&seed).unwrap();
        assert!(run(&runtime, &host, &program).unwrap(), "a program of the corpus asks a model: {program}");
    }
    let (asked, all) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let property = |calls: Vec<Value>| -> TestCaseResult {
        all.set(all.get() + 1);
        asked.set(asked.get() + u32::from(run(&runtime, &host, &json!(calls))?));
        Ok(())
    };
    cases("tensors", &prop::collection::vec(call(), 1..12), property);
    assert!(asked.get() * 50 > all.get(), "only {} of {} programs got to a model", asked.get(), all.get());
    runtime.block_on(host.all_back_to_zero());
}
