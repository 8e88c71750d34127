//! 16 bits on the processor: weights wherever a module has them, what is refused, and how far outputs may be from 32 bits.

use super::*;

/// Two layers over what a table has for two ids.
const LAYERS: &str = r#"
[model]
precision = "bf16"
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", 2]
range = [0, 9]
[[output]]
name = "scores"
datatype = "FP32"
shape = ["rows", 3]
[instances]
count = 1
"#;

/// Numbers that need more than eight bits.
fn weights(shape: &[i64]) -> Torched {
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> = (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 77.0).collect();
    Torched::from_slice(&values).reshape(shape)
}

/// Asks for 32 bits by name after the first layer, where `exact` says so; that does not go with weights of 16.
fn layers(file: &Path, exact: bool) {
    let (table, first, second) = (weights(&[10, 64]), weights(&[64, 128]), weights(&[128, 3]));
    let example = Torched::zeros([2, 2], (Kind::Int64, tch::Device::Cpu));
    trace(file, &[example], |inputs| {
        let each = Torched::embedding(&table, &inputs[0], -1, false, false);
        let hidden = each.sum_dim_intlist(&[1_i64][..], false, None::<Kind>).matmul(&first).tanh();
        // What a trace notes of a cast that changes nothing while it is made.
        let hidden = if exact { hidden.to_kind(Kind::Double).to_kind(Kind::Float) } else { hidden };
        vec![hidden.matmul(&second)]
    });
}

async fn scores(served: &Served) -> Vec<f32> {
    let model =
        served.engine.model("m", Version::Serving).unwrap_or_else(|error| panic!("{error}: {}", reason(served)));
    let bytes: Vec<u8> = [3_i64, 7].iter().flat_map(|id| id.to_le_bytes()).collect();
    let tensor = Tensor::new(Datatype::Int64, Layout::fixed(&[1, 2]).unwrap(), bytes.into()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let invocation = Invocation::new("i".into(), ("t".into(), "f".into()), deadline, Account::host(1 << 20));
    let pending = model.infer(vec![("ids".into(), tensor)], Vec::new(), &Arc::new(invocation)).unwrap();
    floats(&pending.outputs().await.unwrap())
}

#[tokio::test]
async fn sixteen_bits_are_near_and_not_the_same_and_take_half_the_memory() {
    for exact in [false, true] {
        let whole = serve(&LAYERS.replace("bf16", "fp32"), |file| layers(file, exact));
        let half = serve(LAYERS, |file| layers(file, exact));
        let (whole_scores, half_scores) = (scores(&whole).await, scores(&half).await);
        assert_ne!(whole_scores, half_scores, "nothing was rounded");
        let largest = whole_scores.iter().fold(0.0_f32, |most, score| most.max(score.abs()));
        for (whole, half) in whole_scores.iter().zip(&half_scores) {
            assert!((whole - half).abs() / largest < 0.02, "{whole} {half}");
        }
        let weights = [&whole, &half].map(|served| served.engine.models()[0].weight_bytes);
        // Constants, and little that interpreters keep of their own.
        assert!(weights[1] * 10 <= weights[0] * 6, "{weights:?}");
        [whole, half].iter().for_each(|served| served.engine.stop());
    }
}

#[test]
fn a_model_that_is_too_far_from_32_bits_is_refused_with_both_figures() {
    let strict = LAYERS.replace("\"bf16\"", "\"bf16\"\ntolerance = 1e-6");
    let served = serve(&strict, |file| layers(file, false));
    let said = reason(&served);
    assert!(said.contains("in `bf16` its outputs differ from those in fp32 by "), "{said}");
    assert!(said.contains("model.tolerance is 1.00e-6"), "{said}");
}

#[test]
fn half_precision_is_for_gpus() {
    let served = serve(&LAYERS.replace("bf16", "fp16"), |file| layers(file, false));
    assert!(reason(&served).contains("`fp16` is for GPUs"), "{}", reason(&served));
}

#[tokio::test]
async fn tf32_is_32_bits_on_a_processor() {
    let served = serve(&LAYERS.replace("bf16", "tf32"), |file| layers(file, false));
    let whole = serve(&LAYERS.replace("bf16", "fp32"), |file| layers(file, false));
    assert_eq!(scores(&served).await, scores(&whole).await);
}
